"""Two llama-swap configurations of daily use load unchanged, with the command lines that llama-swap starts."""

from pathlib import Path

from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Target, Way
from bercail.core.elsewhere import llama_swap
from bercail.core.tree import Dialect
from bercail.store.contents import read_contents

DOCKER = (
    "docker", "run", "--rm", "--name", "AI", "--device", "/dev/dri", "--group-add", "44", "--group-add", "993",
    "-v", "/data/llama.cpp/models:/models",
)  # fmt: skip
SERVER = ("--entrypoint", "/app/llama-server", "ghcr.io/mostlygeek/llama-swap:intel", "--port", "8080", "--jinja")
ONE_GPU = (
    "--parallel", "1", "--fit", "off", "--n-gpu-layers", "9999", "--cache-type-k", "q8_0", "--cache-type-v", "q4_0",
    "--no-mmap",
)  # fmt: skip
ARC = {
    "Gemma4-26b-q4": (
        *DOCKER, "-p", "5800:8080", *SERVER, "--ctx-size", "196608", "--flash-attn", "on", *ONE_GPU,
        "--model", "/models/gemma4/gemma-4-26B-A4B-it-qat-UD-Q4_K_XL.gguf",
        "--mmproj", "/models/gemma4/mmproj-BF16-qat-mtp.gguf",
        "--spec-draft-model", "/models/gemma4/mtp-gemma-4-26B-A4B-it.gguf", "--spec-type", "draft-mtp", "-ub", "1024",
    ),
    "Ornith-35b-q4": (
        *DOCKER, "-p", "5801:8080", *SERVER, "--ctx-size", "262144", "--flash-attn", "on", *ONE_GPU,
        "--model", "/models/ornith/ornith-35b-UD-Q4_K_XL.gguf", "-ub", "1024",
    ),
    "img-gen": (
        *DOCKER, "-v", "/data/comfyui:/comfyui", "-p", "5802:8080", "--entrypoint", "/sd-server",
        "ghcr.io/leejet/stable-diffusion.cpp:master-sycl", "--listen-port", "8080", "--listen-ip", "0.0.0.0",
        "--diffusion-model", "/comfyui/models/diffusion_models/ideogram4-Q8_0.gguf",
        "--llm", "/comfyui/models/text_encoders/Qwen3VL-8B-Instruct-Q8_0.gguf",
        "--vae", "/comfyui/models/vae/flux2-vae.safetensors", "--type", "q8_0", "--clip-skip", "2",
        "--diffusion-fa", "--vae-tiling", "--clip-on-cpu",
    ),
}  # fmt: skip
Q8 = ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0")
TENSOR = ("--split-mode", "tensor", "--fit", "off", "-ngl", "9999")
RTX = {
    "gemma4-31b-q4": (
        "llama-server", "--port", "5800", "--jinja", "--ctx-size", "131072", "--flash-attn", "on", "--no-warmup",
        "--parallel", "1", *Q8, "--model", "/models/gemma-4-31b-q4/gemma-4-31B-it-UD-Q4_K_XL.gguf",
        "--mmproj", "/models/gemma-4-31b-q4/mmproj-BF16.gguf",
        "--spec-draft-model", "/models/gemma-4-31b-q8/mtp-gemma-4-31B-it.gguf", "--spec-type", "draft-mtp", *TENSOR,
    ),
    "ornith-1.0-35b-q8": (
        "llama-server", "--port", "5801", "--jinja", "--ctx-size", "524288", "--flash-attn", "on",
        "--parallel", "2", *Q8, "--model", "/models/ornith/ornith-1.0-35b-Q8_0.gguf", *TENSOR,
    ),
    "qwen3.6-27B-q4": (
        "llama-server", "--port", "5802", "--jinja", "--ctx-size", "262144", "--flash-attn", "on",
        "--parallel", "2", *Q8, "--model", "/models/qwen3.6-27b-q4/Qwen3.6-27B-UD-Q4_K_XL.gguf",
        "--spec-type", "draft-mtp", *TENSOR,
    ),
    "qwen3.6-27B-q8": (
        "llama-server", "--port", "5803", "--jinja", "--ctx-size", "196608", "--flash-attn", "on", "--no-warmup",
        "--parallel", "1", *Q8, "--model", "/models/qwen3.6-27b-q8/Qwen3.6-27B-UD-Q8_K_XL.gguf",
        "--spec-type", "draft-mtp", *TENSOR,
    ),
}  # fmt: skip


