"""What a conversation may lose, and what it never does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.overflow import Overflow, decided
from bercail.core.trimming import Trimmed, cut, droppable, note, room, without

OLDEST, MIDDLE = Overflow.TRIM_OLDEST, Overflow.TRIM_MIDDLE
Item = dict[str, Any]


def said(role: str, words: str = "x") -> Item:
    return {"role": role, "content": words}


def calling(*names: str) -> Item:
    return {"role": "assistant", "tool_calls": [{"id": name, "type": "function"} for name in names]}


def result(name: str) -> Item:
    return {"role": "tool", "tool_call_id": name, "content": "r"}


S, U, A = said("system"), said("user"), said("assistant")


@pytest.mark.parametrize(
    ("items", "policy", "parts"),
    [
        ([], OLDEST, []),
        ([S], OLDEST, []),
        ([U], OLDEST, []),
        ([S, U, A, U], Overflow.ERROR, []),
        ([S, U, A, U], OLDEST, [(1, 3)]),
        ([S, U, A, U], MIDDLE, []),
        ([S, U, A, U, A, U], OLDEST, [(1, 3), (3, 5)]),
        ([S, U, A, U, A, U], MIDDLE, [(3, 5)]),
        ([A, U, A, U], OLDEST, [(0, 1), (1, 3)]),
        ([S, U, calling("a"), result("a"), calling("b"), result("b")], OLDEST, [(2, 4)]),
        ([S, U, calling("a"), result("a"), calling("b"), result("b")], MIDDLE, []),
        ([U, calling("a"), result("a"), calling("b"), result("b"), A, U], OLDEST, [(0, 6)]),
        ([U, calling("a"), result("a"), calling("b"), result("b"), calling("c"), result("c")], MIDDLE, [(3, 5)]),
        ([U, calling("a"), U, result("a"), A], OLDEST, []),
        ([U, U, A, U], MIDDLE, []),
        ([U, U, U], MIDDLE, []),
        ([S, A, A], OLDEST, []),
        ([U, {"role": "function", "name": "f"}, A, U], OLDEST, [(0, 3)]),
        (["text", U], OLDEST, [(0, 1)]),
    ],
)
def test_whole_turns_go_first_and_calls_with_their_results(
    items: list[Item], policy: Overflow, parts: list[tuple[int, int]]
) -> None:
    assert [(part.start, part.stop) for part in droppable(items, policy)] == parts


def test_results_of_other_dialects_stay_with_their_calls() -> None:
    use = {"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]}
    used = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}, {"type": "text"}]}
    assert droppable([U, use, used, use, used, use, used], OLDEST) == (range(1, 3), range(3, 5))
    assert droppable([U, use, used, A, use, used], OLDEST) == (range(1, 3),)
    call = {"type": "function_call", "call_id": "c"}
    made = {"type": "function_call_output", "call_id": "c"}
    think = {"type": "reasoning"}
    assert droppable([U, think, call, call, made, made, A, U], OLDEST) == (range(7),)
    assert droppable([U, think, call, made, think, call, made], OLDEST) == (range(1, 4),)


@st.composite
def conversations(draw: st.DrawFn) -> list[Item]:
    """Messages in any order, results only after a call of theirs."""
    items: list[Item] = [S] * draw(st.integers(0, 2))
    names: list[str] = []
    for kind in draw(st.lists(st.sampled_from(["user", "assistant", "call", "result", "system"]), max_size=24)):
        if kind == "call":
            names.append(f"call-{draw(st.integers(0, 3))}")
            items.append(calling(names[-1]))
        elif kind == "result" and names:
            items.append(result(draw(st.sampled_from(names))))
        elif kind != "result":
            items.append(said(kind))
    return items


POLICIES = st.sampled_from((OLDEST, MIDDLE))


def kept_of(items: list[Item], policy: Overflow, gone: int) -> list[int]:
    return [int(str(at)) for at in without(list(range(len(items))), droppable(items, policy)[:gone])]


@given(conversations(), POLICIES, st.integers(0, 24))
def test_the_system_prompt_the_last_message_and_the_last_words_of_the_user_stay(
    items: list[Item], policy: Overflow, gone: int
) -> None:
    kept = set(kept_of(items, policy, gone))
    head = next((at for at, item in enumerate(items) if item["role"] != "system"), len(items))
    users = [at for at, item in enumerate(items) if item["role"] == "user"]
    assert kept >= {*range(head), *users[-1:], *range(len(items))[-1:]}


@given(conversations(), POLICIES, st.integers(0, 24))
def test_a_call_and_its_result_go_together(items: list[Item], policy: Overflow, gone: int) -> None:
    kept = set(kept_of(items, policy, gone))
    calls: dict[str, int] = {}
    for at, item in enumerate(items):
        if item["role"] == "tool":
            assert (calls[item["tool_call_id"]] in kept) == (at in kept)
        calls |= {call["id"]: at for call in item.get("tool_calls", ())}


@given(conversations(), POLICIES)
def test_parts_do_not_overlap_and_each_leaves_less(items: list[Item], policy: Overflow) -> None:
    parts = droppable(items, policy)
    assert sum(map(len, parts)) == len({at for part in parts for at in part})
    assert all(parts)
    assert list(parts) == sorted(parts, key=lambda part: part.start)


@given(conversations())
def test_what_the_middle_loses_the_oldest_may_lose_as_well(items: list[Item]) -> None:
    assert {*droppable(items, MIDDLE)} <= {*droppable(items, OLDEST)}


@given(st.lists(st.integers(), min_size=2, max_size=60), st.integers(1, 59), POLICIES)
def test_a_text_is_cut_to_the_token(tokens: list[int], most: int, policy: Overflow) -> None:
    most = min(most, len(tokens) - 1)
    begin, end = cut(tokens, most, policy)
    assert len(begin) + len(end) == most
    assert tokens[: len(begin)] == begin
    assert tokens[len(tokens) - len(end) :] == end
    assert not begin or policy is MIDDLE


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 75),
        ({"max_tokens": 10}, 90),
        ({"max_tokens": 4000}, 75),
        ({"max_completion_tokens": 5, "max_tokens": None}, 95),
        ({"n_predict": -1}, 75),
        ({"max_tokens": True}, 75),
    ],
)
def test_room_is_left_for_the_answer_but_no_more_than_a_quarter(body: dict[str, object], tokens: int) -> None:
    assert room(body, 100) == tokens


def test_room_is_always_left_for_a_token() -> None:
    assert room({}, 3) == 2


def test_what_was_left_out_stands_beside_the_counts() -> None:
    trimmed = Trimmed(messages=2, tokens=7)
    told = {"trimmed_messages": 2, "trimmed_tokens": 7}
    for answer, place in (
        ({"usage": {"prompt_tokens": 3}}, "usage"),
        ({"message": {"usage": {}}}, "message"),
        ({"response": {"usage": {}}}, "response"),
        ({"stop": True}, ""),
        ({"done": True}, ""),
    ):
        found: dict[str, Any] = answer
        assert note(found, trimmed)
        holder = found[place] if place else found
        assert told.items() <= holder.get("usage", holder).items()
    silent: tuple[dict[str, Any], ...] = ({"usage": None}, {"stop": False}, {"choices": []})
    for one in silent:
        assert not note(one, trimmed)
    assert str(trimmed) == "messages=2, tokens=7"


def test_the_first_who_says_anything_decides() -> None:
    assert decided(None, MIDDLE, OLDEST) is MIDDLE
    assert decided(None, None) is Overflow.ERROR
