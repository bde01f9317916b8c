"""Memory that a loaded model really holds, against its plan.

Each file is loaded by the engine with several settings, reads a prompt of two physical batches and answers with a few
tokens, so that working memory has been touched. Held is the proportional set size of the engine's process. Planned is
the sum of the plan's parts but for what is only kept free (margin, prompt cache, checkpoints), and the rearranged
copies of weights, whose originals are still mapped. What the engine's process takes beside the model is learned from
the other files only: the median of what they held beyond their plans.

    python -m bench.scenarios.resident MODEL.gguf ... [--json FILE]
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bercail.core.launch import LaunchSpec
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.engines import HttpUpstream, LlamaCpp
from bercail.flows import look
from bercail.readers import Readers
from bercail.wiring import build_house
from tools.figures import publish

ASIDE = ("engine", "margin", "prompt cache", "checkpoints")
CASES: Sequence[dict[str, Any]] = (
    {"context": 4096, "slots": 1},
    {"context": 16384, "slots": 1, "kv_type_k": "q8_0", "kv_type_v": "q8_0"},
    {"context": 4096, "slots": 2, "ubatch": 512, "batch": 512},
    {"context": 4096, "slots": 1, "repack": False},
    {"context": 4096, "slots": 1, "mmap": False},
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="GGUF files")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    rows = [asyncio.run(one(path.resolve(), case)) for path in given.models for case in CASES]
    for row in rows:
        others = [other["held"] - other["planned"] for other in rows if other["model"] != row["model"]]
        row["beside"] = statistics.median(others) if others else 0
        row["error"] = (row["planned"] + row["beside"]) / row["held"] - 1
    errors = [abs(row["error"]) for row in rows]
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "engine": version("xllamacpp"), "rows": rows,
        "median_error": statistics.median(errors), "worst_error": max(errors),
    }  # fmt: skip
    publish(found, given.json)
    return 0


async def one(path: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Bytes that the engine's process holds for `path` under the settings of `case`, and those planned."""
    folder = Path.cwd()
    model = Readers({}, folder, folder).read(str(path))
    plan = decide(look(build_house(None, {}), print), model, EngineOptions(prompt_cache=0, **case))
    assert isinstance(plan, Fits), plan.why
    spec = LaunchSpec(
        model_id=model.id, model_path=model.path, weights_bytes=model.weights_bytes, settings=plan.settings
    )
    process = await LlamaCpp().start(spec, lambda _: None)
    upstream = HttpUpstream()
    try:
        length = 2 * plan.settings.ubatch_tokens
        body = {"prompt": [1, *[300 + n % 1000 for n in range(length)]], "n_predict": 8, "ignore_eos": True}
        headers = [(b"content-type", b"application/json")]
        answer = await upstream.send(process.address, "POST", "/completion", headers, json.dumps(body).encode())
        async for _ in answer.chunks():
            pass
        assert answer.status == 200, answer.status
        held = process.resident_bytes()
        assert held, "this system does not tell how much memory a process holds"
    finally:
        await upstream.close()
        await process.stop(5)
    parts = sum(part.bytes for part in plan.devices[0].parts if part.name not in ASIDE)
    copies = plan.copied_bytes if plan.settings.mmap else 0
    row = {"model": model.id, "settings": case, "planned": parts + copies, "held": held}
    print(row, file=sys.stderr, flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
