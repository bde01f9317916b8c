"""The fastest engine with other settings: what is loaded, what is kept, and what plans make of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from bercail.core import news
from bercail.core.engine import EngineSettings, Make, Offer
from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.model import Format, Stored
from bercail.core.options import EngineOptions, Settings
from bercail.core.plan import Fits
from bercail.core.trial import Comparison
from bercail.core.units import GIB
from bercail.flows import compare, plan
from fakes.house import ClosingUpstream, FakeEngine, Fakes, run
from fakes.models import a_gpu, a_machine, a_model, a_tensor
from fakes.upstream import Scripted
from flows.test_measure import said

Cost = Callable[[EngineSettings], tuple[float, float]]
"""Milliseconds of a prompt's token and of a generated one under these settings."""


class Timekeeper(ClosingUpstream):
    """Answers as long as the settings of the engine that is asked make it take."""

    def __init__(self, costs: Mapping[FakeEngine, Cost]) -> None:
        super().__init__(Scripted())
        self._costs = costs
        self._seen: dict[int, list[int]] = {}

    async def send(
        self, address: Address, method: str, target: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> Scripted:
        await super().send(address, method, target, headers, body)
        asked = json.loads(body)
        pid = address.port or 0
        (engine,) = (one for one in self._costs if pid in one.alive)
        prompt, before = asked["prompt"], self._seen.get(pid, [])
        cached = len(before) if prompt[: len(before)] == before else 0
        self._seen[pid] = prompt
        reading, writing = self._costs[engine](engine.starts[-1].settings)
        fresh, count = len(prompt) - cached, asked["n_predict"]
        return said(cached, fresh, count, prompt_ms=fresh * reading, decoded_ms=count * writing)


def scene(cost: Cost, machine: dict[str, Any] | None = None, **wish: Any) -> Fakes:
    fakes = Fakes(settings=Settings(engine=EngineOptions(repack=True, **wish)))
    fakes.prober.machine = a_machine(**(machine or {}))
    fakes.add("a")
    tensors = (a_tensor("blk.0.ffn_up.weight", 4096, "q8_0"),)
    fakes.reader.models["/m/a.gguf"] = a_model("a", tensors=tensors, context_length=8192)
    fakes.upstream = Timekeeper({fakes.engine: cost})
    return fakes


def compared(fakes: Fakes, told: list[news.News] | None = None, **asked: bool) -> Comparison:
    hear = [] if told is None else told
    asked = asked or {"settings": True}
    found = run(lambda: compare(fakes.house(), "a", hear.append, **asked))
    assert not fakes.engine.alive
    assert not fakes.journal.running
    return found


def planned(fakes: Fakes, **wish: Any) -> Fits:
    other = replace(fakes, settings=Settings(engine=EngineOptions(**wish)))
    verdict = run(lambda: plan(other.house(), "a")).verdict
    assert isinstance(verdict, Fits)
    return verdict


def three_threads(settings: EngineSettings) -> tuple[float, float]:
    """Fastest with three threads for decode and a ubatch of 256."""
    return 5.0 if settings.ubatch_tokens == 256 else 8.0, 10.0 if settings.threads == 3 else 15.0


def small_cache(settings: EngineSettings) -> tuple[float, float]:
    """Faster with q8_0."""
    return 8.0, 5.0 if settings.kv_type_k == "q8_0" else 15.0


def small_steps(settings: EngineSettings) -> tuple[float, float]:
    """Fastest with the smallest ubatch."""
    return settings.ubatch_tokens / 256, 1.0


def plain_speed(cost: Cost) -> float:
    """What is predicted where no settings were searched."""
    fakes = scene(cost)
    compared(fakes, settings=False)
    return planned(fakes).rates[0].tokens_per_s


def test_what_is_clearly_faster_is_taken_by_plans_from_then_on() -> None:
    fakes = scene(three_threads)
    told: list[news.News] = []
    found = compared(fakes, told)
    assert {(row.setting, row.value) for row in found.tried if row.taken} == {("threads", 3), ("ubatch", 256)}
    assert [item.setting for item in told if isinstance(item, news.Trying)] == [
        "", "threads 4", "threads 3", "threads 8", "threads 4", "threads 3", "threads_batch 4", "threads_batch 3",
        "threads_batch 8", "ubatch 128", "ubatch 256", "ubatch 128", "ubatch 256",
    ]  # fmt: skip
    after = planned(fakes)
    assert (after.settings.threads, after.settings.threads_batch, after.settings.ubatch_tokens) == (3, 4, 256)
    reasons = {row.setting: row.because for row in after.reasons}
    assert reasons["threads"].startswith("measured: 1.")
    assert reasons["threads"].endswith(" times as fast as 4 for chat")
    assert after.rates[0].calibrated
    assert after.rates[0].tokens_per_s == pytest.approx(1.5 * plain_speed(three_threads))
    assert planned(fakes, purpose="coding-agent").settings.threads == 4
    assert planned(fakes, threads=2).settings.threads == 2


def test_each_setting_is_tried_beside_what_was_taken_before() -> None:
    fakes = scene(three_threads)
    compared(fakes)
    last = fakes.engine.starts[-1].settings
    assert (last.threads, last.ubatch_tokens) == (3, 256)
    assert len({spec.settings.context_tokens for spec in fakes.engine.starts}) == 1
    prompts = [len(json.loads(asked.body)["prompt"]) for asked in fakes.upstream.asked]
    assert len(set(prompts)) == 3  # a first answer, and the same two lengths in every load


def test_where_nothing_is_faster_the_rules_stay_and_that_is_kept_too() -> None:
    fakes = scene(three_threads)
    compared(fakes)
    fakes.upstream = Timekeeper({fakes.engine: lambda _: (8.0, 15.0)})
    found = compared(fakes)
    assert not any(row.taken for row in found.tried)
    assert planned(fakes).settings.threads == 4


def test_a_search_begins_with_the_rules_and_a_comparison_with_what_is_planned() -> None:
    fakes = scene(three_threads)
    compared(fakes)
    count = len(fakes.engine.starts)
    compared(fakes, settings=False)
    assert [spec.settings.threads for spec in fakes.engine.starts[count:]] == [3]
    compared(fakes)
    assert fakes.engine.starts[count + 1].settings.threads == 4
    assert planned(fakes).settings.threads == 3


def test_what_the_user_fixed_is_not_tried() -> None:
    fakes = scene(three_threads, threads=2, ubatch=64, batch=128)
    found = compared(fakes)
    assert {row.because for row in found.tried} == {"as asked"}
    assert len(fakes.engine.starts) == 1


def test_a_smaller_cache_is_told_and_never_taken() -> None:
    fakes = scene(small_cache)
    found = compared(fakes, lossy=True)
    (row,) = found.tried
    assert (row.setting, row.value, row.taken) == ("kv_type", "q8_0", False)
    assert row.ratio is not None
    assert row.ratio > 1.3
    assert {spec.settings.kv_type_v for spec in fakes.engine.starts} == {"f16", "q8_0"}
    assert planned(fakes).settings.kv_type_k == "f16"
    assert planned(fakes).rates[0].tokens_per_s == pytest.approx(plain_speed(small_cache))


def test_what_does_not_fit_or_fails_is_told_and_the_others_go_on() -> None:
    fakes = scene(three_threads)
    fakes.engine.outcomes = [None, None, EngineError("no such kernel")]
    found = compared(fakes)
    assert next(row.because for row in found.tried if row.value == 3) == "no such kernel"
    assert any(row.taken for row in found.tried if row.setting == "ubatch")


def test_a_larger_batch_costs_no_context() -> None:
    wish = {"prompt_cache": 0, "purpose": "coding-agent", "context": 4096, "slots": 1}
    total = planned(scene(three_threads), **wish).devices[0].total_bytes
    fakes = scene(three_threads, machine={"available": total}, **wish)
    found = compared(fakes)
    refused = [row for row in found.tried if row.setting == "ubatch" and row.ratio is None]
    assert refused
    assert all("may be used" in row.because for row in refused)


def test_cores_that_are_not_all_teach_nothing_so_nothing_is_tried() -> None:
    fakes = scene(three_threads, cores="0-1")
    told: list[news.News] = []
    assert compared(fakes, told).tried == ()
    assert [item.text for item in told if isinstance(item, news.Warned)] == [
        "timed on CPUs 0-1 alone, which plans would take for all CPUs, so nothing is kept",
        "timed on CPUs 0-1 alone, which plans would take for all CPUs, so no settings are tried",
    ]


def test_a_library_is_told_its_threads_alone() -> None:
    library = FakeEngine(Offer(name="onnxruntime", id="onnxruntime", make=Make.LIBRARY, reads=(Format.ONNX,)))
    fakes = scene(three_threads)
    fakes.settings = Settings()
    fakes.others = (library,)
    export = a_model("a", tensors=(), format=Format.ONNX, stored=Stored(bytes=9_000, weights=9_000))
    fakes.reader.models["/m/a.gguf"] = export
    fakes.upstream = Timekeeper({library: three_threads})
    found = compared(fakes)
    assert {spec.settings.threads for spec in library.starts} == {3, 4, 8}
    assert [row.because for row in found.tried if row.setting == "ubatch"] == ["this engine cannot be told it"]
    assert planned(fakes).settings.threads_batch == 3


def an_openvino() -> FakeEngine:
    engine = FakeEngine(Offer(name="openvino", id="openvino", make=Make.LIBRARY))
    engine.name = "openvino"
    return engine


def test_an_engine_that_is_never_taken_by_itself_is_not_tuned_in_its_place() -> None:
    library = an_openvino()
    fakes = scene(three_threads)
    fakes.settings = Settings()
    fakes.others = (library,)
    fakes.upstream = Timekeeper({fakes.engine: three_threads, library: lambda _: (1.0, 1.0)})
    found = compared(fakes)
    assert found.trials[0].offer == library.offer
    assert found.searched == fakes.engine.offer
    assert len(library.starts) == 1
    assert planned(fakes).settings.threads == 3


def test_where_the_engine_that_is_taken_fails_the_fastest_is_tuned() -> None:
    library = an_openvino()
    fakes = scene(three_threads)
    fakes.settings = Settings()
    fakes.others = (library,)
    fakes.engine.outcomes = [EngineError("no such kernel")] * 2
    fakes.upstream = Timekeeper({library: three_threads})
    assert compared(fakes).searched == library.offer


def on_a_card(available: int) -> tuple[Fakes, FakeEngine]:
    """A machine whose one build sees a card with so many bytes free."""
    seen = Offer(name="fake", id="b1-cuda", make=Make.PORTABLE, target="cuda", gpus=(a_gpu(available_bytes=available),))
    build = FakeEngine(seen)
    fakes = scene(small_steps)
    fakes.settings = Settings(engine=EngineOptions(**ON_CARD))
    fakes.others = (build,)
    fakes.engine.outcomes = [EngineError("not this one")] * 2
    fakes.upstream = Timekeeper({build: small_steps})
    return fakes, build


ON_CARD: dict[str, Any] = {"engine": "b1-cuda", "purpose": "coding-agent", "context": 4096, "slots": 1}


def test_on_gpus_batches_are_tried_alone_and_less_of_a_model_there_is_no_fair_trial() -> None:
    whole, build = on_a_card(8 * GIB)
    rows = compared(whole).tried
    assert {row.setting: row.because for row in rows}["threads"] == "all layers are on GPUs"
    assert [row.value for row in rows if row.setting == "ubatch"] == [128, 256, 1024]
    assert planned(whole, **ON_CARD).settings.ubatch_tokens == 128
    assert build.starts[0].settings.ubatch_tokens == 512
    plain, _ = on_a_card(8 * GIB)
    (card,) = [device for device in planned(plain, **ON_CARD).devices if device.name != "cpu"]
    tight, _ = on_a_card(card.total_bytes)
    refused = next(row for row in compared(tight).tried if row.value == 1024)
    assert refused.because == "less of the model would lie on GPUs"
