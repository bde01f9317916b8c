"""The rule table and the measured choice against the best of all engines and settings, cell by cell.

A cell is a model file and a profile: chat (256 tokens in, 128 out), agent (8,192 in, 256 out), batch (eight chats at
once). Every build of llama.cpp that could be chosen here runs every file with each order of weights, and the one that
the rules take also with the settings named by `--also`; OpenVINO, where it is installed, with `--library`. Each is
measured at three points:

* near: `--read` tokens read and `--made` generated at the beginning of a context;
* deep: the same after 7,936 others, which come from a saved slot that a tiny model with a cache of the same shape made;
* joint: eight prompts of 32 tokens at once, `--joint` tokens generated for each.

A profile's time is made of these: reading costs grow in a straight line from near to deep, steps of eight are what is
left of joint without its reading. With `--whole` that line is held against a whole reading of the 7,936 tokens.
The rules decide without anything learned; the measured choice by what `bercail engine compare` has kept before.

    python -m bench.scenarios.cells MODEL.gguf ... [--rounds 2] [--also ubatch=128] [--library] [--whole] [--json FILE]
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.tried import STOP_S, WARM, Nowhere, variants, words, write_husk
from bercail.core.engine import Make
from bercail.core.model import FoundModel
from bercail.core.options import EngineOptions
from bercail.core.pace import Timing, weights_read
from bercail.core.split import weigh
from bercail.flows import glance
from bercail.flows.inspect import resolve
from bercail.flows.measure import answer
from bercail.flows.prepare import Prepared, prepare
from bercail.ports import House
from bercail.wiring import build_house
from tools.figures import publish

DEEP, CLIENTS, JOINT_READ = 7936, 8, 32
LONG = DEEP + 512
PROFILES = {"chat": "chat", "agent": "coding-agent", "batch": "batch"}
Ask = Callable[..., Awaitable[Timing]]
Slot = Callable[[str, str], Awaitable[None]]
Variant = tuple[str, bool | None, str]
"""Engine, order of weights, and a setting beside the usual ones as `name=value`."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What is asked of every variant in one round."""

    turn: int
    slots: str
    before: list[int]
    read: int
    made: int
    joint: int
    whole: bool


@dataclass(slots=True, kw_only=True)
class Points:
    """What one variant did with one model, run by run."""

    near: list[Timing] = field(default_factory=list)
    deep: list[Timing] = field(default_factory=list)
    steps_s: list[float] = field(default_factory=list)
    whole_s: float | None = None

    def seconds(self) -> dict[str, float]:
        """Of one request of each profile; of eight for batch."""
        near, made_near = _each(self.near)
        found = {"chat": 256 * near + 128 * made_near}
        if self.deep:
            deep, made_deep = _each(self.deep)
            found["agent"] = 8192 * _between(near, deep, 4096) + 256 * made_deep
        if self.steps_s:
            found["batch"] = CLIENTS * 256 * near + 128 * statistics.median(self.steps_s)
        return found

    def row(self, read_bytes: float) -> dict[str, Any]:
        """As it is published."""
        near, made_near = _each(self.near)
        deep, made_deep = _each(self.deep) if self.deep else (None, None)
        return {
            "prefill_tokens_per_s": 1 / near, "decode_tokens_per_s": 1 / made_near,
            "decode_bytes_per_s": read_bytes / made_near,
            "deep_prefill_tokens_per_s": 1 / deep if deep else None,
            "deep_decode_tokens_per_s": 1 / made_deep if made_deep else None,
            "step_of_eight_s": statistics.median(self.steps_s) if self.steps_s else None, "seconds": self.seconds(),
            "whole_reading_s": self.whole_s,
            "whole_reading_by_the_line_s": DEEP * _between(near, deep, DEEP // 2) if self.whole_s and deep else None,
        }  # fmt: skip


def _each(rows: Sequence[Timing]) -> tuple[float, float]:
    """Seconds of a token that is read and of one that is generated, in the middle."""
    return (
        statistics.median(row.prefill_s / row.prompt_tokens for row in rows),
        statistics.median(row.decode_s / row.decode_tokens for row in rows),
    )


def _between(near: float, deep: float, depth: int) -> float:
    return near + (deep - near) * depth / DEEP


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="GGUF files")
    parser.add_argument("--rounds", type=int, default=2, help="default %(default)s")
    parser.add_argument("--read", type=int, default=256, help="tokens; default %(default)s")
    parser.add_argument("--made", type=int, default=32, help="tokens; default %(default)s")
    parser.add_argument("--joint", type=int, default=24, help="tokens; default %(default)s")
    parser.add_argument("--whole", action="store_true", help="read a long prompt whole as well")
    parser.add_argument("--also", action="append", default=[], help="a setting to try, as name=value")
    parser.add_argument("--library", action="store_true", help="OpenVINO as well")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    house = build_house(None, {}, serving=True)
    machine = glance(house)
    with tempfile.TemporaryDirectory() as slots:
        found = [asyncio.run(one_model(house, str(path.resolve()), given, f"{slots}/")) for path in given.models]
    publish({
        "machine": f"{machine.cpu.model_name}, {os.cpu_count()} CPUs", "system": platform.platform(),
        "memory_bytes_per_s": machine.memory.bandwidth_bytes_per_s, "rounds": given.rounds, "models": found,
    }, given.json)  # fmt: skip
    return 0


