"""Models on several GPUs: each where it was put, and who leaves for whom is decided card by card."""

from collections.abc import Callable, Coroutine
from dataclasses import replace

from bercail.core.configuration import Configuration
from bercail.core.declared import Declared, ModelFile
from bercail.core.engine import Make, Offer
from bercail.core.launch import LaunchSpec
from bercail.core.model import Findings
from bercail.core.route import Phase
from bercail.core.units import MIB
from bercail.flows.supervise import Supervisor
from fakes.house import FakeEngine, Fakes, run, settle
from fakes.models import a_gpu, a_model, a_shape

CUDA = Offer(name="fake", id="b1-cuda", make=Make.PORTABLE, target="cuda")
CARDS = tuple(a_gpu(f"CUDA{number}", name="NVIDIA GeForce RTX 3090", available_bytes=700 * MIB) for number in range(2))


class Scene:
    """Two cards, each with room for one of the models; main memory for all."""

    def __init__(self, **gpus: tuple[str, ...]) -> None:
        self.fakes = Fakes()
        self.build = FakeEngine(CUDA)
        self.build.seen = replace(CUDA, gpus=CARDS)
        self.fakes.others = (self.build,)
        models = []
        self.fakes.add(*gpus)
        for name, asked in gpus.items():
            self.fakes.reader.models[f"/m/{name}.gguf"] = a_model(name, a_shape(2), context_length=4096)
            wishes = {"slots": 1, "prompt_cache": 0}
            models.append(Declared(id=name, line=1, source=ModelFile(path=name, gpus=asked, wishes=wishes)))
        self.fakes.configuration = Configuration(models=tuple(models))
        self.supervisor = Supervisor(self.fakes.house(), Findings(models=(), looked=()), lambda _: None)

    async def ask(self, name: str) -> None:
        (await self.supervisor.lease(name)).release()

    def loaded(self) -> list[str]:
        return [model.id for model in self.supervisor.models() if model.phase is Phase.LOADED]

    def started(self) -> list[tuple[str, tuple[str, ...]]]:
        specs: list[LaunchSpec] = self.build.starts
        return [(spec.model_id, spec.settings.devices) for spec in specs]


def play(story: Callable[[Scene], Coroutine[None, None, None]], **gpus: tuple[str, ...]) -> None:
    async def whole() -> None:
        scene = Scene(**gpus)
        await story(scene)
        await scene.supervisor.close()
        assert not scene.build.alive

    run(whole)


def test_each_model_takes_the_gpu_that_was_declared_for_it_and_only_that_one_is_cleared() -> None:
    async def story(scene: Scene) -> None:
        await scene.ask("a")
        await scene.ask("b")
        assert scene.loaded() == ["a", "b"]
        await scene.fakes.clock.advance(100)
        await scene.ask("c")
        assert scene.loaded() == ["b", "c"]
        assert scene.started() == [("a", ("CUDA0",)), ("b", ("CUDA1",)), ("c", ("CUDA0",))]

    play(story, a=("0",), b=("CUDA1",), c=("0",))


def test_of_cards_that_are_alike_each_model_takes_the_next() -> None:
    async def story(scene: Scene) -> None:
        await scene.ask("a")
        await scene.ask("b")
        assert scene.loaded() == ["a", "b"]
        assert scene.started() == [("a", ("CUDA0",)), ("b", ("CUDA1",))]
        assert scene.build.looks == 1  # what is free is looked at while nothing is loaded

    play(story, a=(), b=())


def test_a_model_beside_the_gpus_is_weighed_against_main_memory() -> None:
    async def story(scene: Scene) -> None:
        await scene.ask("a")
        await scene.ask("b")
        await settle()
        assert scene.loaded() == ["a", "b"]
        assert scene.started() == [("a", ("CUDA0",))]
        assert [spec.model_id for spec in scene.fakes.engine.starts] == ["b"]
        on_a_gpu, beside = scene.supervisor.find("a"), scene.supervisor.find("b")
        assert (beside.held_gpu_bytes, bool(beside.held_bytes)) == (0, True)
        assert on_a_gpu.held_gpu_bytes is not None
        assert on_a_gpu.held_bytes is not None
        assert 0 < on_a_gpu.held_gpu_bytes <= on_a_gpu.held_bytes

    play(story, a=("0",), b=("none",))
