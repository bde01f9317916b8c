"""Timed answers: what is asked for, what is kept of it, and what goes wrong in words."""

import asyncio
import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from bercail.core import news
from bercail.core.engine import Make, Offer
from bercail.core.errors import EngineError, RefusedError, StoreError
from bercail.core.launch import Landed
from bercail.core.options import EngineOptions, Settings
from bercail.core.pace import LEAST_SPREAD, Timing
from bercail.core.units import GIB
from bercail.flows import measure, plan
from bercail.flows.lessons import recall
from bercail.flows.measure import LONGEST_PROMPT
from fakes.house import ClosingUpstream, FakeEngine, Fakes, run
from fakes.models import a_gpu, a_model, a_tensor
from fakes.upstream import Scripted


def said(cached: int, prompt: int, decoded: int = 16, prompt_ms: float = 100.0, decoded_ms: float = 400.0) -> Scripted:
    timings = {
        "cache_n": cached, "prompt_n": prompt, "prompt_ms": prompt_ms,
        "predicted_n": decoded, "predicted_ms": decoded_ms,
    }  # fmt: skip
    return Scripted(pieces=[json.dumps({"content": "x", "timings": timings}).encode()])


ANSWERS = (said(0, 64), said(0, 512), said(512, 512), said(0, 512), said(512, 512))


def timed(fakes: Fakes, *answers: Scripted, told: list[news.News] | None = None) -> tuple[Timing, ...]:
    fakes.add("a")
    fakes.reader.models["/m/a.gguf"] = a_model("a", tensors=(a_tensor("blk.0.ffn_up.weight", 4096, "q8_0"),))
    fakes.upstream = ClosingUpstream(*(answers or ANSWERS))
    news_to = [] if told is None else told
    found = run(lambda: measure(fakes.house(), "a", news_to.append))
    assert not any(engine.alive for engine in (fakes.engine, *fakes.others))
    assert not fakes.journal.running
    return found


def bodies(fakes: Fakes) -> list[dict[str, Any]]:
    return [json.loads(asked.body) for asked in fakes.upstream.asked]


def test_answers_at_two_depths_are_timed_and_teach_the_next_plan() -> None:
    fakes = Fakes()
    timings = timed(fakes)
    assert [(row.depth_tokens, row.prompt_tokens) for row in timings] == [(0, 512), (512, 512)] * 2
    assert timings[0].decode_s == 0.4
    verdict = run(lambda: plan(fakes.house(), "a")).verdict
    assert [rate.calibrated for rate in verdict.rates] == [True, True]  # type: ignore[union-attr]


def test_what_a_part_of_the_cores_says_is_not_kept_for_all_of_them() -> None:
    fakes = Fakes(settings=Settings(engine=EngineOptions(cores="0-1")))
    told: list[news.News] = []
    assert timed(fakes, told=told)
    assert warnings(told) == ["timed on CPUs 0-1 alone, which plans would take for all CPUs, so nothing is kept"]
    house = Fakes(prober=fakes.prober, reader=fakes.reader, cache=fakes.cache).house()
    assert not any(rate.calibrated for rate in run(lambda: plan(house, "a")).verdict.rates)  # type: ignore[union-attr]
    whole = Fakes(settings=Settings(engine=EngineOptions(cores="0-7")))
    told.clear()
    assert timed(whole, told=told)
    assert warnings(told) == []


def test_prompts_are_as_long_as_a_few_seconds_take_and_begin_alike_only_when_they_should() -> None:
    fakes = Fakes()
    timed(fakes)
    first, near, deep, other, _ = bodies(fakes)
    assert len(first["prompt"]) == 64
    assert len(near["prompt"]) == LONGEST_PROMPT  # 64 tokens in 0.1 s are more in 4
    assert deep["prompt"][: len(near["prompt"])] == near["prompt"]
    assert len(deep["prompt"]) == 2 * LONGEST_PROMPT
    assert other["prompt"][0] != near["prompt"][0] != first["prompt"][0]
    assert near["n_predict"] == 64
    assert all(body["ignore_eos"] and body["cache_prompt"] for body in bodies(fakes))


def test_a_slow_machine_gets_short_prompts() -> None:
    fakes = Fakes()
    timed(fakes, said(0, 64, decoded=8, prompt_ms=8000, decoded_ms=4000), *ANSWERS[1:])
    assert [len(body["prompt"]) for body in bodies(fakes)] == [64, 32, 64, 32, 64]
    assert [body["n_predict"] for body in bodies(fakes)] == [8] * 5


def test_a_small_context_bounds_the_prompts() -> None:
    fakes = Fakes(settings=Settings(engine=EngineOptions(context=256)))
    timed(fakes)
    assert max(len(body["prompt"]) + body["n_predict"] for body in bodies(fakes)) < 256


@pytest.mark.parametrize(
    "answer",
    [
        Scripted(pieces=[b"no JSON"]), Scripted(pieces=[b"{}"]), Scripted(pieces=[b"[]"]), said(0, 0),
        said(0, 64, prompt_ms=0), said(0, 64, decoded=0),
        Scripted(pieces=[b'{"error": "bad"}'], status=500), Scripted(pieces=[EngineError("connection lost")]),
    ],
)  # fmt: skip
def test_an_answer_without_times_ends_the_measurement_in_words(answer: Scripted) -> None:
    fakes = Fakes()
    with pytest.raises(EngineError, match=r"did not time its answer|connection lost"):
        timed(fakes, answer)
    assert not fakes.engine.alive
    assert not [kind for kind, _ in fakes.cache.facts if kind == "load"]


