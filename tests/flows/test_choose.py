import pytest

from bercail.core.engine import Make, Offer
from bercail.core.errors import NotFoundError, RefusedError
from bercail.core.lessons import NO_LESSONS, Pace
from bercail.core.model import Format, Model, Stored
from bercail.core.options import EngineOptions, Settings
from bercail.flows.choose import chosen, use
from bercail.flows.lessons import keep
from fakes.house import FakeEngine, Fakes
from fakes.models import a_machine, a_model

OTHER = Offer(name="fake", id="b1-cpu-portable-1", make=Make.PORTABLE)


def two(asked: str | None = None, purpose: str | None = None) -> tuple[Fakes, FakeEngine]:
    other = FakeEngine(OTHER)
    other.build = OTHER.id
    return Fakes(others=(other,), settings=Settings(engine=EngineOptions(engine=asked, purpose=purpose))), other


def timed(fakes: Fakes, engine: FakeEngine, *, decode: float, prefill: float) -> None:
    pace = Pace(type="f16", weights_s=decode, mix_s=0, linear_s=prefill, attention_s=0, spread=0.1, runs=4)
    keep(fakes.house(), a_machine(), engine, NO_LESSONS.with_pace(pace), print)


def test_by_rule_until_something_was_measured() -> None:
    fakes, _ = two()
    assert chosen(fakes.house(), a_machine(), a_model()).engine is fakes.engine


def test_as_asked_with_what_that_engine_has_taught() -> None:
    fakes, other = two("portable")
    timed(fakes, other, decode=1e-9, prefill=1e-12)
    found = chosen(fakes.house(), a_machine(), a_model())
    assert found.engine is other
    assert found.lessons.pace("f16", repack=True)
    assert chosen(two("embedded")[0].house(), a_machine(), a_model()).lessons == NO_LESSONS


@pytest.mark.parametrize(("purpose", "better"), [("chat", "embedded"), ("coding-agent", OTHER.id)])
def test_the_shape_of_the_work_decides_between_measured_ones(purpose: str, better: str) -> None:
    """One decodes twice as fast, the other reads prompts twice as fast."""
    fakes, other = two(purpose=purpose)
    timed(fakes, fakes.engine, decode=1e-7, prefill=2e-8)
    timed(fakes, other, decode=2e-7, prefill=1e-8)
    found = chosen(fakes.house(), a_machine(), a_model())
    assert found.choice.offer.id == better
    assert found.choice.because.startswith("measured: ")


def test_what_is_to_be_used_is_kept_until_something_else_is_said() -> None:
    fakes, other = two()
    house = fakes.house()
    assert use(house, "portable").offer == OTHER
    assert chosen(house, a_machine(), a_model()).engine is other
    fakes.settings = Settings(engine=EngineOptions(engine="embedded"))
    assert chosen(fakes.house(), a_machine(), a_model()).engine is fakes.engine  # the settings come first
    fakes.settings = Settings()
    use(fakes.house(), "auto")
    assert chosen(fakes.house(), a_machine(), None).engine is fakes.engine
    with pytest.raises(NotFoundError):
        use(house, "abacus")
    use(house, "portable")
    fakes.others = ()
    assert chosen(fakes.house(), a_machine(), a_model()).engine is fakes.engine  # it was deleted meanwhile


def test_an_engine_that_is_an_extra_is_told_how_to_install() -> None:
    fakes, _ = two("openvino")
    with pytest.raises(NotFoundError, match=r"openvino is not installed \(pip install 'bercail\[openvino\]'\)"):
        chosen(fakes.house(), a_machine(), a_model())


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
    found = chosen(fakes.house(), a_machine(), an_export())
    assert (found.engine, found.choice.because) == (other, "reads ONNX")
    assert chosen(fakes.house(), a_machine(), a_model()).engine is fakes.engine
    use(fakes.house(), "portable")  # holds for what that one reads
    assert chosen(fakes.house(), a_machine(), an_export()).engine is other


def test_an_engine_that_cannot_read_the_model_is_refused_with_those_that_can() -> None:
    fakes, _ = with_onnx("embedded")
    with pytest.raises(RefusedError, match=r"fake cannot run tiny: it reads gguf, and that is onnx") as caught:
        chosen(fakes.house(), a_machine(), an_export())
    assert caught.value.hint == "take --engine onnxruntime"
    fakes, _ = with_onnx("onnxruntime")
    with pytest.raises(RefusedError, match=r"reads onnx, and that is gguf") as caught:
        chosen(fakes.house(), a_machine(), a_model())
    assert caught.value.hint == "take --engine embedded, b1-cpu-portable-1"


def test_where_nothing_reads_it_the_extra_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"no engine here reads onnx \(pip install 'bercail\[onnxruntime\]'\)"):
        chosen(two()[0].house(), a_machine(), an_export())
    with pytest.raises(RefusedError) as caught:
        chosen(two("embedded")[0].house(), a_machine(), an_export())
    assert caught.value.hint == "pip install 'bercail[onnxruntime]'"


def test_an_unknown_engine_is_an_error_that_names_those_there_are() -> None:
    fakes, _ = two("abacus")
    with pytest.raises(NotFoundError, match=r"no engine 'abacus'.*auto, embedded, b1-cpu-portable-1"):
        chosen(fakes.house(), a_machine(), a_model())
