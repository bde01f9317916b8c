"""Which of the engines that see GPUs comes first, and what it gains."""

from dataclasses import replace

from bercail.core.choice import choose, compared
from bercail.core.engine import EMBEDDED, Make, Offer
from bercail.core.machine import Backend, Gpu
from bercail.core.model import Model
from bercail.core.options import EngineOptions
from bercail.core.prefer import Preference, View, prefer
from bercail.core.units import GIB, MIB
from fakes.models import a_gpu, a_machine, a_model, a_shape, a_tensor

NVIDIA, AMD = "NVIDIA GeForce RTX 3090", "AMD Radeon RX 7900 XTX"


def a_view(target: str, *gpus: Gpu) -> View:
    offer = Offer(name="llama.cpp", id=f"b1-{target}", make=Make.PORTABLE, target=target, gpus=gpus)
    return View(offer=offer, machine=replace(a_machine(), gpus=gpus))


def a_card(device: str, name: str = NVIDIA, available: int = 24 * GIB) -> Gpu:
    backend = Backend(device.rstrip("0123456789").lower())
    return a_gpu(device, name=name, backend=backend, total_bytes=24 * GIB, available_bytes=available)


def layered(layers: int = 8, each: int = 256) -> Model:
    tensors = tuple(a_tensor(f"blk.{layer}.ffn_down.weight", each * MIB // 512) for layer in range(layers))
    return a_model(shape=a_shape(layers), tensors=tensors)


def told(views: tuple[View, ...], model: Model | None, **wish: object) -> tuple[list[tuple[str, str]], str]:
    found, idle = prefer(views, model, EngineOptions(**wish))  # type: ignore[arg-type]
    return [(one.choice.offer.id, one.choice.because) for one in found], idle


CUDA, VULKAN = a_view("cuda", a_card("CUDA0")), a_view("vulkan", a_card("Vulkan0"))


def test_the_makers_own_backend_comes_first_with_the_reason() -> None:
    found, idle = told((VULKAN, CUDA), layered())
    assert found == [
        ("b1-cuda", f"all 8 layers on {NVIDIA}; cuda: NVIDIA's own, with the most complete kernels"),
        ("b1-vulkan", f"all 8 layers on {NVIDIA}; vulkan: runs on what the graphics driver brings"),
    ]
    assert idle == ""
    assert told((VULKAN,), layered())[0] == [("b1-vulkan", f"all 8 layers on {NVIDIA}")]


def test_what_takes_all_of_a_model_comes_before_what_takes_a_part() -> None:
    two = a_view("vulkan", a_card("Vulkan0", NVIDIA, 2 * GIB), a_card("Vulkan1", AMD, 2 * GIB))
    one = a_view("cuda", a_card("CUDA0", NVIDIA, 2 * GIB))
    found, _ = told((one, two), layered())
    assert [name for name, _ in found] == ["b1-vulkan", "b1-cuda"]
    assert found[0][1].startswith(f"all 8 layers on {NVIDIA}, {AMD}")
    assert found[1][1].startswith("5 of 8 layers on ")
    assert [one.whole for one in prefer((one, two), layered(), EngineOptions())[0]] == [True, False]


def test_of_equals_the_one_with_most_memory_comes_first() -> None:
    strange = "Mali-G610"
    small, large = a_view("vulkan", a_card("Vulkan0", strange, GIB)), a_view("sycl", a_card("SYCL0", strange))
    assert [name for name, _ in told((small, large), None)[0]] == ["b1-sycl", "b1-vulkan"]


def test_a_card_that_cannot_take_a_layer_is_no_gain_and_that_is_told() -> None:
    full = a_view("cuda", a_card("CUDA0", NVIDIA, 300 * MIB))
    found, idle = told((full,), layered())
    assert found == []
    assert idle == f"b1-cuda sees {NVIDIA}, which cannot take a layer of it"
    assert told((CUDA,), layered(), gpu_layers=9, split="layer")[1].startswith("b1-cuda sees")


def test_slices_are_all_layers() -> None:
    pair = a_view("cuda", a_card("CUDA0", NVIDIA), a_card("CUDA1", NVIDIA))
    found, _ = prefer((pair,), layered(), EngineOptions(split="tensor"))
    assert found[0].whole
    assert found[0].choice.because == f"all 8 layers on 2 x {NVIDIA}"


def test_without_a_model_the_rule_alone_holds() -> None:
    assert told((VULKAN, CUDA, a_view("cpu")), None)[0][0] == (
        "b1-cuda", f"sees {NVIDIA}; cuda: NVIDIA's own, with the most complete kernels"
    )  # fmt: skip


PREFERRED, _ = prefer((CUDA, VULKAN), layered(), EngineOptions())
OFFERS = (EMBEDDED, CUDA.offer, VULKAN.offer)


def chosen(preferred: tuple[Preference, ...], **seconds: float) -> tuple[str, str]:
    timed = {name.replace("_", "-"): took for name, took in seconds.items()}
    choice = choose(OFFERS, a_machine(), None, timed, preferred=preferred)
    assert choice is not None
    return choice.offer.id, choice.because


def test_gpus_come_before_the_cpu_until_something_was_measured() -> None:
    assert chosen(PREFERRED)[0] == "b1-cuda"
    assert chosen(PREFERRED, embedded=0.1)[0] == "b1-cuda"
    assert chosen(PREFERRED, b1_cuda=1.0)[0] == "b1-cuda"
    assert chosen(PREFERRED, embedded=2.0, b1_cuda=3.0) == (
        "embedded", "measured: 2.0 s for a usual request, 3.0 s with another"
    )  # fmt: skip
    assert chosen(PREFERRED, b1_vulkan=2.0, b1_cuda=3.0)[0] == "b1-vulkan"


def test_what_was_measured_says_nothing_of_a_part() -> None:
    parted = (replace(PREFERRED[0], whole=False),)
    assert chosen(parted, embedded=0.1, b1_cuda=3.0)[0] == "b1-cuda"


def test_engines_that_see_gpus_are_worth_measuring() -> None:
    assert compared(OFFERS, a_machine()) == OFFERS
    blind, found = replace(CUDA.offer, gpus=()), replace(CUDA.offer, make=Make.FOUND)
    assert compared((EMBEDDED, blind, found), a_machine()) == (EMBEDDED,)
