"""Writes trained weights as GGUF: `python -m tools.concierge.export TRAINED OUT.gguf --type q8_0`."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from tools.concierge.network import Shape
from tools.concierge.tokens import MARKS, SPECIALS, is_subject

NAME = "Bercail Concierge demo"
TYPES = {
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
Arrays = Mapping[str, NDArray[np.float32]]


def read_trained(folder: Path) -> tuple[Shape, Arrays]:
    """Shape and tensors of the checkpoint in `folder`."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    arrays = {name: tensor.float().numpy() for name, tensor in state["model"].items()}
    recipe = state["recipe"]
    shape = Shape(vocabulary=len(arrays["token_embd.weight"]), layers=recipe["layers"], hidden=recipe["hidden"])
    return shape, arrays


def with_experts(arrays: Arrays, count: int) -> Arrays:
    """A mixture of `count` experts a layer that answers as the dense model does: each expert is a copy of its network.

    A router of small random weights picks two of them; as their shares add up to one, the sum is the dense result.
    """
    dice = np.random.default_rng(count)
    mixed = dict(arrays)
    for name, array in arrays.items():
        if ".ffn_" in name and array.ndim == 2:
            del mixed[name]
            mixed[name.replace(".weight", "_exps.weight")] = np.stack([array] * count)
            if ".ffn_up" in name:
                router = dice.normal(scale=0.02, size=(count, array.shape[1])).astype(np.float32)
                mixed[name.replace("ffn_up", "ffn_gate_inp")] = router
    return mixed


def write_gguf(path: Path, shape: Shape, arrays: Arrays, tokenizer: Path, *, quantization: str) -> None:
    """Write the file at `path`; matrices in `quantization` (f16, q8_0, q4_0), norms and routers in f32."""
    kind, file_type = TYPES[quantization]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(NAME)
    writer.add_author("The Bercail authors")
    writer.add_version("1")
    writer.add_license("Apache-2.0")
    writer.add_description(
        "A demo of a few million parameters that knows nothing but Bercail; trained by the project on its own text."
    )
    writer.add_languages(["en", "fr"])
    # It knows one answer to a question: drawing at random only garbles it. A request may say otherwise.
    writer.add_float32("general.sampling.temp", 0.0)
    writer.add_size_label(f"{sum(a.size for a in arrays.values()) / 1e6:.1f}M")
    add_shape(writer, shape)
    routers = [array for name, array in arrays.items() if "ffn_gate_inp" in name]
    if routers:
        writer.add_expert_count(len(routers[0]))
        writer.add_expert_used_count(2)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer, tokenizer)
    for name, array in arrays.items():
        if array.ndim == 1 or "ffn_gate_inp" in name:
            writer.add_tensor(name, array.astype(np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    """The keys of the architecture `llama`."""
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)


def token_type(token: str) -> gguf.TokenType:
    """What `token` is to an engine: never shown, shown and never cut, or text."""
    if token in SPECIALS or is_subject(token):
        return gguf.TokenType.CONTROL
    return gguf.TokenType.USER_DEFINED if token in MARKS else gguf.TokenType.NORMAL


def add_tokenizer(writer: gguf.GGUFWriter, path: Path) -> None:
    """The byte-level BPE of `path` (tokenizer.json), its marks, and the chat template."""
    told = json.loads(path.read_text(encoding="utf-8"))["model"]
    ids: dict[str, int] = told["vocab"]
    tokens = sorted(ids, key=lambda token: ids[token])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(list(map(token_type, tokens)))
    writer.add_token_merges([" ".join(pair) for pair in told["merges"]])
    end_of_text, _, end = SPECIALS
    writer.add_bos_token_id(ids[end_of_text])
    writer.add_eos_token_id(ids[end])
    writer.add_eot_token_id(ids[end])
    writer.add_pad_token_id(ids[end_of_text])
    writer.add_add_bos_token(value=False)
    writer.add_chat_template((Path(__file__).parent / "template.jinja").read_text(encoding="utf-8"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path, help="folder that the training wrote")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--type", choices=sorted(TYPES), default="f16", dest="quantization")
    parser.add_argument("--experts", type=int, default=0, help="write a mixture of so many copied experts instead")
    given = parser.parse_args(argv)
    shape, arrays = read_trained(given.trained)
    if given.experts:
        arrays = with_experts(arrays, given.experts)
    write_gguf(given.out, shape, arrays, given.trained / "tokenizer.json", quantization=given.quantization)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes, {sum(a.size for a in arrays.values()):,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
