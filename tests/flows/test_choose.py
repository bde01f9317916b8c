from dataclasses import replace

import pytest

from bercail.core.engine import Make, Offer
from bercail.core.errors import NotFoundError, RefusedError, UsageError
from bercail.core.lessons import NO_LESSONS, Pace
from bercail.core.machine import Gpu
from bercail.core.model import Format, Model, Stored
from bercail.core.options import EngineOptions, Settings
from bercail.core.units import MIB
from bercail.flows.choose import Chosen, chosen, use
from bercail.flows.lessons import keep
from bercail.flows.machine import around
from fakes.house import FakeEngine, Fakes, run
from fakes.models import a_gpu, a_machine, a_model

OTHER = Offer(name="fake", id="b1-cpu-portable-1", make=Make.PORTABLE)


def two(asked: str | None = None, purpose: str | None = None) -> tuple[Fakes, FakeEngine]:
    other = FakeEngine(OTHER)
    other.build = OTHER.id
    return Fakes(others=(other,), settings=Settings(engine=EngineOptions(engine=asked, purpose=purpose))), other


def timed(fakes: Fakes, engine: FakeEngine, *, decode: float, prefill: float) -> None:
    pace = Pace(type="f16", weights_s=decode, mix_s=0, linear_s=prefill, attention_s=0, spread=0.1, runs=4)
    keep(fakes.house(), a_machine(), engine, NO_LESSONS.with_pace(pace), print)


def look(fakes: Fakes, model: Model | None) -> Chosen:
    """What is chosen after a look around."""
    house = fakes.house()

    async def story() -> Chosen:
        return chosen(house, await around(house), model)

    return run(story)


def test_by_rule_until_something_was_measured() -> None:
    fakes, _ = two()
    assert look(fakes, a_model()).engine is fakes.engine


def test_as_asked_with_what_that_engine_has_taught() -> None:
    fakes, other = two("portable")
    timed(fakes, other, decode=1e-9, prefill=1e-12)
    found = look(fakes, a_model())
    assert found.engine is other
    assert found.lessons.pace("f16", repack=True)
    assert look(two("embedded")[0], a_model()).lessons == NO_LESSONS


@pytest.mark.parametrize(("purpose", "better"), [("chat", "embedded"), ("coding-agent", OTHER.id)])
def test_the_shape_of_the_work_decides_between_measured_ones(purpose: str, better: str) -> None:
    """One decodes twice as fast, the other reads prompts twice as fast."""
    fakes, other = two(purpose=purpose)
    timed(fakes, fakes.engine, decode=1e-7, prefill=2e-8)
    timed(fakes, other, decode=2e-7, prefill=1e-8)
    found = look(fakes, a_model())
    assert found.choice.offer.id == better
    assert found.choice.because.startswith("measured: ")


def test_what_is_to_be_used_is_kept_until_something_else_is_said() -> None:
    fakes, other = two()
    house = fakes.house()
    assert run(lambda: use(house, "portable")).offer == OTHER
    assert look(fakes, a_model()).engine is other
    fakes.settings = Settings(engine=EngineOptions(engine="embedded"))
    assert look(fakes, a_model()).engine is fakes.engine  # the settings come first
    fakes.settings = Settings()
    run(lambda: use(fakes.house(), "auto"))
    assert look(fakes, None).engine is fakes.engine
    with pytest.raises(NotFoundError):
        run(lambda: use(house, "abacus"))
    run(lambda: use(house, "portable"))
    fakes.others = ()
    assert look(fakes, a_model()).engine is fakes.engine  # it was deleted meanwhile


def test_an_engine_that_is_an_extra_is_told_how_to_install() -> None:
    fakes, _ = two("openvino")
    with pytest.raises(NotFoundError, match=r"openvino is not installed \(pip install 'bercail\[openvino\]'\)"):
        look(fakes, a_model())


ONNX = Offer(name="onnxruntime", id="onnxruntime", make=Make.LIBRARY, reads=(Format.ONNX,))


def with_onnx(asked: str | None = None) -> tuple[Fakes, FakeEngine]:
    fakes, _ = two(asked)
    other = FakeEngine(ONNX)
    fakes.others = (*fakes.others, other)
    return fakes, other


def an_export() -> Model:
    return a_model(tensors=(), format=Format.ONNX, stored=Stored(bytes=9, weights=9))


def test_a_model_of_another_format_goes_to_the_engine_that_reads_it() -> None:
    fakes, other = with_onnx()
    found = look(fakes, an_export())
    assert (found.engine, found.choice.because) == (other, "reads ONNX")
    assert look(fakes, a_model()).engine is fakes.engine
    run(lambda: use(fakes.house(), "portable"))  # holds for what that one reads
    assert look(fakes, an_export()).engine is other


def test_an_engine_that_cannot_read_the_model_is_refused_with_those_that_can() -> None:
    fakes, _ = with_onnx("embedded")
    with pytest.raises(RefusedError, match=r"fake cannot run tiny: it reads gguf, and that is onnx") as caught:
        look(fakes, an_export())
    assert caught.value.hint == "take --engine onnxruntime"
    fakes, _ = with_onnx("onnxruntime")
    with pytest.raises(RefusedError, match=r"reads onnx, and that is gguf") as caught:
        look(fakes, a_model())
    assert caught.value.hint == "take --engine embedded, b1-cpu-portable-1"


