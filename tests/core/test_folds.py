from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.dialect import Shape
from bercail.core.errors import EngineError
from bercail.core.folds import StreamFold, arguments_of, fold_of

START: dict[str, Any] = {
    "type": "message_start",
    "message": {"id": "m", "role": "assistant", "content": [], "usage": {"input_tokens": 5, "output_tokens": 0}},
}
END: list[dict[str, Any]] = [
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
]


def state(fold: StreamFold) -> tuple[bool, bool]:
    return fold.begun, fold.complete


def block(at: int, begin: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": at, "content_block": begin},
        *({"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": at},
    ]


def test_a_message_is_folded_block_by_block() -> None:
    fold = fold_of(Shape.MESSAGES)
    fold.add(START)
    assert state(fold) == (False, False)
    events = [
        {"type": "ping"},
        *block(
            0,
            {"type": "thinking", "thinking": ""},
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": "s"},
        ),
        *block(
            1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "a"}, {"type": "text_delta", "text": "b"}
        ),
        *block(
            2,
            {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"x"'},
            {"type": "input_json_delta", "partial_json": ":1}"},
        ),
        *END,
    ]
    for event in events:
        fold.add(event)
    assert state(fold) == (True, True)
    assert fold.counts() == (5, 7)
    assert fold.answer() == {
        "id": "m", "role": "assistant", "stop_reason": "tool_use", "usage": {"input_tokens": 5, "output_tokens": 7},
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "ab"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
        ],
    }  # fmt: skip


def test_arguments_that_are_no_json_are_an_error_not_a_loss() -> None:
    assert arguments_of(" ") == {}
    fold = fold_of(Shape.MESSAGES)
    for event in block(0, {"type": "tool_use"}, {"type": "input_json_delta", "partial_json": '{"x'}):
        fold.add(event)
    with pytest.raises(EngineError, match="not JSON") as refused:
        fold.answer()
    assert refused.value.code == "tool_arguments"


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_the_last_event_of_a_response_is_the_answer(kind: str) -> None:
    fold = fold_of(Shape.RESPONSES)
    fold.add({"type": "response.created", "response": {"id": "r"}})
    assert state(fold) == (False, False)
    fold.add({"type": "response.output_text.delta", "delta": "a"})
    assert state(fold) == (True, False)
    assert fold.counts() is None
    fold.add(
        {"type": f"response.{kind}", "response": {"id": "r", "x": 1}, "timings": {"prompt_n": 3, "predicted_n": 4}}
    )
    assert state(fold) == (True, True)
    assert fold.answer() == {"id": "r", "x": 1}
    assert fold.counts() == (3, 4)


def test_chunks_of_a_native_completion_become_its_single_answer() -> None:
    fold = fold_of(Shape.NATIVE)
    fold.add({"content": "", "stop": False})
    assert state(fold) == (False, False)
    fold.add({"content": "a", "stop": False})
    assert state(fold) == (True, False)
    fold.add({"content": "b", "stop": True, "timings": {"prompt_n": 1, "predicted_n": 2},
              "generation_settings": {"stream": True, "seed": 1}})  # fmt: skip
    assert state(fold) == (True, True)
    assert fold.counts() == (1, 2)
    answer = fold.answer()
    assert answer["content"] == "ab"
    assert answer["generation_settings"] == {"stream": False, "seed": 1}
    bare = fold_of(Shape.NATIVE)
    bare.add({"content": 5, "stop": True})
    assert bare.answer() == {"content": "", "stop": True}


EVENT = st.dictionaries(
    st.sampled_from(["type", "index", "delta", "content_block", "message", "usage", "response", "content", "stop"]),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.just({"text": "x"}),
        st.just({"partial_json": "1"}),
        st.sampled_from(
            ["message_start", "content_block_start", "content_block_delta", "message_delta", "response.completed"]
        ),
    ),
)


@given(st.sampled_from(Shape), st.lists(EVENT))
def test_no_stream_makes_a_fold_break(shape: Shape, events: list[dict[str, Any]]) -> None:
    fold = fold_of(shape)
    for event in events:
        fold.add(event)
    fold.counts()
    with suppress(EngineError):  # arguments that are no JSON
        assert isinstance(fold.answer(), dict)
