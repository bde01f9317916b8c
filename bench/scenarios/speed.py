"""Prefill and decode against what the plan predicts of them from another model's answers.

Each model file is served with one slot. At each depth the context is filled first; then answers to a fresh end of the
prompt are timed by the engine. For every file the pace is fitted to the answers of one other file of the same main
type, the nearest in size, and its predictions are held against what was measured: the ratio, and whether it lies inside
the range. Random weights do: speed does not depend on what they say.

    python -m bench.scenarios.speed MODEL.gguf ... [--depths 0,4096] [--deepest 4e9:4096] [--runs N] [--json FILE]

`--deepest` bounds the depth for files over so many bytes, which take long to fill. `--answers` names a file that the
answers of each model are added to; a model whose answers are in it is not asked again, so that a run can be parted.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bercail.core.engine import EngineSettings
from bercail.core.lessons import Pace
from bercail.core.machine import Machine
from bercail.core.model import Model
from bercail.core.options import EngineOptions
from bercail.core.pace import Timing, decode_s, main_type, pace_of, prefill_s
from bercail.core.plan import decide
from bercail.core.split import weigh
from bercail.flows import look
from bercail.readers import Readers
from bercail.wiring import build_house
from tools.concierge.evaluate import serving
from tools.figures import publish
from tools.timed import ask

PROMPT, ANSWER = 256, 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A model and its answers."""

    model: Model
    settings: EngineSettings
    timings: tuple[Timing, ...]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="GGUF files")
    parser.add_argument("--depths", default="0,4096", help="tokens in the context, by commas; default %(default)s")
    parser.add_argument("--deepest", default="4e9:4096", help="BYTES:TOKENS, by commas; default %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="answers at each depth; default %(default)s")
    parser.add_argument("--answers", type=Path, help="file of answers, read and added to")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    depths = [int(part) for part in given.depths.split(",")]
    machine = look(build_house(None, {}), lambda item: print(item, file=sys.stderr))
    found = []
    for path in given.models:
        limits = [limit.split(":") for limit in given.deepest.split(",")]
        most = min((int(tokens) for size, tokens in limits if path.stat().st_size > float(size)), default=max(depths))
        wanted = [depth for depth in depths if depth <= most]
        timings = kept(given.answers, path.stem)
        if not timings:
            timings = answers(path.resolve(), wanted, given.runs)
            keep(given.answers, path.stem, timings)
        found.append(one_model(machine, path.resolve(), max(depths), timings))
    rows = [row for test in found for row in judged(test, found)]
    errors = [abs(row["ratio"] - 1) for row in rows]
    publish({
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "engine": version("xllamacpp"), "runs": given.runs,
        "rows": rows, "inside": sum(row["inside"] for row in rows), "of": len(rows),
        "median_error": statistics.median(errors) if errors else None,
        "median_half_width": statistics.median(row["half_width"] for row in rows) if rows else None,
        "answers": {test.model.id: [asdict(timing) for timing in test.timings] for test in found},
    }, given.json)  # fmt: skip
    return 0


def one_model(machine: Machine, path: Path, deepest: int, timings: tuple[Timing, ...]) -> Timed:
    """The model at `path` with its answers, and the settings it gave them under."""
    folder = Path.cwd()
    model = Readers({}, folder, folder).read(str(path))
    settings = decide(machine, model, EngineOptions(context=room(deepest), slots=1)).settings
    return Timed(model=model, settings=settings, timings=timings)


def room(deepest: int) -> int:
    """The context that is asked for."""
    return deepest + 2 * (PROMPT + ANSWER)


def answers(path: Path, depths: Sequence[int], runs: int) -> tuple[Timing, ...]:
    """Answers of the model at `path`, `runs` at each depth after one that does not count."""
    os.environ.update({"BERCAIL_ENGINE_CONTEXT": str(room(max(depths))), "BERCAIL_ENGINE_SLOTS": "1"})
    timings = []
    with serving(path) as url:
        for depth in depths:
            for turn in range(runs + 1):
                timing = ask(url, [*words(0, depth), *words(turn + 1, PROMPT)], ANSWER)
                if turn:
                    timings.append(timing)
                    print(path.stem, timing, file=sys.stderr, flush=True)
    return tuple(timings)


def kept(file: Path | None, name: str) -> tuple[Timing, ...]:
    """Answers of a model that are in `file`, if any are."""
    if file is None or not file.exists():
        return ()
    rows = (json.loads(line) for line in file.read_text().splitlines())
    return tuple(Timing(**row["timing"]) for row in rows if row["model"] == name)


def keep(file: Path | None, name: str, timings: Sequence[Timing]) -> None:
    """Add the answers of a model to `file`."""
    if file is not None:
        with file.open("a") as out:
            out.writelines(json.dumps({"model": name, "timing": asdict(timing)}) + "\n" for timing in timings)


def words(turn: int, count: int) -> list[int]:
    """Token ids of a turn's own."""
    return [300 + (turn * 7919 + index * 31) % 3000 for index in range(count)]


def judged(test: Timed, found: Sequence[Timed]) -> Iterator[dict[str, Any]]:
    """What was measured of `test` beside what the nearest other file of its type says of it."""
    size = test.model.weights_bytes
    others = [one for one in found if one is not test and main_type(one.model) == main_type(test.model)]
    if not others:
        return
    other = min(others, key=lambda one: abs(one.model.weights_bytes - size))
    pace = pace_of(other.model, other.settings, other.timings)
    for depth in sorted({timing.depth_tokens for timing in test.timings}):
        timings = [timing for timing in test.timings if timing.depth_tokens == depth]
        for kind, measured, predicted in speeds(test, pace, timings):
            ratio = measured / predicted
            yield {
                "model": test.model.id, "fitted_to": other.model.id, "what": kind, "depth": depth, "measured": measured,
                "predicted": predicted, "ratio": ratio, "half_width": pace.spread,
                "inside": abs(ratio - 1) <= pace.spread,
            }  # fmt: skip


def speeds(test: Timed, pace: Pace, timings: Sequence[Timing]) -> Iterator[tuple[str, float, float]]:
    """Prefill and decode: measured (the middle of the runs) and predicted for the middle of the tokens."""
    one = timings[0]
    prefill = statistics.median(row.prompt_tokens / row.prefill_s for row in timings)
    yield "prefill", prefill, 1 / prefill_s(test.model, pace, one.depth_tokens + one.prompt_tokens // 2)
    decode = statistics.median(row.decode_tokens / row.decode_s for row in timings)
    depth = one.depth_tokens + one.prompt_tokens + one.decode_tokens // 2
    yield "decode", decode, 1 / decode_s(test.model, pace, weigh(test.model, 0), depth)


if __name__ == "__main__":
    sys.exit(main())
