"""Reading a model through the door: refusals of what an engine would not survive, and what the model can do."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bercail.core.errors import ReadError
from bercail.core.model import Capability, Model, Role
from bercail.ports import ModelReader
from bercail.readers import Readers
from bercail.readers.gguf.template import syntax_error
from tools.synth.shapes import Known, metadata_of, tiny, vocabulary
from tools.synth.write import TensorSpec, Typed, Value, write_gguf


@pytest.fixture
def readers(tmp_path: Path) -> ModelReader:
    return Readers({}, tmp_path / "home", tmp_path)


def read(tmp_path: Path, known: Known, name: str = "m.gguf", **options: Any) -> Model:
    write_gguf(tmp_path / name, known.metadata, known.tensors, **options)
    return Readers({}, tmp_path, tmp_path).read(name)


def refusal(readers: ModelReader, path: Path) -> ReadError | None:
    """The refusal; any other exception is a bug."""
    try:
        readers.read(str(path))
    except ReadError as error:
        return error
    return None


def refused(tmp_path: Path, known: Known) -> ReadError:
    with pytest.raises(ReadError) as caught:
        read(tmp_path, known)
    assert str(caught.value.path).endswith("m.gguf")
    return caught.value


def test_good_model_is_accepted(tmp_path: Path) -> None:
    model = read(tmp_path, tiny())
    assert (model.id, model.architecture, model.role, model.notes) == ("m", "llama", Role.GENERATE, ())
    assert (model.tokenizer.model, model.tokenizer.tokens) == ("llama", 32)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.block_count", 0), ("llama.block_count", 3), ("llama.block_count", 1), ("llama.block_count", 513),
        ("llama.block_count", "2"), ("llama.block_count", Typed("int32", 2)), ("llama.nextn_predict_layers", 3),
        ("llama.context_length", 0), ("llama.context_length", 2**31), ("llama.embedding_length", 65),
        ("llama.attention.head_count", 0), ("llama.attention.head_count", 3), ("llama.attention.head_count", [8]),
        ("llama.attention.head_count", [8, -8]), ("llama.attention.head_count_kv", 0),
        ("llama.attention.head_count_kv", 3), ("llama.attention.head_count_kv", 16),
        ("llama.feed_forward_length", 0), ("llama.feed_forward_length", 97),
        ("llama.attention.layer_norm_rms_epsilon", float("nan")), ("llama.attention.layer_norm_rms_epsilon", -1.0),
        ("llama.attention.layer_norm_rms_epsilon", 1), ("llama.rope.dimension_count", 7),
        ("llama.rope.scaling.type", "spiral"), ("llama.rope.freq_base", float("inf")), ("llama.expert_count", 4),
        ("llama.expert_used_count", 1), ("llama.expert_group_count", 2), ("llama.expert_count", 1025),
        ("llama.classifier.activation", "step"), ("tokenizer.ggml.model", "frob"),
        ("tokenizer.ggml.tokens", ["a"] * 31), ("tokenizer.ggml.tokens", 3), ("tokenizer.ggml.scores", [0.0] * 31),
        ("tokenizer.ggml.scores", Typed("array[uint8]", [0] * 32)), ("tokenizer.ggml.token_type", [1.0] * 32),
        ("tokenizer.ggml.merges", 1), ("tokenizer.chat_template", "{% for m in messages %}{{ m"),
        ("tokenizer.chat_template", 1), ("general.architecture", "lama"), ("general.architecture", 1),
    ],
)  # fmt: skip
def test_key_that_harms_an_engine_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    error = refused(tmp_path, tiny(**{key: value}))
    assert error.field
    assert error.code
    assert error.hint


@pytest.mark.parametrize(
    "key",
    ["general.architecture", "llama.block_count", "llama.context_length", "llama.embedding_length",
     "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon", "tokenizer.ggml.model",
     "tokenizer.ggml.tokens"],
)  # fmt: skip
def test_key_that_no_engine_can_do_without_is_named(tmp_path: Path, key: str) -> None:
    known = tiny()
    del known.metadata[key]
    assert refused(tmp_path, known).field == key


@pytest.mark.parametrize(
    "name", ["token_embd.weight", "output_norm.weight", "blk.1.attn_k.weight", "blk.0.ffn_norm.weight"]
)
def test_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    known = tiny()
    error = refused(tmp_path, Known(known.metadata, [spec for spec in known.tensors if spec.name != name]))
    assert error.field == name


def test_tensor_of_another_shape_is_named_with_its_place(tmp_path: Path) -> None:
    known = tiny()
    wrong = [spec._replace(shape=(63,)) if spec.name == "output_norm.weight" else spec for spec in known.tensors]
    error = refused(tmp_path, Known(known.metadata, wrong))
    assert error.field == "output_norm.weight"
    assert error.offset
    assert "(64,)" in error.message


def test_per_layer_arrays_are_accepted(tmp_path: Path) -> None:
    model = read(tmp_path, tiny(**{"llama.attention.head_count_kv": [4, 4], "llama.feed_forward_length": [96, 96]}))
    assert model.shape.kv_heads == (4, 4)


def test_sliding_architecture_without_a_sliding_layer_is_refused(tmp_path: Path) -> None:
    keys = metadata_of("granite_swa", block_count=1, context_length=8, embedding_length=8, attention__head_count=1,
                       attention__sliding_window=4, attention__sliding_window_pattern=[False])  # fmt: skip
    assert "slide" in refused(tmp_path, Known(keys, [TensorSpec("token_embd.weight", (8, 4))])).message


def test_recurrent_state_of_unknown_kind_is_told(tmp_path: Path) -> None:
    keys = metadata_of("glm5-next", block_count=1, context_length=8, embedding_length=8, attention__head_count=1)
    model = read(tmp_path, Known(keys, [TensorSpec("token_embd.weight", (8, 4))]))
    assert model.shape.recurrent is None
    assert "does not know the recurrent state" in model.notes[0]


def test_vocabulary_alone_is_no_model(tmp_path: Path) -> None:
    assert refused(tmp_path, Known(tiny().metadata, [])).code == "no_tensors"


def test_trailing_bytes_are_told(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", *tiny())
    with path.open("ab") as file:
        file.write(b"x" * 700)
    assert "700 bytes follow" in Readers({}, tmp_path, tmp_path).read(str(path)).notes[0]


def test_template_and_keys_tell_what_it_can_do(tmp_path: Path) -> None:
    template = "{% if tools %}{{ tools }}{% endif %}{{ enable_thinking }}"
    model = read(tmp_path, tiny(**{"tokenizer.chat_template": template, "tokenizer.ggml.fim_pre_token_id": 1,
                                   "tokenizer.ggml.fim_suf_token_id": 2}))  # fmt: skip
    assert model.capabilities == (
        Capability.CHAT, Capability.COMPLETION, Capability.TOOLS, Capability.THINKING, Capability.INFILL,
    )  # fmt: skip
    assert model.chat_template == template


def test_projector_gives_sight_and_hearing(tmp_path: Path) -> None:
    keys: dict[str, Value] = {"general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True,
            "clip.has_audio_encoder": True}  # fmt: skip
    write_gguf(tmp_path / "mmproj.gguf", keys, [TensorSpec("v.a", (32,), "f32")])
    write_gguf(tmp_path / "m.gguf", *tiny())
    readers = Readers({}, tmp_path, tmp_path)
    model = readers.read("m.gguf", projector="mmproj.gguf")
    assert {Capability.VISION, Capability.AUDIO} <= set(model.capabilities)
    assert (model.projector, model.projector_bytes) == (str(tmp_path / "mmproj.gguf"), 128)
    assert readers.read("mmproj.gguf").role is Role.PROJECTOR
    with pytest.raises(ReadError, match="not a projector"):
        readers.read("m.gguf", projector="m.gguf")


def test_adapter_is_told_from_a_model(tmp_path: Path) -> None:
    keys: dict[str, Value] = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    model = read(tmp_path, Known(keys, [TensorSpec("blk.0.attn_q.weight.lora_a", (8, 4))]))
    assert (model.role, model.capabilities) == (Role.ADAPTER, ())


@pytest.mark.parametrize(
    ("name", "keys", "expected", "qat"),
    [
        ("m.gguf", {"general.file_type": 1}, "F16", False),
        ("m.gguf", {"general.file_type": 15}, "F16", False),
        ("m-UD-Q4_K_XL.gguf", {}, "F16", False),
        ("gemma-it-qat-q4_0.gguf", {}, "F16", True),
        ("aqatic.gguf", {"general.tags": ["x", "QAT"]}, "F16", True),
        ("aqatic.gguf", {}, "F16", False),
    ],
)
def test_label_is_checked_against_the_tensors(
    tmp_path: Path, name: str, keys: dict[str, Any], expected: str, qat: bool
) -> None:
    model = read(tmp_path, tiny(**keys), name)
    assert (model.quantization, model.qat) == (expected, qat)
    assert bool(model.notes) == (keys.get("general.file_type") == 15)


def test_dynamic_mix_is_named_after_the_file_if_its_tensors_bear_it_out(tmp_path: Path) -> None:
    keys = metadata_of("granite", block_count=1, context_length=8, embedding_length=256, attention__head_count=1)
    known = Known(keys, [TensorSpec("token_embd.weight", (256, 8), "q4_k")])
    assert read(tmp_path, known, "m-UD-Q4_K_XL.gguf").quantization == "UD-Q4_K_XL"
    assert read(tmp_path, known, "m-UD-Q6_K_XL.gguf").quantization == "Q4_K"


def test_expert_width_that_the_engine_ignores_is_no_reason_to_refuse(tmp_path: Path) -> None:
    known = tiny(**{"llama.expert_count": 2, "llama.expert_used_count": 1, "llama.expert_feed_forward_length": 5})
    tensors = [spec for spec in known.tensors if ".ffn_" not in spec.name]
    for block in (0, 1):
        tensors += [TensorSpec(f"blk.{block}.ffn_gate_inp.weight", (64, 2))]
        tensors += [TensorSpec(f"blk.{block}.ffn_{n}_exps.weight", (64, 96, 2)) for n in ("gate", "up")]
        tensors += [TensorSpec(f"blk.{block}.ffn_down_exps.weight", (96, 64, 2))]
    assert read(tmp_path, Known(known.metadata, tensors)).shape.experts == 2
    narrow = [spec._replace(shape=(64, 95, 2)) if spec.name == "blk.1.ffn_up_exps.weight" else spec for spec in tensors]
    assert refused(tmp_path, Known(known.metadata, narrow)).field == "blk.1.ffn_up_exps.weight"
    lost = [spec for spec in tensors if spec.name != "blk.1.ffn_down_exps.weight"]
    assert "block 1 has none" in refused(tmp_path, Known(known.metadata, lost)).message


def test_file_of_drafting_blocks_alone_is_accepted(tmp_path: Path) -> None:
    keys = metadata_of("glm4", block_count=3, nextn_predict_layers=1, context_length=8, embedding_length=8,
                       attention__head_count=1, attention__layer_norm_rms_epsilon=1e-5)  # fmt: skip
    tensors = [TensorSpec("token_embd.weight", (8, 4)), TensorSpec("output_norm.weight", (8,))]
    model = read(tmp_path, Known(keys, [*tensors, TensorSpec("blk.2.nextn.eh_proj.weight", (16, 8))]))
    assert (model.shape.layers, model.shape.nextn_layers) == (2, 1)


def test_licence_is_what_the_file_names(tmp_path: Path) -> None:
    assert read(tmp_path, tiny(**{"general.license": "mit"})).license == "mit"
    assert read(tmp_path, tiny(**{"general.license.link": "https://example.org"})).license == "https://example.org"
    assert read(tmp_path, tiny()).license is None


def test_vocabulary_with_twins_is_refused_before_an_engine_aborts(tmp_path: Path) -> None:
    words = [f"t{number}" for number in range(32)]
    words[20] = "t3"
    readers, model = Readers({}, tmp_path, tmp_path), read(tmp_path, tiny(**{"tokenizer.ggml.tokens": words}))
    with pytest.raises(ReadError, match=r"token 20 equals token 3, 't3'") as caught:
        readers.audit_vocabulary(model)
    assert caught.value.offset
    data = Path(model.path).read_bytes()
    assert data[caught.value.offset : caught.value.offset + 10] == b"\x02" + b"\0" * 7 + b"t3"


def test_vocabulary_is_seen_as_the_engine_sees_it(tmp_path: Path) -> None:
    readers = Readers({}, tmp_path, tmp_path)
    words = [f"t{number}" for number in range(32)]
    readers.audit_vocabulary(read(tmp_path, tiny()))
    readers.audit_vocabulary(read(tmp_path, tiny(**{"tokenizer.ggml.tokens": ["", "", *words[2:]]})))
    for twins in (["a\0b", "a\0c"], ["", "[EMPTY_0]"]):
        model = read(tmp_path, tiny(**{"tokenizer.ggml.tokens": [*twins, *words[2:]]}))
        with pytest.raises(ReadError, match="equals token 0"):
            readers.audit_vocabulary(model)


def test_file_that_changed_since_it_was_read_is_refused(tmp_path: Path) -> None:
    model = read(tmp_path, tiny())
    with Path(model.path).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ReadError, match="when it was read"):
        Readers({}, tmp_path, tmp_path).audit_vocabulary(model)


_HEARS: list[list[object]] = []
"""Lists that hear of every file that is opened; the interpreter cannot be made to stop telling."""


def _hear(event: str, facts: tuple[object, ...]) -> None:
    for heard in _HEARS if event == "open" else ():
        heard.append(facts[0])


sys.addaudithook(_hear)


def test_a_file_that_passed_is_not_read_again_until_it_changes(tmp_path: Path) -> None:
    readers, model = Readers({}, tmp_path, tmp_path), read(tmp_path, tiny())
    opened: list[object] = []
    _HEARS.append(opened)
    for expected in (1, 1):
        readers.audit_vocabulary(model)
        assert opened.count(model.path) == expected
    _HEARS.clear()
    words = [f"t{number}" for number in range(32)]
    words[20] = "t3"
    twins = read(tmp_path, tiny(**{"tokenizer.ggml.tokens": words}))
    assert twins.path == model.path
    with pytest.raises(ReadError, match="token 20 equals"):
        readers.audit_vocabulary(twins)
    Path(model.path).unlink()
    with pytest.raises(ReadError):
        readers.audit_vocabulary(model)


def test_big_endian_model_can_be_inspected_but_not_loaded(tmp_path: Path) -> None:
    model = read(tmp_path, tiny(), big_endian=True)
    assert "big-endian" in model.notes[0]
    with pytest.raises(ReadError) as caught:
        Readers({}, tmp_path, tmp_path).audit_vocabulary(model)
    assert caught.value.code == "big_endian"


def split(tmp_path: Path, count: int = 3, tensors: int | None = None) -> list[Path]:
    known = tiny()
    size = -(-len(known.tensors) // count)
    paths = []
    for part in range(count):
        keys: dict[str, Any] = dict(known.metadata) if part == 0 else {}
        keys |= {"split.no": Typed("uint16", part), "split.count": Typed("uint16", count),
                 "split.tensors.count": Typed("int32", tensors or len(known.tensors))}  # fmt: skip
        path = tmp_path / f"m-{part + 1:05d}-of-{count:05d}.gguf"
        paths.append(write_gguf(path, keys, known.tensors[part * size : (part + 1) * size]))
    return paths


def test_split_model_is_read_from_any_of_its_parts(tmp_path: Path, readers: ModelReader) -> None:
    paths = split(tmp_path)
    for path in paths:
        model = readers.read(str(path))
        assert model.id == "m"
        assert [file.path for file in model.files] == [str(path) for path in paths]
        assert len(model.tensors) == len(tiny().tensors)
        assert {tensor.file_index for tensor in model.tensors} == {0, 1, 2}


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_missing_part_is_named(tmp_path: Path, readers: ModelReader, missing: int) -> None:
    paths = split(tmp_path)
    paths[missing].unlink()
    with pytest.raises(ReadError, match="missing") as caught:
        readers.read(str(paths[2 if missing != 2 else 0]))
    assert caught.value.code == "missing_part"
    assert paths[missing].name in caught.value.message


def test_parts_that_disagree_are_refused(tmp_path: Path, readers: ModelReader) -> None:
    paths = split(tmp_path, tensors=99)
    with pytest.raises(ReadError, match="says 99 tensors"):
        readers.read(str(paths[0]))
    split(tmp_path)
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(ReadError, match="says it is part 3, but its name says 2"):
        readers.read(str(paths[0]))


def test_part_under_another_name_says_that_the_rest_cannot_be_found(tmp_path: Path, readers: ModelReader) -> None:
    path = split(tmp_path)[0].rename(tmp_path / "alone.gguf")
    with pytest.raises(ReadError, match="its name does not say which"):
        readers.read(str(path))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"), (b"GGU", "too_short"), (b"GGUF\x03\0\0\0", "too_short"), (b"\0" * 5000, "all_zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "lfs_pointer"),
        (b"\n<!DOCTYPE html><html>", "html_page"), (b"\x1f\x8b\x08rest", "compressed"),
        (b"PK\x03\x04x.txt", "compressed"),
        (b"7z\xbc\xaf\x27\x1crest", "compressed"), (b"PK\x03\x04" + b"\0" * 26 + b"archive/data.pkl", "pytorch"),
        (b"\x80\x02}q\x00.", "pytorch"), (b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}", "safetensors"),
        (b"tjgg\x01\0\0\0", "old_ggml"), (b"lmgg\0\0\0\0", "old_ggml"), (b"%PDF-1.7\n", "pdf"),
        ("Grüße, hier steht Text\n".encode() * 300, "text_file"), (b"\x01\x02\x03\x04\xff\xfe", "not_gguf"),
    ],
)  # fmt: skip
def test_file_that_is_something_else_gets_its_own_sentence(
    tmp_path: Path, readers: ModelReader, data: bytes, code: str
) -> None:
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(ReadError) as caught:
        readers.read("m.gguf")
    assert caught.value.code == code
    assert caught.value.hint


def test_what_is_no_model_is_not_offered_in_place_of_one(tmp_path: Path, readers: ModelReader) -> None:
    (tmp_path / "noxfile.py").touch()
    (tmp_path / "qwen-models").mkdir()
    for missing, hint in (
        ("nofile.gguf", "check the path"),
        ("qwen-modles.gguf", "check the path"),
        ("qwen-modles", "did you mean qwen-models?"),
    ):
        with pytest.raises(ReadError) as caught:
            readers.read(missing)
        assert caught.value.hint == hint


def test_quotes_that_are_part_of_a_path_are_told(tmp_path: Path, readers: ModelReader) -> None:
    path = tmp_path / "qwen3-4b.gguf"
    write_gguf(path, *tiny())
    for quoted in (f"'{path}'", f'"{path}"'):
        with pytest.raises(ReadError) as caught:
            readers.read(quoted)
        assert caught.value.code == "no_such_file"
        assert caught.value.hint == "the quotes are part of that name: write it without them"


def test_missing_path_names_the_nearest_file(tmp_path: Path, readers: ModelReader) -> None:
    write_gguf(tmp_path / "qwen3-4b.gguf", *tiny())
    with pytest.raises(ReadError) as caught:
        readers.read("qwen3-4B-.gguf")
    assert (caught.value.code, caught.value.hint) == ("no_such_file", "did you mean qwen3-4b.gguf?")
    with pytest.raises(ReadError, match="there is no folder"):
        readers.read("nowhere/m.gguf")
    (tmp_path / "l.gguf").symlink_to("gone")
    with pytest.raises(ReadError, match="a symbolic link to gone"):
        readers.read("l.gguf")
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    with pytest.raises(ReadError) as caught:
        readers.read("loop.gguf")
    assert caught.value.code == "bad_link"


@pytest.mark.parametrize("path", ["a\0b.gguf", "x" * 5000, "/dev/null", "/proc/self/mem", "", "m.gguf/x"])
def test_odd_path_is_refused_in_words(readers: ModelReader, tmp_path: Path, path: str) -> None:
    write_gguf(tmp_path / "m.gguf", *tiny())
    with pytest.raises(ReadError):
        readers.read(path)
    findings = readers.find([path], [])
    assert path == "" or findings.problems or findings.models


def test_folder_lists_what_is_in_it(tmp_path: Path, readers: ModelReader) -> None:
    write_gguf(tmp_path / "d" / "m.gguf", *tiny())
    (tmp_path / "e").mkdir()
    with pytest.raises(ReadError, match=r"name one of the files in it: m\.gguf"):
        readers.read("d")
    with pytest.raises(ReadError, match="a folder without a GGUF"):
        readers.read("e")
    (tmp_path / "e" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ReadError, match=r"a folder with a model in safetensors.*convert_hf_to_gguf"):
        readers.read("e")


def test_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path, readers: ModelReader) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(ReadError) as caught:
        readers.read("m.gguf")
    assert caught.value.code == "not_a_file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_told(tmp_path: Path, readers: ModelReader) -> None:
    path = write_gguf(tmp_path / "m.gguf", *tiny())
    path.chmod(stat.S_IWUSR)
    with pytest.raises(ReadError) as caught:
        readers.read("m.gguf")
    assert caught.value.code == "no_permission"


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_read_or_refused(tmp_path: Path, data: bytes, magic: bool) -> None:
    (tmp_path / "m.gguf").write_bytes((b"GGUF\x03\0\0\0" if magic else b"") + data)
    with pytest.raises(ReadError):
        Readers({}, tmp_path, tmp_path).read("m.gguf")


KEYS = [key for key in tiny().metadata if not key.startswith("tokenizer.ggml.tokens")]
MORE_KEYS = [
    "expert_count", "expert_used_count", "attention.sliding_window", "attention.sliding_window_pattern",
    "nextn_predict_layers", "ssm.conv_kernel", "ssm.inner_size", "full_attention_interval", "pooling_type",
    "attention.recurrent_layers", "attention.shared_kv_layers", "attention.kv_lora_rank", "kda.head_dim",
    "wkv.head_size", "shortconv.l_cache", "attention.key_length_mla",
]  # fmt: skip
ARCHITECTURES = [
    "llama", "qwen35", "gemma3", "mamba2", "bert", "deepseek2", "nemotron_h", "lfm2", "gpt-oss", "rwkv7", "kimi-linear",
    "gemma3n", "llama4", "minimax-01",
]  # fmt: skip
VALUES = st.one_of(
    st.integers(0, 2**32 - 1),
    st.integers(0, 9),
    st.booleans(),
    st.floats(width=32),
    st.text(max_size=8),
    st.lists(st.integers(-9, 99), max_size=4),
    st.builds(lambda number: Typed("uint64", number), st.integers(0, 2**64 - 1)),
    st.lists(st.floats(width=32), min_size=1, max_size=3),
)


@given(
    st.sampled_from(ARCHITECTURES),
    st.dictionaries(st.sampled_from(KEYS + [f"llama.{key}" for key in MORE_KEYS]), VALUES, max_size=5),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_of_keys_are_read_or_refused(tmp_path: Path, arch: str, values: dict[str, Any]) -> None:
    known = tiny()
    keys = {key.replace("llama.", f"{arch}."): value for key, value in (known.metadata | values).items()}
    if "general.architecture" not in values:
        keys["general.architecture"] = arch
    try:
        model = read(tmp_path, Known(keys, known.tensors))
    except ReadError:
        return
    assert len(model.shape.kv_heads) == model.shape.layers + model.shape.nextn_layers


@pytest.mark.parametrize(
    "template",
    [
        "{{ a }}", "{% for m in messages %}{{ m }}{% endfor %}", "{# {{ #}", "{% raw %}{{ {% {% endraw %}", "plain",
        "{{ '}}' ~ \"{%\" }}", "{%- if a -%}{%- elif b -%}{%- else -%}{%- endif -%}", "{% set x %}a{% endset %}",
        "{% macro f(x) -%}{{ {'a': {'b': 1}} }}{%- endmacro %}", "{% generation %}{% endgeneration %}",
        "{{ 'it\\'s' }}",
        "{% for i in range(100000000) %}{% endfor %}x", "}} %}", "{{ 1 if a else 2 }}",
    ],
)  # fmt: skip
def test_good_template_passes(template: str) -> None:
    assert syntax_error(template) is None


@pytest.mark.parametrize(
    "template",
    [
        "{{ a",
        "{% if a",
        "{# x",
        "{% if a %}",
        "{% endif %}",
        "{% for a in b %}{% if c %}{% endfor %}{% endif %}",
        "{% raw %}x",
    ],
)
def test_broken_template_is_told(template: str) -> None:
    assert syntax_error(template)


@given(st.text(alphabet="{}%#'\" \\-abforendiw\n", max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_template_is_judged(template: str) -> None:
    assert syntax_error(template) != ""


@pytest.mark.shared
def test_malformed_files_behave_as_expected(shared: Path, readers: ModelReader) -> None:
    cases = json.loads((shared / "models" / "bad" / "cases.json").read_text(encoding="utf-8"))
    assert len(cases) == 131
    wrong = []
    for name, case in cases.items():
        error = refusal(readers, shared / "models" / "bad" / f"{name}.gguf")
        if not case["expect"].startswith(("accept-or-reject", "reject" if error else "accept")):
            wrong.append(f"{name}: {error or 'accepted'}")
        if error and not error.field and error.offset is None:
            wrong.append(f"{name}: names no place: {error}")
    assert wrong == []


@pytest.mark.shared
def test_twins_of_the_malformed_files_are_caught_by_the_audit(shared: Path, readers: ModelReader) -> None:
    model = readers.read(str(shared / "models" / "bad" / "m37-tokens-duplicate.gguf"))
    with pytest.raises(ReadError, match="equals token"):
        readers.audit_vocabulary(model)


@pytest.mark.shared
def test_trained_models_are_accepted(shared: Path, readers: ModelReader) -> None:
    for path in sorted((shared / "models").glob("*.gguf")):
        model = readers.read(str(path))
        readers.audit_vocabulary(model)
        assert model.notes == (), path.name


def test_tokenizer_of_no_tokens_is_refused(tmp_path: Path) -> None:
    assert (
        refused(tmp_path, tiny(**{"tokenizer.ggml.tokens": Typed("array[string]", [])})).field
        == "tokenizer.ggml.tokens"
    )
    assert len(vocabulary(3)) == 4
