"""Writes the trained decoder as a folder for ONNX Runtime GenAI: `python -m tools.concierge.export_onnx TRAINED OUT`.

The graph uses the fused operators that the library's own decoders use: grouped-query attention with rotary embedding
and cache inside, and RMS norm. Weights are f32.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.concierge.export import Arrays, read_trained
from tools.concierge.network import Shape, rotations
from tools.concierge.tokens import SPECIALS

FUSED = "com.microsoft"


class Graph:
    """Nodes and weights as they are added; every method returns the name of what the node puts out."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, array: np.ndarray) -> str:
        """A constant."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], out: str, *, domain: str = "", **attributes: object) -> str:
        """A node with one output, `out`."""
        self.nodes.append(helper.make_node(kind, list(inputs), [out], domain=domain, **attributes))
        return out

    def project(self, states: str, name: str, array: np.ndarray) -> str:
        """`states` times the matrix `array` (out, in)."""
        return self.node("MatMul", [states, self.weight(name, array.T)], f"{name}.out")


def decoder(shape: Shape, arrays: Arrays) -> onnx.ModelProto:
    """The whole decoder, with a cache per layer that goes in and comes out."""
    graph = Graph()
    cosines, sines = (table.numpy() for table in rotations(shape))
    turns = (graph.weight("cosines", cosines), graph.weight("sines", sines))
    embedding = graph.weight("token_embd.weight", arrays["token_embd.weight"])
    stream = graph.node("Gather", [embedding, "input_ids"], "stream")
    for layer in range(shape.layers):
        stream = block(graph, shape, arrays, layer, stream, (*lengths(graph, layer), *turns))
    normed = norm(graph, shape, "output_norm.weight", arrays, stream)
    graph.node("MatMul", [normed, graph.weight("output", arrays["token_embd.weight"].T)], "logits")
    inputs, outputs = ports(shape)
    made = helper.make_graph(graph.nodes, "bercail-demo", inputs, outputs, graph.weights)
    versions = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(made, opset_imports=versions, ir_version=8)


def lengths(graph: Graph, layer: int) -> tuple[str, str]:
    """Length of each row's context less one, and the longest length, both from the attention mask."""
    if layer == 0:
        one = graph.weight("one", np.array([1], dtype=np.int64))
        total = graph.node("ReduceSum", ["attention_mask", one], "mask.sum", keepdims=0)
        graph.node("Cast", [graph.node("Sub", [total, one], "mask.last")], "last", to=TensorProto.INT32)
        size = graph.node("Shape", ["attention_mask"], "mask.shape")
        longest = graph.node("Gather", [size, graph.weight("axis", np.array(1, dtype=np.int64))], "mask.length")
        graph.node("Cast", [longest], "longest", to=TensorProto.INT32)
    return "last", "longest"


def block(
    graph: Graph, shape: Shape, arrays: Arrays, layer: int, stream: str, sequence: tuple[str, str, str, str]
) -> str:
    """One layer; `sequence` names lengths, cosines and sines."""
    prefix = f"blk.{layer}"
    normed = norm(graph, shape, f"{prefix}.attn_norm.weight", arrays, stream)
    query, key, value = (
        graph.project(normed, name, arrays[name]) for name in (f"{prefix}.attn_{part}.weight" for part in "qkv")
    )
    past = (f"past_key_values.{layer}.key", f"past_key_values.{layer}.value")
    attended = f"{prefix}.attended"
    graph.nodes.append(
        helper.make_node(
            "GroupQueryAttention",
            [query, key, value, *past, *sequence],
            [attended, f"present.{layer}.key", f"present.{layer}.value"],
            domain=FUSED,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
            rotary_interleaved=1,
        )
    )
    mixed = graph.project(attended, f"{prefix}.attn_output.weight", arrays[f"{prefix}.attn_output.weight"])
    stream = graph.node("Add", [stream, mixed], f"{prefix}.middle")
    normed = norm(graph, shape, f"{prefix}.ffn_norm.weight", arrays, stream)
    gate, up = (
        graph.project(normed, name, arrays[name]) for name in (f"{prefix}.ffn_gate.weight", f"{prefix}.ffn_up.weight")
    )
    swish = graph.node("Mul", [gate, graph.node("Sigmoid", [gate], f"{prefix}.sigmoid")], f"{prefix}.swish")
    product = graph.node("Mul", [swish, up], f"{prefix}.product")
    down = graph.project(product, f"{prefix}.ffn_down.weight", arrays[f"{prefix}.ffn_down.weight"])
    return graph.node("Add", [stream, down], f"{prefix}.end")


def norm(graph: Graph, shape: Shape, name: str, arrays: Arrays, stream: str) -> str:
    """RMS norm of `stream`."""
    scale = graph.weight(name, arrays[name])
    return graph.node("SimplifiedLayerNormalization", [stream, scale], f"{name}.out", epsilon=shape.epsilon, axis=-1)


def ports(shape: Shape) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """What goes into the graph and what comes out."""

    def port(name: str, kind: int, sizes: Sequence[str | int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, sizes)

    def cache(name: str, length: str) -> list[onnx.ValueInfoProto]:
        sizes = ("batch", shape.kv_heads, length, shape.head)
        return [
            port(f"{name}.{layer}.{part}", TensorProto.FLOAT, sizes)
            for layer in range(shape.layers)
            for part in ("key", "value")
        ]

    inputs = [
        port("input_ids", TensorProto.INT64, ("batch", "tokens")),
        port("attention_mask", TensorProto.INT64, ("batch", "longest")),
        *cache("past_key_values", "past"),
    ]
    return inputs, [port("logits", TensorProto.FLOAT, ("batch", "tokens", shape.vocabulary)), *cache("present", "all")]


def settings(shape: Shape) -> Mapping[str, object]:
    """`genai_config.json`: names and sizes that the library needs."""
    end_of_text, _, end = range(len(SPECIALS))
    names = {"past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value"}
    return {
        "model": {
            "type": "llama",
            "bos_token_id": end_of_text,
            "eos_token_id": end,
            "pad_token_id": end_of_text,
            "context_length": shape.context_tokens,
            "vocab_size": shape.vocabulary,
            "decoder": {
                "filename": "model.onnx",
                "session_options": {"provider_options": []},
                "head_size": shape.head,
                "hidden_size": shape.width,
                "num_attention_heads": shape.heads,
                "num_key_value_heads": shape.kv_heads,
                "num_hidden_layers": shape.layers,
                "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **names},
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {"do_sample": False, "max_length": shape.context_tokens, "past_present_share_buffer": False},
    }


def tokenizer_settings() -> Mapping[str, object]:
    """`tokenizer_config.json`: the kind of tokenizer, its marks and the chat template."""
    end_of_text, _, end = SPECIALS
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": end_of_text,
        "eos_token": end,
        "pad_token": end_of_text,
        "add_bos_token": False,
        "chat_template": (Path(__file__).parent / "template.jinja").read_text(encoding="utf-8"),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, help="folder that the training wrote")
    parser.add_argument("out", type=Path, help="folder to write")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    shape, arrays = read_trained(given.trained)
    onnx.save(decoder(shape, arrays), given.out / "model.onnx")
    shutil.copy(given.trained / "tokenizer.json", given.out)
    for name, told in (("genai_config", settings(shape)), ("tokenizer_config", tokenizer_settings())):
        (given.out / f"{name}.json").write_text(json.dumps(told, indent=2, ensure_ascii=False), encoding="utf-8")
    print(f"{given.out}: {sum(path.stat().st_size for path in given.out.iterdir()):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