async def one_model(house: House, path: str, given: argparse.Namespace, slots: str) -> dict[str, Any]:
    """All variants of one model, and how what is taken compares with the best in each profile."""
    found = resolve(house.reader, path, ())
    taken = {profile: await _taken(house, found, word) for profile, word in PROFILES.items()}
    wanted = _wanted(house, taken["chat"]["rule"], given)
    points: dict[Variant, Points] = {variant: Points() for variant in wanted}
    unlearned = replace(house, cache=Nowhere(house))
    before = await fill(unlearned, found, slots)
    for turn in range(given.rounds):
        visit = Visit(turn, slots, before, given.read, given.made, given.joint, whole=given.whole and not turn)
        for variant, row in points.items():
            await _run(unlearned, found, variant, row, visit)
    prepared = await prepare(house, found, lambda _: None)
    read_bytes = weights_read(prepared.model, weigh(prepared.model, 0))
    return {
        "model": found.id,
        "variants": [{"engine": e, "repack": o, "also": a, **row.row(read_bytes)} for (e, o, a), row in points.items()],
        "cells": [_scored(profile, taken[profile], points) for profile in PROFILES],
    }


async def _taken(house: House, found: FoundModel, purpose: str) -> dict[str, Variant]:
    """What the rules take for a purpose, and what is taken by what was measured."""
    chosen: dict[str, Variant] = {}
    for way, one in (("rule", replace(house, cache=Nowhere(house))), ("measured", house)):
        prepared = await prepare(_wishing(one, EngineOptions(purpose=purpose)), found, lambda _: None)
        chosen[way] = (prepared.engine.offer.id, prepared.plan.settings.repack, "")
    return chosen


def _wanted(house: House, ruled: Variant, given: argparse.Namespace) -> list[Variant]:
    wanted: list[Variant] = [(engine, order, "") for engine, order in variants(house)]
    wanted += [(ruled[0], ruled[1], also) for also in given.also]
    if given.library:
        libraries = [engine.offer for engine in house.engines if engine.offer.make is Make.LIBRARY]
        wanted += [(offer.id, None, "") for offer in libraries if offer.name == "openvino"]
    return wanted


def _wishing(house: House, wish: EngineOptions) -> House:
    return replace(house, settings=replace(house.settings, engine=wish))