def published(shared: Path, name: str) -> Configuration:
    path = shared / "fixtures" / "configs" / f"{name}.llama-swap.yaml"
    return read_contents(path.read_text(), origin=path.name, environment={}).configuration


def started(found: Configuration) -> dict[str, CommandSpec]:
    specs = {}
    for model in found.models:
        assert isinstance(model.source, CommandSpec)
        assert model.source.port is not None
        specs[model.id] = model.source.at(model.source.port)
    return specs


def test_the_machine_with_one_card_and_docker(shared: Path) -> None:
    found = published(shared, "arc-b60-docker")
    assert (found.dialect, found.notes) == (Dialect.LLAMA_SWAP, ())
    assert [model.id for model in found.models] == ["img-gen", "Gemma4-26b-q4", "Ornith-35b-q4"]
    assert found.preload == ("Ornith-35b-q4",)
    specs = started(found)
    assert {name: spec.argv for name, spec in specs.items()} == ARC
    assert {spec.stop_argv for spec in specs.values()} == {("docker", "stop", "AI")}
    assert {name: spec.check_path for name, spec in specs.items()} == {
        "img-gen": "/", "Gemma4-26b-q4": "/health", "Ornith-35b-q4": "/health"
    }  # fmt: skip
    assert {name: spec.url for name, spec in specs.items()} == {
        "img-gen": "http://localhost:5802",
        "Gemma4-26b-q4": "http://localhost:5800",
        "Ornith-35b-q4": "http://localhost:5801",
    }
    assert all((spec.environment, spec.ready_s, spec.stop_s) == ({}, 120.0, 10.0) for spec in specs.values())
    assert dict(found.routes()) == {name: Target(way=Way.MODEL, id=name) for name in ARC}
    assert found.rule is not None
    assert found.rule.eviction_for("img-gen", {"Gemma4-26b-q4"}) == {"Gemma4-26b-q4"}


def test_the_machine_with_four_cards(shared: Path) -> None:
    found = published(shared, "rtx3060x4")
    assert (found.dialect, found.notes, found.preload) == (Dialect.LLAMA_SWAP, (), ())
    assert [model.id for model in found.models] == [
        "gemma4-31b-q4", "qwen3.6-27B-q4", "qwen3.6-27B-q8", "ornith-1.0-35b-q8"
    ]  # fmt: skip
    specs = started(found)
    assert {name: spec.argv for name, spec in specs.items()} == RTX
    assert all((spec.stop_argv, spec.environment, spec.check_path) == ((), {}, "/health") for spec in specs.values())
    assert {name: spec.url for name, spec in specs.items()} == {
        name: f"http://localhost:{argv[2]}" for name, argv in RTX.items()
    }
    assert dict(found.routes()) == {name: Target(way=Way.MODEL, id=name) for name in RTX}
    assert all((model.ttl_s, model.concurrency_limit) == (None, 10) for model in found.models)


def test_what_a_plan_writes_for_llama_swap_is_read_as_it_was_meant() -> None:
    arguments = ("llama-server", "--model", '/my models/it\'s "one".gguf', "--alias", "a\\b #c", "--jinja")
    text = llama_swap("my: model", arguments)
    found = read_contents(text, origin="c.yaml", environment={}).configuration
    assert found.dialect is Dialect.LLAMA_SWAP
    assert started(found)["my: model"].argv == (*arguments, "--host", "127.0.0.1", "--port", "5800")
