"""``suffix`` in ``/v1/completions``: the gap is filled, or the request is refused by that name."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from bercail.core.gap import MARKS
from bercail.core.model import Capability
from bercail.core.route import Phase
from fakes.bench import Bench
from fakes.host import FakeHost, served
from fakes.upstream import FakeUpstream, Scripted

PATH = "/v1/completions"
GAP = {"model": "tiny", "prompt": "a", "suffix": "b"}
END = {"choices": [{"text": "", "index": 0, "finish_reason": "stop"}], "timings": {"prompt_n": 7, "predicted_n": 1}}
SAID = {"choices": [{"text": "x", "index": 0, "finish_reason": None}]}


def tokens(*found: int) -> Scripted:
    return Scripted(pieces=[json.dumps({"tokens": found}).encode()])


def stream() -> Scripted:
    return Scripted(
        pieces=[*(b"data: " + json.dumps(one).encode() + b"\n\n" for one in (SAID, END)), b"data: [DONE]\n\n"]
    )


MADE = (tokens(7, 8, 9), tokens(1, 7, 8, 9), tokens(20, 21), tokens(30))
"""How a model of the first family reads its marks, its marks as a prompt, and both sides."""


def bench(*answers: Scripted, **model: Any) -> Bench:
    return Bench(host=FakeHost(known=[served(**model)]), upstream=FakeUpstream(*answers))


def asked(one: Bench) -> Sequence[tuple[str, Any]]:
    return [(each.target, json.loads(each.body)) for each in one.upstream.asked]


def test_the_engine_completes_a_prompt_of_both_sides() -> None:
    one = bench(*MADE, stream())
    client = one.post(PATH, GAP | {"max_tokens": 5})
    assert (client.status, client.json["choices"][0]["text"]) == (200, "x")
    *questions, (target, sent) = asked(one)
    assert [(path, body["content"]) for path, body in questions] == [
        ("/tokenize", MARKS[0]), ("/tokenize", MARKS[0]), ("/tokenize", "a"), ("/tokenize", "b"),
    ]  # fmt: skip
    assert [(body["add_special"], body["parse_special"]) for _, body in questions] == [
        (False, True), (True, True), (False, False), (False, False),
    ]  # fmt: skip
    assert target == PATH
    assert (sent["prompt"], sent["max_tokens"]) == ([1, 7, 20, 21, 8, 30, 9], 5)
    assert "suffix" not in sent


def test_a_stream_of_it_is_that_of_any_completion() -> None:
    client = bench(*MADE, stream()).post(PATH, GAP | {"stream": True})
    assert (client.headers["content-type"], client.events[-1], client.complete) == ("text/event-stream", "[DONE]", True)


def test_other_families_write_their_marks_otherwise() -> None:
    other = (tokens(*range(20)), tokens(1, *range(20)), tokens(4, 5, 6), tokens(4, 5, 6))
    one = bench(*other, tokens(), tokens(30), stream())
    assert one.post(PATH, {"suffix": "b"}).status == 200
    assert asked(one)[-1][1]["prompt"] == [4, 5, 30, 6]


def test_a_model_that_learned_to_fill_no_gaps_is_told_as_that() -> None:
    one = bench(*(tokens(*range(20)) for _ in range(2 * len(MARKS))))
    client = one.post(PATH, GAP)
    assert (client.status, client.error["param"], client.error["code"]) == (400, "suffix", "infill_unsupported")
    assert "tiny fills no gaps" in client.error["message"]


@pytest.mark.parametrize(
    "answer", [Scripted(status=404), Scripted(pieces=[b"{}"]), Scripted(pieces=[b'{"tokens":["x"]}'])]
)
def test_an_engine_that_does_not_tell_tokens_is_told_as_that(answer: Scripted) -> None:
    client = bench(answer).post(PATH, GAP)
    assert (client.status, client.error["param"]) == (501, "suffix")


def test_an_engine_that_knows_no_gaps_is_told_before_it_is_loaded() -> None:
    one = bench(engine="openvino", phase=Phase.UNLOADED)
    client = one.post(PATH, GAP)
    assert (client.status, client.error["param"]) == (501, "suffix")
    assert "llama.cpp does" in client.error["message"]
    assert one.host.granted == 0


def test_a_server_that_is_not_known_gets_the_suffix_itself() -> None:
    one = bench(Scripted(pieces=[b'{"choices":[{"text":"z"}]}']), plain=True)
    assert one.post(PATH, GAP).json["choices"][0]["text"] == "z"
    assert asked(one) == [(PATH, GAP)]


@pytest.mark.parametrize("suffix", [None, ""])
def test_no_suffix_is_no_gap(suffix: str | None) -> None:
    one = bench(stream(), capabilities=(Capability.COMPLETION,))
    assert one.post(PATH, GAP | {"suffix": suffix}).status == 200
    assert [target for target, _ in asked(one)] == [PATH]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"suffix": 7}, "suffix must be a text, not a number"),
        ({"suffix": ["b"]}, "suffix must be a text, not a list"),
        ({"prompt": ["a"]}, "prompt must be a text where there is a suffix, not a list"),
    ],
)
def test_what_is_of_another_type_is_refused_by_name(wrong: dict[str, Any], words: str) -> None:
    client = bench().post(PATH, GAP | wrong)
    assert (client.status, client.error["message"]) == (400, words)
