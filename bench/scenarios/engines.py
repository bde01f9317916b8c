"""Engines at hand with a model each, with weights as they are and rearranged, and what the rules would take.

Every build of llama.cpp that could be chosen on this machine runs every model file with each order of weights, in
rounds: A B C D, A B C D. Each is started as it is planned, answers one short prompt that does not count, then one of
the profile's. What was learned earlier is not used, so the engine and the order that `--engine auto` takes are those of
the rule table. `--as-measured` repeats that with what `bercail engine compare` has kept on this machine.

    python -m bench.scenarios.engines MODEL.gguf ... [--profile chat] [--prompt N] [--answer N] [--rounds N]
"""

import argparse
import asyncio
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.tried import STOP_S, WARM, Nowhere, variants, words
from bercail.core.model import FoundModel
from bercail.core.options import EngineOptions
from bercail.core.pace import Timing, weights_read
from bercail.core.split import weigh
from bercail.flows import glance
from bercail.flows.inspect import resolve
from bercail.flows.measure import answer
from bercail.flows.prepare import prepare
from bercail.ports import House
from bercail.wiring import build_house
from tools.figures import publish


@dataclass(slots=True, kw_only=True)
class Cell:
    """One engine and order of weights with one model."""

    engine: str
    repack: bool
    ready_s: list[float] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    planned_bytes: int = 0
    read_bytes: float = 0.0

    @property
    def request_s(self) -> float:
        """The middle of its runs."""
        return statistics.median(row.prefill_s + row.decode_s for row in self.timings)

    def row(self) -> dict[str, Any]:
        """As it is published."""
        prefill = [row.prompt_tokens / row.prefill_s for row in self.timings]
        decode = [row.decode_tokens / row.decode_s for row in self.timings]
        return {
            "engine": self.engine, "repack": self.repack, "request_s": self.request_s,
            "prefill_tokens_per_s": statistics.median(prefill), "prefill_runs": prefill,
            "decode_tokens_per_s": statistics.median(decode), "decode_runs": decode,
            "ready_s": statistics.median(self.ready_s), "ready_runs": self.ready_s,
            "resident_bytes": max(self.resident_bytes), "planned_bytes": self.planned_bytes,
            "decode_bytes_per_s": statistics.median(decode) * self.read_bytes,
        }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="GGUF files")
    parser.add_argument("--profile", default="chat", help="purpose whose rules apply; default %(default)s")
    parser.add_argument("--prompt", type=int, default=256, help="tokens; default %(default)s")
    parser.add_argument("--answer", type=int, default=128, help="tokens; default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument(
        "--as-measured", action="store_true", help="what is taken by what was measured, instead of by rule"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    house = build_house(None, {}, serving=True)
    if not given.as_measured:
        house = replace(house, cache=Nowhere(house))
    wish = EngineOptions(purpose=given.profile, slots=1, context=max(4096, given.prompt + given.answer + 256))
    house = replace(house, settings=replace(house.settings, engine=wish))
    machine = glance(house)
    found = [asyncio.run(one_model(house, str(path.resolve()), given)) for path in given.models]
    publish({
        "machine": f"{machine.cpu.model_name}, {os.cpu_count()} CPUs", "system": platform.platform(),
        "memory_bytes_per_s": machine.memory.bandwidth_bytes_per_s, "rounds": given.rounds, "profile": given.profile,
        "prompt_tokens": given.prompt, "answer_tokens": given.answer, "by": "measured" if given.as_measured else "rule",
        "models": found,
    }, given.json)  # fmt: skip
    return 0


async def one_model(house: House, path: str, given: argparse.Namespace) -> dict[str, Any]:
    """All cells of one model, and how the one that is taken compares with the best and with the wheel."""
    found = resolve(house.reader, path, ())
    cells = {(engine, order): Cell(engine=engine, repack=order) for engine, order in variants(house)}
    for turn in range(given.rounds):
        for (engine, order), cell in cells.items():
            wish = replace(house.settings.engine, engine=engine, repack=order)
            await one_run(replace(house, settings=replace(house.settings, engine=wish)), found, given, cell, turn)
    prepared = await prepare(house, found, lambda _: None)
    taken = cells[prepared.engine.offer.id, prepared.plan.settings.repack]
    best = min(cells.values(), key=lambda cell: cell.request_s)
    wheel = min((cell for cell in cells.values() if cell.engine == "embedded"), key=lambda cell: cell.request_s)
    plain = cells["embedded", True]
    return {
        "model": found.id, "cells": [cell.row() for cell in cells.values()],
        "taken": [taken.engine, taken.repack], "best": [best.engine, best.repack],
        "taken_of_best": best.request_s / taken.request_s, "times_the_wheel": plain.request_s / taken.request_s,
        "times_the_best_of_the_wheel": wheel.request_s / taken.request_s,
    }  # fmt: skip


async def one_run(house: House, found: FoundModel, given: argparse.Namespace, cell: Cell, turn: int) -> None:
    """Start, one answer that does not count, one of the profile, stop."""
    prepared = await prepare(house, found, lambda _: None)
    started_s = house.clock.monotonic()
    process = await prepared.engine.start(prepared.spec, lambda _: None)
    ready_s = house.clock.monotonic() - started_s
    try:
        await answer(house, process, words(prepared, 100 + turn, WARM), 8)
        timing = await answer(house, process, words(prepared, turn, given.prompt), given.answer)
        resident = process.resident_bytes()
    finally:
        await house.upstream.close()
        await process.stop(STOP_S)
    cell.ready_s.append(ready_s)
    cell.resident_bytes.append(resident or 0)
    cell.timings.append(timing)
    cell.planned_bytes = prepared.plan.devices[0].total_bytes
    cell.read_bytes = weights_read(prepared.model, weigh(prepared.model, 0))
    print(found.id, cell.engine, cell.repack, asdict(timing), f"{ready_s:.2f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
