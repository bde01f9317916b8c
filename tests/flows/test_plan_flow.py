import pytest

from bercail.core.budget import Part
from bercail.core.errors import ReadError, RefusedError
from bercail.core.model import Role
from bercail.core.options import EngineOptions, Settings
from bercail.core.plan import Fits, NoFit
from bercail.flows import check, plan
from fakes.house import Fakes, run
from fakes.models import a_machine, a_model


def test_a_plan_is_made_for_this_machine_under_the_wishes_in_the_settings() -> None:
    fakes = Fakes(settings=Settings(engine=EngineOptions(context=2048, threads=3)))
    fakes.add("a")
    verdict = run(lambda: plan(fakes.house(), "a")).verdict
    assert isinstance(verdict, Fits)
    assert (verdict.engine, verdict.settings.threads, verdict.settings.slot_context_tokens) == ("fake", 3, 2048)
    assert verdict.devices[0].budget_bytes == a_machine().memory.available_bytes
    assert fakes.engine.starts == []


def test_what_does_not_fit_is_a_value() -> None:
    fakes = Fakes()
    fakes.prober.machine = a_machine(0)
    fakes.add("a")
    assert isinstance(run(lambda: plan(fakes.house(), "a")).verdict, NoFit)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ReadError, match="x: no such file"):
        run(lambda: plan(Fakes().house(), "x"))


def test_what_cannot_be_served_alone_has_no_plan() -> None:
    fakes = Fakes()
    fakes.add("a")
    fakes.reader.models["/m/a.gguf"] = a_model("a", role=Role.PROJECTOR)
    with pytest.raises(RefusedError, match="not a model that can be served alone"):
        run(lambda: plan(fakes.house(), "a"))


@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_the_engine_is_asked_about_the_planned_settings_whether_they_fit_or_not(memory_bytes: int | None) -> None:
    fakes = Fakes()
    if memory_bytes is not None:
        fakes.prober.machine = a_machine(memory_bytes)
    fakes.add("a")
    fakes.engine.says = (Part(name="compute", bytes=5),)
    verdict = run(lambda: plan(fakes.house(), "a")).verdict
    assert run(lambda: check(fakes.house(), verdict)) == fakes.engine.says
    assert fakes.engine.asked == [(verdict.model_path, verdict.settings)]
    assert fakes.engine.starts == []