BUSY = (said(0, 64), said(0, 512), said(512, 512), said(0, 512, decoded_ms=4000), said(512, 512))


def test_answers_that_differ_much_are_timed_once_more_and_outliers_left_out() -> None:
    fakes, told = Fakes(), list[news.News]()
    assert len(timed(fakes, *BUSY, *ANSWERS[1:], told=told)) == 8
    assert "the machine is busy: they are timed once more" in warnings(told)[0]
    first_words = [body["prompt"][0] for body in bodies(fakes)]
    assert len(set(first_words)) == 5  # one that does not count, and four rounds of two depths
    (kept,) = [fact for (kind, _), fact in fakes.cache.facts.items() if kind == "load"]
    assert kept["paces"][0]["spread"] == LEAST_SPREAD  # type: ignore[index]


def test_answers_that_differ_still_teach_nothing() -> None:
    fakes = Fakes()
    worse = (said(0, 64), *(said(depth, 512, decoded_ms=ms) for ms in (400, 2000) for depth in (0, 512)))
    with pytest.raises(EngineError, match=r"answers of a differ by 67%, which says nothing of its speed"):
        timed(fakes, *worse, *worse[1:])
    assert not [kind for kind, _ in fakes.cache.facts if kind == "load"]


def warnings(told: list[news.News]) -> list[str]:
    return [item.text for item in told if isinstance(item, news.Warned)]


class Ticking(ClosingUpstream):
    """An upstream whose every answer takes a second, however many are asked for at once."""

    def __init__(self, fakes: Fakes, *answers: Scripted) -> None:
        super().__init__(*answers)
        self.clock = fakes.clock

    async def send(self, *asked: Any) -> Scripted:
        self.clock.now_s += 1.0
        return await super().send(*asked)


def test_work_that_comes_at_once_is_timed_at_once_in_slots_of_its_own() -> None:
    fakes = Fakes(settings=Settings(engine=EngineOptions(purpose="batch")))
    upstream = Ticking(fakes, *ANSWERS, said(0, 32, decoded=24))
    fakes.add("a")
    fakes.reader.models["/m/a.gguf"] = a_model("a", tensors=(a_tensor("blk.0.ffn_up.weight", 4096, "q8_0"),))
    fakes.upstream = upstream
    run(lambda: measure(fakes.house(), "a", lambda _: None))
    together = bodies(fakes)[len(ANSWERS) :]
    assert [body["id_slot"] for body in together] == [*range(8)] * 2
    assert len({body["prompt"][0] for body in together}) == 16
    (kept,) = [fact for (kind, _), fact in fakes.cache.facts.items() if kind == "load"]
    assert kept["paces"][0]["joint_s"] > 0  # type: ignore[index]


def test_without_so_many_slots_nothing_is_timed_at_once() -> None:
    fakes = Fakes(settings=Settings(engine=EngineOptions(purpose="batch", slots=2)))
    timed(fakes)
    assert len(bodies(fakes)) == len(ANSWERS)
    (kept,) = [fact for (kind, _), fact in fakes.cache.facts.items() if kind == "load"]
    assert kept["paces"][0]["joint_s"] is None  # type: ignore[index]


def test_what_embeds_is_not_timed() -> None:
    fakes = Fakes(settings=Settings(engine=EngineOptions(embedding=True)))
    with pytest.raises(RefusedError, match="only what generates is timed"):
        timed(fakes)
    assert fakes.engine.starts == []


def test_a_load_beyond_its_plan_and_a_full_disk_are_told() -> None:
    fakes, told = Fakes(), list[news.News]()
    fakes.engine.landed = (Landed(place="CPU", part="KV cache", bytes=64 * GIB),)
    fakes.cache.refusal = StoreError("the disk is full")
    assert len(timed(fakes, told=told)) == 4
    warned = [item.text for item in told if isinstance(item, news.Warned)]
    assert any(text.startswith("cpu took 64.0 GiB") for text in warned)
    assert "the disk is full" in warned


def test_an_engine_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["bercail.flows.measure"], "_PATIENCE_S", 0.01)
    with pytest.raises(EngineError, match=r"no answer to a prompt of 64 tokens within 0.01 s"):
        timed(Fakes(), Scripted(before_headers=asyncio.Event()))


def on_gpu(layers: int) -> Fakes:
    """A build that sees a card, asked to put so many layers on it."""
    build = FakeEngine(Offer(name="fake", id="b1-cuda", make=Make.PORTABLE, target="cuda"))
    build.seen = replace(build.offer, gpus=(a_gpu(),))
    return Fakes(others=(build,), settings=Settings(engine=EngineOptions(gpu_layers=layers)))


@pytest.mark.parametrize(("layers", "kept"), [(4, 1), (2, 0)])
def test_a_model_that_is_half_on_a_gpu_says_nothing_of_others(layers: int, kept: int) -> None:
    fakes = on_gpu(layers)
    timed(fakes)
    (build,) = fakes.others
    assert len(recall(fakes.house(), fakes.prober.machine, build).paces) == kept


def test_what_was_timed_on_a_gpu_is_kept_for_plans_on_such_a_gpu_alone() -> None:
    fakes = on_gpu(4)
    timed(fakes)
    (build,) = fakes.others
    (pace,) = recall(fakes.house(), fakes.prober.machine, build).paces
    assert pace.place == "card"
