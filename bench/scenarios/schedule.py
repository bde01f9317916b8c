"""Many models, little memory: the scheduler against first come, first served, in one simulated world.

Nothing here is timed: engines, requests and their clock are simulated (`bench/world.py`), so that every figure comes
out the same each time. The baseline is `bench.first_come`: one model in memory, strictly in order of arrival, all of it
granted at once to an engine that queues by itself.

1. Two clients, each asking two models in turn that cannot be in memory together, 100 requests each, one every 2 s
   whether answers come or not. Loads take 8 s, stops 2 s, answers 1 to 3 s, two at a time.
2. The same two send all their requests at once, and a third asks both models, one request each at a time, each as
   soon as the last is answered. Shares are counted until one of the clients has been served completely.
3. Five models on two devices, four clients at random times.

The wait until a swap begins counts from the arrival of a request, or from when its model last ceased to be served.

    python -m bench.scenarios.schedule [--json FILE]
"""

import argparse
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.contention import FIVE, PAIR, Comparison, alternating, compared, flooding, mixed
from tools.figures import publish


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    found = {
        "schema": "bercail.bench.schedule/1",
        "python": platform.python_version(),
        "simulated": True,
        "runs": 1,
        "max_wait_s": PAIR.policy.max_wait_s,
        "two_alternating": told(compared(PAIR, alternating)),
        "two_flooding_one_polite": told(compared(PAIR, flooding)),
        "five_models_two_devices": told(compared(FIVE, mixed)),
    }
    publish(found, given.json)
    return 0


def told(comparison: Comparison) -> dict[str, object]:
    return {**asdict(comparison), "fewer_loads": comparison.fewer_loads}


if __name__ == "__main__":
    sys.exit(main())
