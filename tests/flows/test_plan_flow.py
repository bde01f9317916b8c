from collections.abc import Callable
from dataclasses import replace

import pytest

from bercail.core import news
from bercail.core.budget import Part
from bercail.core.engine import Make, Offer
from bercail.core.errors import NotFoundError, ReadError, RefusedError, StoreError
from bercail.core.model import Format, Role, Stored
from bercail.core.options import EngineOptions, Settings
from bercail.core.plan import Fits, NoFit
from bercail.core.units import MIB
from bercail.flows import Planned, check, plan
from fakes.configuration import configuration
from fakes.house import FakeEngine, Fakes, run
from fakes.models import a_gpu, a_machine, a_model, a_tensor


def test_a_plan_is_made_for_this_machine_under_the_wishes_in_the_settings() -> None:
    fakes = Fakes(settings=Settings(engine=EngineOptions(context=2048, threads=3)))
    fakes.add("a")
    verdict = run(lambda: plan(fakes.house(), "a")).verdict
    assert isinstance(verdict, Fits)
    assert (verdict.engine, verdict.settings.threads, verdict.settings.slot_context_tokens) == ("fake", 3, 2048)
    assert verdict.devices[0].budget_bytes == a_machine().memory.available_bytes
    assert fakes.engine.starts == []


def test_a_plan_can_be_made_for_another_machine() -> None:
    fakes = Fakes()
    fakes.add("a")
    small = a_machine(64 * MIB)
    planned = run(lambda: plan(fakes.house(), "a", small))
    assert isinstance(planned.verdict, NoFit)
    assert planned.verdict.devices[0].budget_bytes == 64 * MIB


def declaring(fakes: Fakes) -> None:
    """Two models beside each other, and a command."""
    fakes.add("a")
    fakes.configuration = configuration("""
        server: {}
        models:
          fast: {model: a, cores: auto, context: 2048, aliases: [nickname]}
          other: {model: a, cores: auto}
          plain: {model: a}
          run: {cmd: "serve --port ${PORT}"}
    """)


@pytest.mark.parametrize("name", ["fast", "nickname"])
def test_a_declared_model_is_planned_with_its_wishes_and_its_share_of_the_cores(name: str) -> None:
    fakes = Fakes()
    declaring(fakes)
    planned = run(lambda: plan(fakes.house(), name))
    assert planned.model.id == "fast"
    assert isinstance(planned.verdict, Fits)
    settings = planned.verdict.settings
    assert (settings.slot_context_tokens, settings.cores) == (2048, (0, 1, 2, 3))
    elsewhere = run(lambda: plan(fakes.house(), "other", a_machine(logical_cpus=(0, 1)))).verdict
    assert elsewhere.settings.cores == (1,)
    assert run(lambda: plan(fakes.house(), "plain")).verdict.settings.cores == ()


def test_what_a_command_takes_is_not_planned() -> None:
    fakes = Fakes()
    declaring(fakes)
    with pytest.raises(RefusedError, match="run is declared by a command or an address"):
        run(lambda: plan(fakes.house(), "run"))


def test_what_does_not_fit_is_a_value() -> None:
    fakes = Fakes()
    fakes.prober.machine = a_machine(0)
    fakes.add("a")
    assert isinstance(run(lambda: plan(fakes.house(), "a")).verdict, NoFit)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="no model 'x', and no file of that name"):
        run(lambda: plan(Fakes().house(), "x"))
    with pytest.raises(ReadError, match=r"x\.gguf: no such file"):
        run(lambda: plan(Fakes().house(), "x.gguf"))


def test_what_cannot_be_served_alone_has_no_plan() -> None:
    fakes = Fakes()
    fakes.add("a")
    fakes.reader.models["/m/a.gguf"] = a_model("a", role=Role.PROJECTOR)
    with pytest.raises(RefusedError, match="not a model that can be served alone"):
        run(lambda: plan(fakes.house(), "a"))


def test_the_draft_model_that_the_settings_name_is_planned_for_and_asked_about() -> None:
    fakes = Fakes(settings=Settings(engine=EngineOptions(draft="small")))
    fakes.add("large", "small")
    fakes.reader.models["/m/small.gguf"] = a_model("small", tensors=(a_tensor(rows=16),))
    fakes.engine.says = (Part(name="compute", bytes=5),)
    planned = run(lambda: plan(fakes.house(), "large"))
    assert isinstance(planned.verdict, Fits)
    assert planned.verdict.draft == "/m/small.gguf"
    run(lambda: check(fakes.house(), planned, print))
    other = replace(planned, model=replace(planned.model, draft=a_model("small", tensors=(a_tensor(rows=8),))))
    run(lambda: check(fakes.house(), other, print))
    assert fakes.engine.drafts == ["/m/small.gguf"] * 2  # another header, so it is asked again


