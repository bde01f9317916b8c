"""The GGUF parser: versions, byte orders, laziness, and refusals that name field and byte."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bercail.core.errors import ReadError
from bercail.core.model import ArraySummary
from bercail.core.quant import TENSOR_TYPES
from bercail.readers import Readers
from bercail.readers.gguf.header import Header, parse
from tools.synth.shapes import tiny
from tools.synth.write import TensorSpec, Typed, Value, layout


def whole(
    metadata: dict[str, Value], tensors: list[TensorSpec] | None = None, *, version: int = 3, big_endian: bool = False
) -> bytes:
    head, _, end = layout(metadata, tensors or [], version=version, big_endian=big_endian)
    return head.ljust(end, b"\0")


def attempt(data: bytes) -> ReadError | None:
    """The refusal; any other exception is a bug."""
    try:
        parse(data, "x.gguf")
    except ReadError as error:
        return error
    return None


def header(metadata: dict[str, Value], tensors: list[TensorSpec] | None = None) -> Header:
    return parse(whole(metadata, tensors), "x.gguf")


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_and_byte_orders_read_alike(version: int, big_endian: bool) -> None:
    known = tiny()
    read = parse(whole(*known, version=version, big_endian=big_endian), "x.gguf")
    assert (read.version, read.big_endian) == (version, big_endian)
    assert read.metadata["llama.context_length"] == 512
    assert read.metadata["tokenizer.ggml.tokens"] == ArraySummary(
        element="string", count=32, offset=read.offsets["tokenizer.ggml.tokens"] + 16
    )
    assert [tensor.name for tensor in read.tensors] == [spec.name for spec in known.tensors]
    assert [tensor.shape for tensor in read.tensors] == [spec.shape for spec in known.tensors]


def test_every_kind_of_value_is_read() -> None:
    metadata: dict[str, Value] = {
        kind: Typed(kind, value)
        for kind, value in (
            ("uint8", 255), ("int8", -1), ("uint16", 65535), ("int16", -2), ("uint32", 2**32 - 1), ("int32", -3),
            ("float32", 0.5), ("bool", True), ("uint64", 2**64 - 1), ("int64", -4), ("float64", 0.1), ("string", "ä"),
        )
    }  # fmt: skip
    read = header({**metadata, "list": [1, -2], "flags": [True, False], "tags": ["a", "b"]})
    assert {key: read.metadata[key] for key in metadata} == {
        key: value.value for key, value in metadata.items() if isinstance(value, Typed)
    }
    assert read.types["uint8"] == "uint8"
    assert (read.metadata["list"], read.types["list"]) == ((1, -2), "array[int32]")
    assert read.metadata["flags"] == (True, False)
    assert read.metadata["tags"] == ("a", "b")


def test_long_arrays_are_measured_not_read() -> None:
    read = header({"numbers": [7] * 1025, "words": ["w"] * 65, "tokenizer.ggml.merges": ["a b"], "short": [7] * 1024})
    assert read.metadata["numbers"] == ArraySummary(element="int32", count=1025, offset=read.offsets["numbers"] + 16)
    assert isinstance(read.metadata["words"], ArraySummary)
    assert isinstance(read.metadata["tokenizer.ggml.merges"], ArraySummary)
    assert isinstance(read.metadata["short"], tuple)


def test_huge_string_is_measured_not_read() -> None:
    read = header({"json": "x" * 1_048_577, "after": 1})
    assert read.metadata["json"] == ArraySummary(element="byte", count=1_048_577, offset=read.offsets["json"] + 12)
    assert read.metadata["after"] == 1


@pytest.mark.parametrize("big_endian", [False, True])
@given(
    lengths=st.lists(st.sampled_from([0, 1, 3, 6, 63, 64, 65, 255, 256, 300]), min_size=1, max_size=20),
    again=st.integers(1, 60),
)
@settings(max_examples=40, deadline=None)
def test_skipping_strings_lands_on_the_next_key(lengths: list[int], again: int, big_endian: bool) -> None:
    words = [b"\0" * length for length in lengths] * again
    read = parse(whole({"words": Typed("array[string]", words), "after": 42}, big_endian=big_endian), "x.gguf")
    assert read.metadata["after"] == 42


@pytest.mark.parametrize("kind", TENSOR_TYPES.values(), ids=lambda kind: str(kind.name))
def test_every_tensor_type_of_the_engine_is_placed(kind: object) -> None:
    name = getattr(kind, "name", "")
    read = header({"a": 1}, [TensorSpec("one", (256, 3), name), TensorSpec("two", (256,), name)])
    assert [tensor.type.name for tensor in read.tensors] == [name, name]
    assert read.tensors[1].offset == read.data_offset + -(-read.tensors[0].bytes // 32) * 32


def test_alignment_of_the_file_is_obeyed() -> None:
    read = header({"general.alignment": 128}, [TensorSpec("a", (1,), "f32"), TensorSpec("b", (1,), "f32")])
    assert read.alignment == 128
    assert read.data_offset % 128 == 0
    assert read.tensors[1].offset - read.tensors[0].offset == 128


def test_lie_in_an_array_of_strings_is_refused_at_its_place() -> None:
    data = bytearray(whole({"words": ["abc"] * 1000, "after": 1}))
    place = data.index(b"words") + 5 + 16 + 700 * 11
    data[place : place + 8] = struct.pack("<Q", 2**62)
    with pytest.raises(ReadError) as caught:
        parse(bytes(data), "x.gguf")
    assert (caught.value.field, caught.value.offset, caught.value.code) == ("words", place, "truncated")


def test_more_strings_than_any_vocabulary_are_refused_before_walking_them() -> None:
    count = 4_194_305
    data = whole({"words": ["x"]})[:-9] + b"\0" * (8 * count)
    place = data.index(b"words") + 5 + 8
    data = data[:place] + struct.pack("<Q", count) + data[place + 8 :]
    with pytest.raises(ReadError, match="more than"):
        parse(data, "x.gguf")


def test_cut_in_the_data_says_which_tensor_and_how_much_is_missing() -> None:
    data = whole({"a": 1}, [TensorSpec("one", (64,), "f32"), TensorSpec("two", (64,), "f32")])
    with pytest.raises(ReadError) as caught:
        parse(data[:-100], "x.gguf")
    assert caught.value.field == "two"
    assert caught.value.offset == len(data) - 100
    assert "100 of" in caught.value.message
    assert "156 of the 256" in caught.value.message


def test_file_without_padding_after_the_last_tensor_is_whole() -> None:
    data = whole({"a": 1}, [TensorSpec("one", (1,), "f32")])
    assert parse(data[:-28], "x.gguf").data_end == len(data) - 28
    with pytest.raises(ReadError, match="incomplete"):
        parse(data[:-1], "x.gguf")


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for head in (b"", b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03"):
        assert attempt(head + data) is None or "x.gguf" in str(attempt(head + data))


GOOD = whole(*tiny())
HEAD = len(layout(*tiny())[0])


@given(
    changes=st.lists(
        st.tuples(st.integers(8, HEAD), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1)), max_size=4
    ),
    end=st.none() | st.integers(0, len(GOOD)),
)
@settings(max_examples=300, deadline=None)
def test_mutated_and_cut_files_are_read_or_refused(changes: list[tuple[int, int, int]], end: int | None) -> None:
    data = bytearray(GOOD)
    for place, width, value in changes:
        data[place : place + width] = (value % 256**width).to_bytes(width, "little")
    error = attempt(bytes(data[:end]))
    assert error is None or (error.offset is not None and 0 <= error.offset <= len(data))


def test_no_number_of_the_file_reserves_memory(tmp_path: Path) -> None:
    # 2^40 strings, keys and tensors in a file that has the room on paper (a hole of 2^43 bytes takes no disk).
    path = tmp_path / "hole.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40))
        file.truncate(2**40)
    with pytest.raises(ReadError, match="key count"):
        Readers({}, tmp_path, tmp_path).read(str(path))