async def _run(house: House, found: FoundModel, variant: Variant, points: Points, plan: Visit) -> None:
    """The three points of one variant, in two starts: one slot and a long context, eight slots and short ones."""
    engine, order, also = variant
    more: Mapping[str, int] = {name: int(value) for name, _, value in (also.partition("="),) if name}
    wish = EngineOptions(engine=engine, repack=order, slots=1, context=LONG, kv="f16", **more)  # type: ignore[arg-type]
    own = order is not None
    turn, before = plan.turn, plan.before
    async with running(_wishing(house, wish), found, plan.slots if own else "") as (ask, slot, prepared):
        await ask(words(prepared, 100 + turn, WARM), 8)
        points.near.append(await ask(words(prepared, turn, plan.read), plan.made))
        if plan.whole or not own:  # a library saves no slots: it has to read what comes before
            whole = await ask([token + own for token in before], 1)
            points.whole_s = whole.prefill_s * DEEP / whole.prompt_tokens
        if own:
            await slot("restore", found.id)
        points.deep.append(await ask(before + words(prepared, 60 + turn, plan.read), plan.made))
    house = _wishing(house, replace(wish, slots=CLIENTS, context=512))
    async with running(house, found) as (ask, _, prepared):
        await ask(words(prepared, 200 + turn, WARM), 8)
        prompts = [words(prepared, 300 + turn * CLIENTS + client, JOINT_READ) for client in range(CLIENTS)]
        started = time.perf_counter()
        await asyncio.gather(*(ask(prompt, plan.joint, number) for number, prompt in enumerate(prompts)))
        took = time.perf_counter() - started
    points.steps_s.append((took - CLIENTS * JOINT_READ * _each(points.near)[0]) / plan.joint)
    print(found.id, variant, points.row(0), file=sys.stderr, flush=True)


@asynccontextmanager
async def running(house: House, found: FoundModel, slots: str = "") -> AsyncIterator[tuple[Ask, Slot, Prepared]]:
    """A model that is loaded as planned: how it is asked, and its slot saved and restored."""
    prepared = await prepare(house, found, lambda _: None)
    process = await prepared.engine.start(replace(prepared.spec, slot_folder=slots), lambda _: None)

    async def slot(action: str, name: str) -> None:
        headers, body = [(b"content-type", b"application/json")], json.dumps({"filename": name}).encode()
        response = await house.upstream.send(process.address, "POST", f"/slots/0?action={action}", headers, body)
        said = b"".join([piece async for piece in response.chunks()])
        if response.status != 200:
            raise SystemExit(f"{action} of a slot: {said.decode()}")

    try:
        yield partial(answer, house, process), slot, prepared
    finally:
        await house.upstream.close()
        await process.stop(STOP_S)


async def fill(house: House, found: FoundModel, slots: str) -> list[int]:
    """Save a slot with what comes before the deep point, for a model whose cache has the same shape; its tokens."""
    prepared = await prepare(house, found, lambda _: None)
    path = Path(slots, "husk.gguf")
    write_husk(prepared.model, path)
    before = words(prepared, 50, DEEP)
    wish = EngineOptions(engine="embedded", slots=1, context=LONG, kv="f16")
    husk = resolve(house.reader, str(path), ())
    async with running(_wishing(house, wish), husk, slots) as (ask, slot, _):
        await ask(before, 1)
        await slot("save", found.id)
    return before


def _scored(profile: str, taken: dict[str, Variant], points: Mapping[Variant, Points]) -> dict[str, Any]:
    """One cell: the best, what is taken, and both against the engine in the box as it starts."""
    took = {variant: row.seconds()[profile] for variant, row in points.items()}
    own = {variant: seconds for variant, seconds in took.items() if variant[1] is not None}
    best, best_of_all = min(own, key=own.__getitem__), min(took, key=took.__getitem__)
    return {
        "profile": profile, "best": best, "seconds": own[best], "best_of_all": best_of_all,
        "best_of_all_seconds": took[best_of_all],
        **{f"{way}_takes": variant for way, variant in taken.items()},
        **{f"{way}_of_best": own[best] / own[variant] for way, variant in taken.items()},
        **{f"{way}_of_best_of_all": took[best_of_all] / own[variant] for way, variant in taken.items()},
        "rule_times_the_wheel": own["embedded", True, ""] / own[taken["rule"]],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
