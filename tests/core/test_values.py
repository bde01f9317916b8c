"""The small values: errors, tensor types, models, one answer's figures, quantization mixes."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core import errors
from bercail.core.budget import most_context
from bercail.core.errors import BercailError, EngineError, ReadError, UsageError
from bercail.core.launch import Site
from bercail.core.measure import Turn
from bercail.core.mix import TypeShare, layer_mix, ranges, type_shares
from bercail.core.model import Model, ModelFile, Stored
from bercail.core.quant import CACHE_TYPES, REMOVED_TYPES, TENSOR_TYPES, TENSOR_TYPES_BY_NAME
from fakes.models import a_model, a_tensor, models, some_settings

TREE = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BercailError)]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"(\w+Error)\b.*?(?:exit (\d))?$", errors.__doc__ or "", re.MULTILINE)
    assert {name for name, _ in drawn} == {kind.__name__ for kind in TREE}
    for name, exit_code in drawn[1:]:
        assert getattr(errors, name).exit_code == int(exit_code)


def test_codes_are_stable_words_one_for_each_error() -> None:
    codes = [kind.code for kind in TREE]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)


def test_an_error_says_what_happened_and_what_to_do() -> None:
    error = UsageError("no such thing", hint="look again", code="lost")
    assert (str(error), error.code, UsageError.code) == ("no such thing (look again)", "lost", "usage")
    assert str(BercailError("plain")) == "plain"
    assert EngineError("broke", log_tail=("a", "b")).log_tail == ("a", "b")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "/m/x.gguf: is empty"), ({"field": "tensor count"}, "/m/x.gguf, tensor count: is empty"),
        ({"field": "magic", "offset": 0}, "/m/x.gguf, magic, byte 0: is empty"),
    ],
)  # fmt: skip
def test_a_read_error_names_file_field_and_offset(place: dict[str, object], text: str) -> None:
    error = ReadError("is empty", path="/m/x.gguf", **place)  # type: ignore[arg-type] # a table of keywords
    assert (error.message, error.path) == (text, "/m/x.gguf")


@pytest.mark.parametrize(
    ("name", "bits"),
    [("f32", 32), ("q8_0", 8.5), ("q4_k", 4.5), ("q6_k", 6.5625), ("iq4_xs", 4.25), ("mxfp4", 4.25), ("tq1_0", 1.6875)],
)
def test_bits_per_weight_of_known_types(name: str, bits: float) -> None:
    assert TENSOR_TYPES_BY_NAME[name].bits_per_weight == bits


def test_types_have_one_number_and_name_each_and_none_that_was_removed() -> None:
    assert len(TENSOR_TYPES) == len(TENSOR_TYPES_BY_NAME) == 35
    assert not set(TENSOR_TYPES) & set(REMOVED_TYPES)
    sizes = [TENSOR_TYPES_BY_NAME[name].bits_per_weight for name in CACHE_TYPES]
    assert sizes == sorted(sizes, reverse=True)


def test_a_model_counts_its_tensors_and_files() -> None:
    files = tuple(ModelFile(path=f"/m/{n}", bytes=1000, data_offset=0) for n in range(2))
    model = a_model(tensors=(a_tensor(rows=2), a_tensor(rows=4, kind="q8_0")), files=files)
    assert (model.parameter_count, model.file_bytes) == (256 * 6, 2000)
    assert model.weights_bytes == 256 * 2 * 2 + 256 * 4 * 34 // 32
    assert model.bits_per_weight == model.weights_bytes * 8 / 1536
    assert a_model(tensors=()).bits_per_weight == 0.0


def test_used_context_is_prompt_and_answer_or_unknown() -> None:
    assert Turn(prompt_tokens=10, decode_tokens=5).used_tokens == 15
    assert Turn(prompt_tokens=10).used_tokens is None
    assert Turn(decode_tokens=5).used_tokens is None


def test_the_mix_shows_which_layers_got_more_bits() -> None:
    names = [f"blk.{n}.ffn_down.weight" for n in range(5)]
    kinds = ["q6_k", "q4_k", "q4_k", "q4_k", "q6_k"]
    tensors = [a_tensor(name, kind=kind) for name, kind in zip(names, kinds, strict=True)]
    model = a_model(tensors=(a_tensor("token_embd.weight", kind="q8_0"), *tensors))
    rows = [(row.tensor_class, row.type, row.layers) for row in layer_mix(model)]
    assert rows == [
        ("token_embd.weight", "q8_0", ""), ("ffn_down.weight", "q4_k", "1-3"), ("ffn_down.weight", "q6_k", "0,4"),
    ]  # fmt: skip


def test_types_are_told_largest_first() -> None:
    model = a_model(tensors=(a_tensor("a", kind="q4_k"), a_tensor("b", kind="q4_k"), a_tensor("c", kind="f32")))
    assert [(share.type, share.tensors) for share in type_shares(model)] == [("f32", 1), ("q4_k", 2)]
    assert type_shares(model)[1].bits_per_weight == 4.5
    assert TypeShare(type="f32", tensors=0, weights=0, bytes=0).bits_per_weight == 0.0


@given(models())
def test_shares_and_mix_account_for_every_byte(model: Model) -> None:
    for rows in (type_shares(model), layer_mix(model)):
        assert sum(row.bytes for row in rows) == model.weights_bytes
    assert sum(share.weights for share in type_shares(model)) == model.parameter_count


@given(st.lists(st.integers(0, 200)))
def test_ranges_read_back(numbers: list[int]) -> None:
    back: list[int] = []
    for part in ranges(numbers).split(","):
        first, _, last = part.partition("-")
        back += range(int(first), int(last or first) + 1) if part else []
    assert back == sorted(set(numbers))


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_largest_context_is_a_whole_step_that_fits(limit: int, room: int) -> None:
    found = most_context(lambda context: context <= room, limit)
    assert found == min(limit, room) // 256 * 256


def test_a_slot_has_its_share_or_the_pool() -> None:
    assert some_settings(context_tokens=8192, slots=4).slot_context_tokens == 2048
    assert some_settings(context_tokens=8192, slots=4, kv_unified=True).slot_context_tokens == 8192


def test_a_server_elsewhere_is_told_as_its_address() -> None:
    assert str(Site(authority="gpu.lan:8000", tls=True, prefix="/api")) == "https://gpu.lan:8000/api"
    assert str(Site(authority="gpu.lan:8000")) == "http://gpu.lan:8000"


def test_the_weights_of_a_model_whose_tensors_are_not_listed_are_those_stored() -> None:
    assert replace(a_model(), tensors=(), stored=Stored(bytes=10, weights=7)).parameter_count == 7
