"""Folders exported for ONNX Runtime GenAI and OpenVINO: found, read, and refused with words."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bercail.core.errors import ReadError
from bercail.core.model import Capability, Format, Pooling, Role
from bercail.readers import Readers


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes((number & 127 | 128,))
        number >>= 7
    return out + bytes((number,))


def whole(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def part(number: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def tensor(name: str, kind: int, *dims: int, external: str = "", packed: bool = False) -> bytes:
    sizes = part(1, b"".join(map(varint, dims))) if packed else b"".join(whole(1, dim) for dim in dims)
    told = part(13, part(1, "location") + part(2, external)) if external else part(9, b"")
    return part(5, sizes + whole(2, kind) + part(8, name) + told)


def attribute(name: str, value: int) -> bytes:
    return part(5, part(1, name) + whole(3, value))


def node(kind: str, inputs: list[str], **numbers: int) -> bytes:
    return part(1, b"".join(part(1, name) for name in inputs) + part(4, kind)
                + b"".join(attribute(name, value) for name, value in numbers.items()))  # fmt: skip


def cache_input(name: str, kind: int) -> bytes:
    return part(11, part(1, name) + part(2, part(1, whole(1, kind))))


GRAPH = (
    node("MatMulNBits", ["x", "w.q", "w.scales", "w.zeros"], K=64, N=32, bits=4)
    + node("Add", ["x", "y"])
    + tensor("w.q", 2, 32, 2, 16, external="model.onnx.data", packed=True)
    + tensor("w.scales", 1, 64, external="model.onnx.data")
    + tensor("w.zeros", 2, 32)
    + tensor("embedding", 10, 10, 8)
    + tensor("axis", 7, 1)
    + cache_input("input_ids", 7)
    + cache_input("past_key_values.0.key", 10)
    + cache_input("past_key_values.0.value", 1)
)
GENAI: dict[str, Any] = {
    "model": {
        "type": "phi3", "context_length": 4096, "vocab_size": 10,
        "decoder": {
            "filename": "model.onnx", "head_size": 4, "hidden_size": 8, "num_attention_heads": 2,
            "num_key_value_heads": 1, "num_hidden_layers": 3,
        },
    }
}  # fmt: skip


def onnx_folder(place: Path, graph: bytes = GRAPH) -> Path:
    folder = place / "phi-onnx"
    folder.mkdir(parents=True)
    (folder / "genai_config.json").write_text(json.dumps(GENAI))
    (folder / "model.onnx").write_bytes(whole(1, 10) + part(7, graph) + varint(14 << 3 | 5) + struct.pack("<I", 1)
                                        + varint(15 << 3 | 1) + struct.pack("<Q", 1))  # fmt: skip
    (folder / "model.onnx.data").write_bytes(bytes(1000))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "LlamaTokenizer",
        "chat_template": [{"name": "rag", "template": "no"}, {"name": "default", "template": "{{ tools }}<think>"}],
    }))  # fmt: skip
    return folder


LAYER = '<layer type="{kind}"><data element_type="{type}" shape="{shape}"/></layer>'
XML = "<net><layers>{}</layers></net>".format(
    LAYER.format(kind="Const", type="u4", shape="32, 2, 16")
    + LAYER.format(kind="Const", type="f16", shape="32, 2, 1")
    + LAYER.format(kind="Const", type="i64", shape="4, 4")
    + LAYER.format(kind="Const", type="f16", shape="")
    + LAYER.format(kind="Parameter", type="f16", shape="4, 4")
    + '<layer type="Add"/>'
)
CONFIG = {
    "model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 10,
    "max_position_embeddings": 8192, "layer_types": ["full_attention", "sliding_attention"], "sliding_window": 512,
    "num_local_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip


def ir_folder(place: Path) -> Path:
    folder = place / "llama-ov"
    folder.mkdir(parents=True)
    (folder / "openvino_model.xml").write_text(XML)
    (folder / "openvino_model.bin").write_bytes(bytes(2000))
    for name in ("openvino_tokenizer.xml", "openvino_detokenizer.xml"):
        (folder / name).write_text("<net/>")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


PORT = '<output><port id="1" names="{names}">{dims}</port></output>'
RESULT = '<layer id="{id}" type="Result"/>'


def graph(*outputs: tuple[str, int]) -> str:
    """A graph that hands out tensors of these names, with so many dimensions."""
    makers = "".join(
        f'<layer id="{place}" type="Add">{PORT.format(names=names, dims="<dim>-1</dim>" * rank)}</layer>'
        for place, (names, rank) in enumerate(outputs)
    )
    results = "".join(RESULT.format(id=100 + place) for place in range(len(outputs)))
    edges = "".join(
        f'<edge from-layer="{place}" from-port="1" to-layer="{100 + place}" to-port="0"/>'
        for place in range(len(outputs))
    )
    weights = LAYER.format(kind="Const", type="f16", shape="10, 8")
    return f"<net><layers>{weights}{makers}{results}</layers><edges>{edges}</edges></net>"


STATES = graph(("17,last_hidden_state", 3))
BERT = {
    "model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 10,
    "max_position_embeddings": 512,
}  # fmt: skip
POOLING = {"word_embedding_dimension": 8, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
MODULES = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def encoder_folder(place: Path, **papers: object) -> Path:
    """An encoder as it is exported, and what Sentence Transformers keep beside it."""
    folder = place / "bge-ov"
    folder.mkdir(parents=True)
    (folder / "openvino_model.xml").write_text(STATES)
    (folder / "openvino_model.bin").write_bytes(bytes(160))
    (folder / "openvino_tokenizer.xml").write_text("<net/>")
    for name, values in {"config.json": BERT, "1_Pooling/config.json": POOLING, **papers}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(values))
    return folder


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    return Readers({}, tmp_path, tmp_path)


def test_a_folder_for_onnx_runtime_is_read(readers: Readers, tmp_path: Path) -> None:
    model = readers.read(str(onnx_folder(tmp_path)))
    assert (model.id, model.format, model.architecture) == ("phi-onnx", Format.ONNX, "phi3")
    assert (model.context_length, model.shape.layers, model.shape.vocabulary) == (4096, 3, 10)
    assert (model.shape.heads[0], model.shape.kv_heads[0], model.shape.key_length) == (2, 1, 4)
    assert model.parameter_count == 64 * 32 + 10 * 8  # neither scales, zero points nor an axis
    assert model.quantization == "int4"
    assert model.stored is not None
    assert model.stored.cache_type == "f16"
    assert model.weights_bytes == 1000 + Path(model.files[0].path).stat().st_size
    assert [Path(file.path).name for file in model.files] == ["model.onnx", "model.onnx.data"]
    assert model.chat_template == "{{ tools }}<think>"
    assert model.capabilities == (Capability.CHAT, Capability.COMPLETION, Capability.THINKING)
    assert model.tokenizer.model == "LlamaTokenizer"
    readers.audit_vocabulary(model)  # its engine reads that itself


def test_a_folder_of_openvino_is_read(readers: Readers, tmp_path: Path) -> None:
    model = readers.read(str(ir_folder(tmp_path)))
    assert (model.id, model.format, model.architecture) == ("llama-ov", Format.OPENVINO, "llama")
    assert (model.parameter_count, model.quantization) == (32 * 2 * 16, "int4")
    assert (model.shape.swa_layers, model.shape.sliding_window) == ((False, True), 512)
    assert (model.shape.experts, model.shape.experts_used, model.shape.kv_heads[0]) == (4, 2, 2)
    assert model.stored is not None
    assert model.stored.cache_type is None
    assert model.capabilities == (Capability.CHAT, Capability.COMPLETION)
    config = {"text_config": CONFIG, "model_type": "outer"}
    (tmp_path / "llama-ov" / "config.json").write_text(json.dumps(config))
    assert readers.read(str(tmp_path / "llama-ov")).architecture == "llama"


def test_an_encoder_is_read_as_what_embeds(readers: Readers, tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path, **{"modules.json": MODULES, "sentence_bert_config.json": {"max_seq_length": 256}})
    model = readers.read(str(folder))
    assert (model.role, model.capabilities, model.pooling) == (Role.EMBED, (Capability.EMBEDDINGS,), Pooling.CLS)
    assert (model.context_length, model.shape.causal, model.notes) == (256, False, ())
    assert (model.parameter_count, model.quantization) == (80, "f16")
    assert model.weights_bytes == 160 + len(STATES)
    assert [Path(file.path).name for file in model.files] == ["openvino_model.xml", "openvino_model.bin"]
    (found,) = readers.find((str(tmp_path),), ()).models
    assert found.id == "bge-ov"


def test_a_folder_that_says_nothing_of_pooling_is_told_of(readers: Readers, tmp_path: Path) -> None:
    qwen = {**BERT, "model_type": "qwen3", "num_key_value_heads": 1, "max_position_embeddings": 32768}
    model = readers.read(str(encoder_folder(tmp_path, **{"config.json": qwen, "1_Pooling/config.json": {}})))
    assert (model.pooling, model.shape.causal, model.context_length) == (None, True, 32768)
    assert "nothing in the folder says how it pools" in model.notes[0]


@pytest.mark.parametrize(
    ("config", "beside", "expected"),
    [
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, None, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514}, 384, 384),
        ({}, 10**30, 512),
        ({"max_position_embeddings": None}, 512, 512),
        ({"max_position_embeddings": None, "n_positions": 2048}, None, 2048),
    ],
)
def test_texts_may_be_as_long_as_the_model_was_made_for(
    readers: Readers, tmp_path: Path, config: dict[str, object], beside: int | None, expected: int
) -> None:
    known = {name: value for name, value in {**BERT, **config}.items() if value is not None}
    papers = {"config.json": known, "tokenizer_config.json": {"model_max_length": beside}}
    assert readers.read(str(encoder_folder(tmp_path, **papers))).context_length == expected


def test_sizes_have_other_names_elsewhere(readers: Readers, tmp_path: Path) -> None:
    config = {
        "model_type": "distilbert", "dim": 8, "n_heads": 2, "n_layers": 6, "hidden_dim": 32, "vocab_size": 10,
        "max_position_embeddings": 512,
    }  # fmt: skip
    shape = readers.read(str(encoder_folder(tmp_path, **{"config.json": config}))).shape
    assert (shape.embedding, shape.heads[0], shape.layers, shape.feed_forward[0]) == (8, 2, 6, 32)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (
            "1_Pooling/config.json",
            {"pooling_mode_max_tokens": True},
            "pooling by pooling_mode_max_tokens is not served",
        ),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "cls_token and pooling_mode_mean_tokens is not served",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "pooling max is not served; cls, mean, lasttoken are"),
        (
            "modules.json",
            [*MODULES, {"type": "sentence_transformers.models.Dense", "path": "3_Dense"}],
            "through Dense",
        ),
        ("modules.json", [*MODULES, {}], "through a part, which"),
        ("modules.json", {}, "holds no list of objects"),
        ("modules.json", [3], "holds no list of objects"),
        ("config.json", {**BERT, "max_position_embeddings": "x"}, "max_position_embeddings: 'x' is no number"),
    ],
)
def test_what_is_wrong_with_an_encoder_is_told(
    readers: Readers, tmp_path: Path, name: str, values: object, words: str
) -> None:
    with pytest.raises(ReadError, match=words):
        readers.read(str(encoder_folder(tmp_path, **{name: values})))


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([("last_hidden_state", 3), ("pooler_output", 2)], "hands out more than the states of its tokens"),
        ([("sentence_embedding", 2)], "hands out more than the states of its tokens"),
        ([("logits", 2)], "it classifies or ranks texts"),
    ],
)
def test_graphs_that_are_not_served_are_told_as_what_they_are(
    readers: Readers, tmp_path: Path, outputs: list[tuple[str, int]], words: str
) -> None:
    folder = encoder_folder(tmp_path)
    (folder / "openvino_model.xml").write_text(graph(*outputs))
    with pytest.raises(ReadError, match=words) as caught:
        readers.read(str(folder))
    assert caught.value.code == "not_servable"


def test_newer_papers_name_their_pooling_and_others_keep_it_elsewhere(readers: Readers, tmp_path: Path) -> None:
    modules = [MODULES[0], {**MODULES[1], "path": "own"}]
    papers = {"modules.json": modules, "own/config.json": {"pooling_mode": "lasttoken"}}
    assert readers.read(str(encoder_folder(tmp_path, **papers))).pooling is Pooling.LAST
    outside = [{**MODULES[1], "path": "../elsewhere"}]
    assert readers.read(str(encoder_folder(tmp_path / "b", **{"modules.json": outside}))).pooling is Pooling.CLS


def test_a_graph_with_logits_generates(readers: Readers, tmp_path: Path) -> None:
    folder = ir_folder(tmp_path)
    (folder / "openvino_model.xml").write_text(graph(("logits", 3)))
    assert readers.read(str(folder)).role is Role.GENERATE
    (folder / "openvino_detokenizer.xml").unlink()
    with pytest.raises(ReadError, match=r"openvino_detokenizer\.xml is missing"):
        readers.read(str(folder))


def test_what_old_exports_do_not_say_follows_from_what_they_say(readers: Readers, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path, tensor("w", 1, 5, 5))
    (folder / "tokenizer_config.json").unlink()
    decoder = {"filename": "model.onnx", "head_size": 8, "num_key_value_heads": 4, "num_hidden_layers": 5}
    config = {"model": {"context_length": 512, "vocab_size": 7, "decoder": decoder}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    model = readers.read(str(folder))
    assert (model.architecture, model.shape.embedding, model.shape.heads[0]) == ("unknown", 32, 4)
    assert (model.chat_template, model.capabilities) == (None, (Capability.COMPLETION,))
    assert model.stored is not None
    assert (model.stored.cache_type, model.quantization) == (None, "f32")


def test_folders_are_found_beside_files_and_in_caches_of_the_hub(readers: Readers, tmp_path: Path) -> None:
    onnx_folder(tmp_path / "models")
    ir_folder(tmp_path / "models" / "deep")
    hub = tmp_path / ".cache" / "huggingface" / "hub" / "models--maker--phi-3" / "snapshots" / "0123abcd"
    onnx_folder(hub / "cpu")
    (hub / "config.json").write_text("{}")
    found = {model.id: model for model in readers.find((), ()).models}
    assert set(found) == {"phi-onnx", "llama-ov", "phi-3-phi-onnx"} or set(found) == {"phi-onnx", "llama-ov", "phi-3"}
    assert found["llama-ov"].bytes > 2000
    (alone,) = readers.find((str(tmp_path / "models" / "phi-onnx"),), ()).models
    assert alone.path == str(tmp_path / "models" / "phi-onnx")


def test_a_repository_that_is_one_model_has_the_name_of_the_repository(readers: Readers, tmp_path: Path) -> None:
    hub = tmp_path / ".cache" / "huggingface" / "hub" / "models--OpenVINO--Qwen3-8B-int4-ov" / "snapshots"
    ir_folder(hub).rename(hub / "0123abcd")
    (found,) = readers.find((), ()).models
    assert found.id == "Qwen3-8B-int4-ov"


def change(name: str, values: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(values if isinstance(values, str) else json.dumps(values))

    return spoil


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def decoder(**changes: object) -> dict[str, Any]:
    model = dict(GENAI["model"])
    return {"model": {**model, "decoder": {**model["decoder"], **changes}}}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change("genai_config.json", "{"), "genai_config.json: is no JSON"),
        (change("genai_config.json", "[]"), "holds no object"),
        (change("genai_config.json", {"model": 3}), "model: holds no object"),
        (change("genai_config.json", {"model": {"vision": {}}}), "of several graphs"),
        (change("genai_config.json", decoder(pipeline=[])), "its decoder is cut in parts"),
        (change("genai_config.json", decoder(filename="../x")), "no name of a file in the folder"),
        (change("genai_config.json", decoder(filename="other.onnx")), r"other.onnx: is missing"),
        (change("genai_config.json", decoder(num_hidden_layers="3")), "num_hidden_layers: '3' is no number"),
        (change("genai_config.json", decoder(num_hidden_layers=None)), "num_hidden_layers: is missing"),
        (change("genai_config.json", " " * (16 * 2**20 + 1)), "longer than 16 MiB"),
        (without("model.onnx.data"), "model.onnx.data: No such file"),
        (change("model.onnx", ""), "model.onnx: cannot be read"),
        (change("model.onnx", "\x08"), "is no ONNX file, or is cut short"),
        (change("model.onnx", "\x08\x01"), "is no ONNX file, or is cut short"),
        (change("model.onnx", "\x3a\x7f"), "is no ONNX file, or is cut short"),
        (change("model.onnx", "\x0b"), "is no ONNX file, or is cut short"),
        (change("tokenizer_config.json", "x"), "tokenizer_config.json: is no JSON"),
    ],
)
def test_what_is_wrong_with_a_folder_for_onnx_runtime_is_told(
    readers: Readers, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    folder = onnx_folder(tmp_path)
    spoil(folder)
    with pytest.raises(ReadError, match=words):
        readers.read(str(folder))


def test_weights_outside_the_folder_are_refused(readers: Readers, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path, tensor("w", 1, 2, external="/etc/passwd"))
    with pytest.raises(ReadError, match="not in the folder"):
        readers.read(str(folder))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without("openvino_tokenizer.xml"), "openvino_tokenizer.xml is missing"),
        (without("config.json"), "config.json: is missing"),
        (change("openvino_model.xml", "<net>"), "openvino_model.xml: cannot be read"),
        (change("config.json", {**CONFIG, "vocab_size": 0}), "vocab_size: 0 is no number from 1 up"),
    ],
)
def test_what_is_wrong_with_a_folder_of_openvino_is_told(
    readers: Readers, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    folder = ir_folder(tmp_path)
    spoil(folder)
    with pytest.raises(ReadError, match=words):
        readers.read(str(folder))


@pytest.mark.shared
def test_real_folders_are_read(readers: Readers, shared: Path) -> None:
    stories = readers.read(str(shared / "models" / "onnx" / "onnx-stories260K"))
    assert (stories.architecture, stories.context_length, stories.shape.layers) == ("llama", 512, 5)
    assert stories.stored is not None
    assert (stories.stored.cache_type, stories.quantization) == ("f32", "f32")
    assert 260_000 < stories.parameter_count < 370_000
    gpt2 = readers.read(str(shared / "models" / "onnx" / "tiny-random-gpt2-fp32"))
    assert (gpt2.shape.embedding, gpt2.shape.kv_heads[0]) == (32, 4)
