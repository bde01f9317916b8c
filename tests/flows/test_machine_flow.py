"""What is here: the machine, and the GPUs that engines see."""

from dataclasses import replace

import pytest

from bercail.core import news
from bercail.core.configuration import Configuration
from bercail.core.declared import Declared, ModelFile
from bercail.core.engine import Make, Offer
from bercail.core.machine import Backend, Machine
from bercail.core.options import EngineOptions, Settings
from bercail.core.units import GIB
from bercail.flows import around, survey
from fakes.house import FakeEngine, Fakes, run
from fakes.models import a_gpu, a_machine

NAME = "NVIDIA GeForce RTX 3090"
CUDA = Offer(name="fake", id="b1-cuda", make=Make.PORTABLE, target="cuda")
VULKAN = Offer(name="fake", id="b1-vulkan", make=Make.PORTABLE, target="vulkan")
FOUND = Offer(name="fake", id="/usr/bin/llama-server", make=Make.FOUND)


def seeing(offer: Offer, *devices: str, trouble: str = "") -> FakeEngine:
    engine = FakeEngine(offer)
    backend = Backend(offer.target) if offer.target != "cpu" else Backend.CUDA
    gpus = tuple(a_gpu(device, name=NAME, backend=backend) for device in devices)
    engine.seen = replace(offer, gpus=gpus, trouble=trouble)
    return engine


def told(fakes: Fakes) -> tuple[Machine, list[str]]:
    said: list[news.News] = []
    machine = run(lambda: survey(fakes.house(), said.append))
    return machine, [item.text for item in said if isinstance(item, news.Warned)]


def test_every_engine_is_asked_what_it_sees_and_a_card_stays_one_card() -> None:
    fakes = Fakes(others=(seeing(VULKAN, "Vulkan0"), seeing(CUDA, "CUDA0", "CUDA1")))
    here = run(lambda: around(fakes.house()))
    assert here.machine == a_machine()
    assert [[(gpu.device, gpu.card) for gpu in offer.gpus] for offer in here.offers] == [
        [], [("Vulkan0", "vulkan0")], [("CUDA0", "vulkan0"), ("CUDA1", "cuda1")]
    ]  # fmt: skip


def test_the_machine_is_told_as_the_engine_sees_it_that_comes_first() -> None:
    machine, warned = told(Fakes(others=(seeing(VULKAN, "Vulkan0"), seeing(CUDA, "CUDA0"))))
    assert [gpu.device for gpu in machine.gpus] == ["CUDA0"]
    assert machine.memory.bandwidth_bytes_per_s == 30e9
    assert warned == []
    assert told(Fakes())[0].gpus == ()


def test_what_is_wrong_with_one_is_told_and_the_others_go_on() -> None:
    machine, warned = told(Fakes(others=(seeing(CUDA, trouble="sees no GPU"), seeing(VULKAN, "Vulkan0"))))
    assert warned == ["b1-cuda sees no GPU"]
    assert [gpu.device for gpu in machine.gpus] == ["Vulkan0"]


def test_a_gpu_that_shares_the_memory_leaves_a_part_of_it() -> None:
    engine = FakeEngine(VULKAN)
    engine.seen = replace(VULKAN, gpus=(a_gpu("Vulkan0", backend=Backend.VULKAN, shared=True),))
    machine, _ = told(Fakes(others=(engine,)))
    assert (machine.gpus[0].available_bytes, machine.memory.available_bytes) == (6 * GIB, 2 * GIB)


@pytest.mark.parametrize(
    ("asked", "declared", "looks"),
    [
        (None, None, (1, 1, 0)), ("auto", None, (1, 1, 0)), ("cuda", None, (1, 0, 0)), ("embedded", None, (0, 0, 0)),
        ("embedded", "vulkan", (0, 1, 0)), ("/usr/bin/llama-server", None, (0, 0, 1)), ("cuda", "auto", (1, 1, 0)),
        ("portable", None, (1, 1, 0)),
    ],
)  # fmt: skip
def test_only_engines_that_may_run_are_asked(asked: str | None, declared: str | None, looks: tuple[int, ...]) -> None:
    engines = (seeing(CUDA, "CUDA0"), seeing(VULKAN, "Vulkan0"), seeing(FOUND, "CUDA0"))
    models = (Declared(id="m", line=1, source=ModelFile(path="m.gguf", wishes={"engine": declared})),)
    fakes = Fakes(
        others=engines,
        settings=Settings(engine=EngineOptions(engine=asked)),
        configuration=Configuration(models=models if declared else ()),
    )
    run(lambda: around(fakes.house()))
    assert tuple(engine.looks for engine in engines) == looks
