"""A plan said in the words of other programs."""

import shlex

import pytest
import yaml

from bercail.core.elsewhere import llama_server, llama_swap
from bercail.core.model import Pooling
from bercail.core.units import MIB
from fakes.models import some_settings

PLAIN = some_settings(context_tokens=16384, slots=4, ubatch_tokens=128, batch_tokens=128, kv_type_v="q8_0")


def test_every_setting_is_said_to_llama_server() -> None:
    said = shlex.join(llama_server("/m/a b.gguf", None, PLAIN))
    assert said.startswith("llama-server --model '/m/a b.gguf' --no-mmproj --gpu-layers 0 --no-kv-offload ")
    for part in (
        "--ctx-size 16384", "--parallel 4", "--no-kv-unified", "--cache-type-k f16", "--cache-type-v q8_0",
        "--flash-attn on", "--ubatch-size 128", "--cache-ram 0", "--no-cache-idle-slots", "--no-context-shift",
    ):  # fmt: skip
        assert f" {part}" in said
    assert "--embedding" not in said
    assert "--pooling" not in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mmap": False}, "--load-mode none"),
        ({"repack": False}, "--no-repack"),
        ({"kv_unified": True}, "--kv-unified"),
        ({"flash_attention": False}, "--flash-attn off"),
        ({"prompt_cache_bytes": 512 * MIB}, "--cache-ram 512 --cache-idle-slots"),
        ({"swa_full": True}, "--swa-full"),
        ({"embedding": True, "pooling": Pooling.MEAN}, "--embedding --pooling mean"),
        ({"pooling": Pooling.NONE}, "--pooling none"),
        ({"warmup": False}, "--no-warmup"),
    ],
)
def test_what_differs_is_said(changes: dict[str, object], words: str) -> None:
    assert words in shlex.join(llama_server("m.gguf", "p.gguf", some_settings(**changes)))


def test_llama_swap_gets_yaml_with_its_own_port() -> None:
    told = yaml.safe_load(llama_swap("my: model", llama_server("/m.gguf", "/p.gguf", PLAIN)))
    command = told["models"]["my: model"]["cmd"]
    assert command.strip().endswith("--host 127.0.0.1 --port ${PORT}")
    assert "--mmproj /p.gguf" in command


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"devices": ("none",)}, "--device none --gpu-layers 0 --no-kv-offload"),
        ({"devices": ("CUDA2",), "layer_split": (0, 0, 8)},
         "--device CUDA2 --gpu-layers 9 --split-mode none --main-gpu 0"),
        ({"devices": ("CUDA0", "CUDA2"), "layer_split": (5, 0, 3), "split_mode": "layer"},
         "--device CUDA0,CUDA2 --gpu-layers 9 --split-mode layer --tensor-split 5,4"),
        ({"layer_split": (5, 0, 3), "split_mode": "layer"},
         "--no-mmproj --gpu-layers 9 --split-mode layer --tensor-split 5,0,4"),
        ({"devices": ("CUDA0", "CUDA1"), "layer_split": (1, 1), "split_mode": "tensor"},
         "--device CUDA0,CUDA1 --gpu-layers 999 --split-mode tensor"),
        ({"devices": ("Vulkan0",), "layer_split": (8,), "cpu_experts": 3}, "--main-gpu 0 --n-cpu-moe 3"),
    ],
)  # fmt: skip
def test_only_gpus_that_hold_something_are_named(changes: dict[str, object], words: str) -> None:
    assert words in shlex.join(llama_server("m.gguf", None, some_settings(**changes)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split_mode": "layer", "layer_split": (4, 4), "devices": ("CUDA0", "CUDA1")},
         "--spec-draft-model d.gguf --spec-draft-device CUDA1 --spec-draft-ngl 999 --spec-draft-n-max 3"),
        ({"split_mode": "tensor", "layer_split": (1, 1), "devices": ("CUDA0", "CUDA1")},
         "--spec-draft-model d.gguf --spec-draft-n-max 3"),
        ({}, "--spec-draft-model d.gguf --spec-draft-n-max 3"),
    ],
)  # fmt: skip
def test_the_draft_model_lies_with_the_last_layers(changes: dict[str, object], words: str) -> None:
    said = shlex.join(llama_server("m.gguf", None, some_settings(draft_tokens=3, **changes), draft_path="d.gguf"))
    assert words in said