@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_the_engine_is_asked_about_the_planned_settings_whether_they_fit_or_not(memory_bytes: int | None) -> None:
    fakes = Fakes()
    if memory_bytes is not None:
        fakes.prober.machine = a_machine(memory_bytes)
    fakes.add("a")
    fakes.engine.says = (Part(name="compute", bytes=5),)
    planned = run(lambda: plan(fakes.house(), "a"))
    verdict = planned.verdict
    for _ in range(2):  # the second time what it said is at hand
        assert run(lambda: check(fakes.house(), planned, print)) == fakes.engine.says
    assert fakes.engine.asked == [(verdict.model_path, verdict.settings)]
    assert fakes.engine.starts == []


def asked_after(change: Callable[[Fakes, Planned], Planned]) -> int:
    """How often the engine is asked if something changes between two checks."""
    fakes = Fakes()
    fakes.add("a")
    fakes.engine.says = (Part(name="compute", bytes=5),)
    planned = run(lambda: plan(fakes.house(), "a"))
    run(lambda: check(fakes.house(), planned, print))
    changed = change(fakes, planned)
    assert run(lambda: check(fakes.house(), changed, print)) == fakes.engine.says
    return len(fakes.engine.asked)


def test_an_account_is_kept_for_one_header_one_build_and_one_set_of_settings() -> None:
    def moved(_: Fakes, planned: Planned) -> Planned:
        return replace(planned, model=replace(planned.model, id="b", path="/elsewhere/b.gguf"))

    def other_model(_: Fakes, planned: Planned) -> Planned:
        return replace(planned, model=a_model("a", architecture="qwen3"))

    def other_settings(_: Fakes, planned: Planned) -> Planned:
        settings = replace(planned.verdict.settings, ubatch_tokens=32)
        return replace(planned, verdict=replace(planned.verdict, settings=settings))

    def other_build(fakes: Fakes, planned: Planned) -> Planned:
        fakes.engine.build = "b2"
        return planned

    assert [asked_after(change) for change in (moved, other_model, other_settings, other_build)] == [1, 2, 2, 2]


@pytest.mark.parametrize("parts", [None, "x", [], [["compute"]], [["compute", "5"]], [[1, 5]]])
def test_an_account_that_was_damaged_is_asked_for_again(parts: object) -> None:
    def damage(fakes: Fakes, planned: Planned) -> Planned:
        for kept in fakes.cache.facts.values():
            kept["parts"] = parts
        return planned

    assert asked_after(damage) == 2


def test_an_account_that_cannot_be_kept_is_told() -> None:
    fakes = Fakes()
    fakes.add("a")
    fakes.cache.refusal = StoreError("the disk is full")
    told: list[news.News] = []
    planned = run(lambda: plan(fakes.house(), "a"))
    run(lambda: check(fakes.house(), planned, told.append))
    assert told == [news.Warned(text="the disk is full")]


def test_an_engine_that_reads_other_formats_is_not_asked_beforehand() -> None:
    fakes = Fakes()
    fakes.add("a")
    planned = run(lambda: plan(fakes.house(), "a"))
    other = replace(planned, model=replace(planned.model, format=Format.ONNX))
    with pytest.raises(RefusedError, match="fake says nothing of a before it is loaded"):
        run(lambda: check(fakes.house(), other, print))


def test_another_machine_is_planned_for_with_gguf_alone() -> None:
    fakes = Fakes()
    fakes.add("a")
    fakes.reader.models["/m/a.gguf"] = a_model("a", format=Format.ONNX, tensors=(), stored=Stored(bytes=9, weights=9))
    with pytest.raises(RefusedError, match="a is onnx; other machines are planned for with GGUF models only"):
        run(lambda: plan(fakes.house(), "a", a_machine()))


def test_the_engine_in_the_box_is_not_asked_about_gpus() -> None:
    build = FakeEngine(Offer(name="fake", id="b1-cuda", make=Make.PORTABLE, target="cuda"))
    build.seen = replace(build.offer, gpus=(a_gpu(),))
    fakes = Fakes(others=(build,))
    fakes.add("a")
    planned = run(lambda: plan(fakes.house(), "a"))
    with pytest.raises(RefusedError, match="knows nothing of GPUs"):
        run(lambda: check(fakes.house(), planned, print))