def test_where_nothing_reads_it_the_extra_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"no engine here reads onnx \(pip install 'bercail\[onnxruntime\]'\)"):
        look(two()[0], an_export())
    with pytest.raises(RefusedError) as caught:
        look(two("embedded")[0], an_export())
    assert caught.value.hint == "pip install 'bercail[onnxruntime]'"


def test_an_unknown_engine_is_an_error_that_names_those_there_are() -> None:
    fakes, _ = two("abacus")
    with pytest.raises(NotFoundError, match=r"no engine 'abacus'.*auto, embedded, b1-cpu-portable-1"):
        look(fakes, a_model())


CARD = a_gpu("CUDA0", name="NVIDIA GeForce RTX 3090")
ON_CUDA = Offer(name="fake", id="b1-cuda", make=Make.PORTABLE, target="cuda")


def with_card(asked: str | None = None, *gpus: Gpu, trouble: str = "", **wish: object) -> tuple[Fakes, FakeEngine]:
    """A house with the engine in the box and a build that sees these GPUs."""
    build = FakeEngine(ON_CUDA)
    build.build = ON_CUDA.id
    build.seen = replace(ON_CUDA, gpus=gpus, trouble=trouble)
    options = EngineOptions(engine=asked, **wish)  # type: ignore[arg-type]
    return Fakes(others=(build,), settings=Settings(engine=options)), build


def test_a_build_that_sees_a_gpu_for_the_model_is_taken_with_that_gpu() -> None:
    fakes, build = with_card(None, CARD)
    found = look(fakes, a_model())
    assert (found.engine, found.idle) == (build, "")
    assert found.choice.because == "all 4 layers on NVIDIA GeForce RTX 3090"
    assert [gpu.device for gpu in found.machine.gpus] == ["CUDA0"]
    assert [gpu.card for gpu in found.machine.gpus] == ["cuda0"]


def test_an_engine_for_the_cpu_that_is_asked_for_has_no_gpus() -> None:
    fakes, build = with_card("embedded", CARD)
    found = look(fakes, a_model())
    assert (found.engine, found.machine.gpus) == (fakes.engine, ())
    assert build.looks == 0  # nobody waits for what is not used


def test_what_kept_a_build_from_its_gpus_is_told_with_the_engine_that_runs_instead() -> None:
    fakes, _ = with_card(None, trouble="sees no GPU")
    found = look(fakes, a_model())
    assert found.engine is fakes.engine
    assert found.idle == "b1-cuda sees no GPU"
    assert found.choice.because.endswith("; b1-cuda sees no GPU")
    asked = look(with_card("cuda", trouble="sees no GPU")[0], a_model())
    assert (asked.choice.because, asked.machine.gpus) == ("as asked; b1-cuda sees no GPU", ())
    full, _ = with_card(None, replace(CARD, available_bytes=MIB))
    assert look(full, a_model()).idle == "b1-cuda sees NVIDIA GeForce RTX 3090, which cannot take a layer of it"


def test_gpus_are_chosen_among_those_that_the_engine_sees() -> None:
    fakes, build = with_card(None, CARD, replace(CARD, device="CUDA1"), gpus="1")
    assert [gpu.device for gpu in look(fakes, a_model()).machine.gpus] == ["CUDA1"]
    absent, _ = with_card(None, CARD, gpus="1")
    found = look(absent, a_model())  # the plan then says that there is none
    assert (found.engine, found.machine.gpus) == (absent.engine, ())
    with pytest.raises(UsageError, match="no GPU '1'"):
        look(with_card("cuda", CARD, gpus="1")[0], a_model())
    none, build = with_card("cuda", CARD, gpus="none")
    assert (look(none, a_model()).engine, look(none, a_model()).machine.gpus) == (build, ())


def test_a_measured_cpu_may_be_faster_than_a_measured_gpu() -> None:
    fakes, build = with_card(None, CARD)
    timed(fakes, build, decode=2e-7, prefill=2e-8)
    assert look(fakes, a_model()).engine is build
    timed(fakes, fakes.engine, decode=1e-7, prefill=1e-8)
    assert look(fakes, a_model()).engine is fakes.engine


def test_what_was_measured_on_a_gpu_says_nothing_of_a_model_that_takes_a_part_of_it() -> None:
    fakes, build = with_card(None, CARD, gpu_layers=2)
    timed(fakes, build, decode=2e-7, prefill=2e-8)
    timed(fakes, fakes.engine, decode=1e-7, prefill=1e-8)
    assert look(fakes, a_model()).choice.because.startswith("2 of 4 layers on")


def test_without_a_model_the_first_that_sees_gpus_is_told() -> None:
    fakes, _ = with_card(None, CARD)
    assert look(fakes, None).choice.because == "sees NVIDIA GeForce RTX 3090"
