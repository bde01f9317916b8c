"""What our own workers say over HTTP, around a library that says what it is told to."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bercail.engines.generating import Hears
from bercail.engines.interface import Interface, Library
from bercail.engines.question import Question

MARK = 7
"""A token that stands for no text."""
EURO = "\N{EURO SIGN}".encode()


class Toy:
    """Token ids are bytes; it repeats the end of its prompt, backwards."""

    name = "toy 1"
    context_tokens = 32
    lacks = frozenset(("logprobs", "tools", "grammar", "logit_bias", "n"))

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], int, Question]] = []
        self.hearers: list[Hears] = []
        self.cancelled = 0
        self.silent = False
        self.marks = 0

    def chat_ids(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        if messages[0]["role"] == "alien":
            raise ValueError("no such role")
        return list("".join(message["content"] for message in messages).encode())

    def text_ids(self, text: str, *, special: bool = True) -> list[int]:
        return [MARK] * special * self.marks + list(text.encode())

    def text_of(self, ids: Sequence[int], *, special: bool = False) -> str:
        return bytes(one for one in ids if one != MARK or special).decode(errors="replace")

    def begin(self, ids: Sequence[int], most: int, question: Question, hearer: Hears) -> Callable[[], None]:
        self.asked.append((list(ids), most, question))
        self.hearers.append(hearer)
        said = list(ids)[:most]
        if not self.silent:
            hearer.begun(2)
        for place, token in enumerate(said) if not self.silent else ():
            last = place == len(said) - 1
            hearer.heard([token], ("length" if len(said) == most else "stop") if last else None)

        def cancel() -> None:
            self.cancelled += 1

        return cancel


def call(toy: Library, method: str, path: str, body: object = None, *, leaves: bool = False) -> tuple[int, bytes]:
    """Status and body of one request."""

    async def story() -> tuple[int, bytes]:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        messages: list[dict[str, Any]] = [{"type": "http.request", "body": content[:5], "more_body": True},
                    {"type": "http.request", "body": content[5:]}]  # fmt: skip
        status, out = 0, b""

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            if not leaves:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status, out
            status = message.get("status", status)
            out += message.get("body", b"")

        await Interface(toy, "m")({"type": "http", "method": method, "path": path}, receive, send)
        return status, out

    return asyncio.run(story())


def answered(toy: Toy, path: str, body: object) -> dict[str, Any]:
    status, answer = call(toy, "POST", path, body)
    assert status == 200, answer
    found: dict[str, Any] = json.loads(answer)
    return found


def streamed(toy: Toy, path: str, body: dict[str, object]) -> list[dict[str, Any]]:
    status, answer = call(toy, "POST", path, {**body, "stream": True})
    assert status == 200
    *events, last = answer.decode().strip().split("\n\n")
    assert last == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_an_answer_at_once_with_its_counts() -> None:
    toy = Toy()
    found = answered(toy, "/v1/completions", {"prompt": "abcdef", "max_tokens": 4})
    assert (found["choices"][0]["text"], found["choices"][0]["finish_reason"]) == ("abcd", "length")
    assert found["usage"]["completion_tokens"] == 4
    assert (found["timings"]["cache_n"], found["timings"]["prompt_n"]) == (2, 4)
    chat = answered(toy, "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
    assert chat["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    assert chat["choices"][0]["finish_reason"] == "stop"
    assert toy.asked[1][1] == 30  # what is left of the context
    native = answered(toy, "/completion", {"prompt": [97, 98], "n_predict": 1})
    assert (native["content"], native["tokens_predicted"]) == ("a", 1)
    assert toy.cancelled == 3


def test_a_stream_tells_progress_pieces_an_end_and_counts() -> None:
    body: dict[str, object] = {
        "messages": [{"role": "user", "content": "abc"}], "return_progress": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    begin, read, role, *pieces, end, counts = streamed(Toy(), "/v1/chat/completions", body)
    assert begin["prompt_progress"]["processed"] == 2
    assert read["prompt_progress"]["processed"] == read["prompt_progress"]["total"] == 3
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert [piece["choices"][0]["delta"]["content"] for piece in pieces] == ["a", "b", "c"]
    assert end["choices"][0] == {"index": 0, "finish_reason": "stop", "delta": {}}
    assert counts["choices"] == []
    assert counts["usage"]["total_tokens"] == 6


def test_time_in_a_line_is_no_progress_and_none_of_the_prompt() -> None:
    """Nothing is told before a place is found, for only then it is known what need not be computed."""
    toy, sent = Toy(), list[bytes]()
    toy.silent = True

    async def story() -> float:
        loop, begun_s = asyncio.get_running_loop(), 0.0
        body = {"prompt": "abc", "stream": True, "return_progress": True, "stream_options": {"include_usage": True}}
        messages: list[dict[str, Any]] = [{"type": "http.request", "body": json.dumps(body).encode()}]

        def seat() -> None:
            nonlocal begun_s
            assert sent == [b""]
            begun_s = time.monotonic()
            (hearer,) = toy.hearers
            hearer.begun(1)
            hearer.heard([97], "stop")

        async def receive() -> dict[str, Any]:
            if not messages:
                await asyncio.Event().wait()
            return messages.pop()

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))
            if message["type"] == "http.response.start":
                loop.call_later(0.05, seat)

        await Interface(toy, "m")({"type": "http", "method": "POST", "path": "/v1/completions"}, receive, send)
        return time.monotonic() - begun_s

    since_s = asyncio.run(story())
    events = [json.loads(one.removeprefix("data: ")) for one in b"".join(sent).decode().split("\n\n")[:-2]]
    assert events[0]["prompt_progress"]["cache"] == events[0]["prompt_progress"]["processed"] == 1
    assert events[-1]["timings"]["cache_n"] == 1
    assert events[-1]["timings"]["prompt_ms"] <= since_s * 1000


def test_characters_come_whole() -> None:
    pieces = [
        event["choices"][0]["text"] for event in streamed(Toy(), "/v1/completions", {"prompt": "a\N{EURO SIGN}b"})
    ]
    assert pieces == ["a", "\N{EURO SIGN}", "b", ""]
    cut = answered(Toy(), "/v1/completions", {"prompt": list(b"a" + EURO), "max_tokens": 2})
    assert cut["choices"][0]["text"] == "a\N{REPLACEMENT CHARACTER}"


def test_a_stop_string_ends_the_answer() -> None:
    toy = Toy()
    found = answered(toy, "/v1/completions", {"prompt": "abcdef", "stop": "cd"})
    assert (found["choices"][0]["text"], found["choices"][0]["finish_reason"]) == ("ab", "stop")
    assert toy.cancelled == 2  # as soon as it came, and once more at the end
    assert answered(Toy(), "/v1/completions", {"prompt": "abc", "stop": ["cx", ""]})["choices"][0]["text"] == "abc"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_who_wants_to_know_is_told_which_stop_string_it_was(path: str) -> None:
    said = {"prompt": "abcdef", "messages": [{"role": "user", "content": "abcdef"}]}
    asked: dict[str, Any] = {**said, "stop": ["ef", "cd", "d"], "verbose": True}
    if path == "/v1/completions":
        del asked["messages"]
    assert answered(Toy(), path, asked)["__verbose"] == {"stopping_word": "cd"}
    assert [one["__verbose"]["stopping_word"] for one in streamed(Toy(), path, asked) if "__verbose" in one] == ["cd"]
    assert answered(Toy(), path, {**asked, "stop": ["x"]})["__verbose"] == {"stopping_word": ""}
    assert "__verbose" not in answered(Toy(), path, {**asked, "verbose": False})
    assert answered(Toy(), "/completion", {"prompt": "abc", "stop": "b"})["stopping_word"] == "b"


def test_parts_of_a_message_are_lines_of_it_and_only_text_is_read() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    found = answered(Toy(), "/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]})
    assert found["choices"][0]["message"]["content"] == "a\nb"
    for part in ({"type": "image_url", "image_url": {}}, {"type": "text"}, 5):
        status, told = call(
            Toy(), "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": [*parts, part]}]}
        )
        assert (status, "reads text alone" in json.loads(told)["error"]["message"]) == (400, True)


def test_tokens_are_counted_as_they_are_read() -> None:
    toy = Toy()
    toy.marks = 1
    messages = {"messages": [{"role": "user", "content": "abc"}], "max_tokens": 1}
    counted = answered(toy, "/v1/chat/completions/input_tokens", messages)
    assert counted == {"input_tokens": 3, "object": "response.input_tokens"}
    assert answered(toy, "/tokenize", {"content": "ab"}) == {"tokens": [97, 98]}
    assert answered(toy, "/tokenize", {"content": "ab", "add_special": True}) == {"tokens": [MARK, 97, 98]}
    assert answered(toy, "/detokenize", {"tokens": [97, MARK]}) == {"content": "a\a"}
    assert not toy.asked
    for path in ("/tokenize", "/detokenize"):
        status, told = call(toy, "POST", path, {"content": 5, "tokens": 5})
        assert (status, "parse error" in json.loads(told)["error"]["message"]) == (400, True)
    status, _ = call(toy, "POST", "/v1/chat/completions/input_tokens", {"messages": [], "tools": [1]})
    assert status == 400


def test_a_client_that_leaves_ends_the_work() -> None:
    toy = Toy()
    toy.silent = True
    assert call(toy, "POST", "/v1/completions", {"prompt": "abc"}, leaves=True) == (0, b"")
    assert toy.cancelled == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/completions", {"prompt": "x" * 32}, 400, "exceeds the available context size (32 tokens)"),
        ("/v1/completions", {"prompt": "x", "logprobs": 2}, 400, "toy 1 has no logprobs"),
        ("/v1/completions", {"prompt": "x", "n": 2, "grammar": "g"}, 400, "toy 1 has no grammar, n"),
        ("/v1/completions", {"prompt": {}}, 400, "parse error"),
        ("/v1/completions", b"\xff", 400, "parse error"),
        ("/v1/chat/completions", {"messages": [{"role": "alien", "content": ""}]}, 400, "no such role"),
        ("/v1/embeddings", {"input": "x"}, 501, "not to embed"),
        ("/elsewhere", {}, 404, "File Not Found"),
    ],
)
def test_what_cannot_be_done_is_told(path: str, body: object, status: int, words: str) -> None:
    found, answer = call(Toy(), "POST", path, body)
    assert found == status
    error = json.loads(answer)["error"]
    assert words in error["message"]
    assert error["code"] == status


def test_an_overflow_tells_its_numbers() -> None:
    _, answer = call(Toy(), "POST", "/v1/completions", {"prompt": "x" * 40})
    error = json.loads(answer)["error"]
    assert (error["type"], error["n_prompt_tokens"], error["n_ctx"]) == ("exceed_context_size_error", 40, 32)


def test_health_and_what_it_lacks() -> None:
    assert call(Toy(), "GET", "/health") == (200, b'{"status":"ok"}')
    _, answer = call(Toy(), "GET", "/v1/models")
    (model,) = json.loads(answer)["data"]
    assert model["id"] == "m"
    assert model["meta"] == {"n_ctx": 32, "lacks": sorted(Toy.lacks)}


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        (None, None), ({"type": "text"}, None), ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}, {"type": "array"}),
        ({"type": "json_object", "schema": {"type": "string"}}, {"type": "string"}),
    ],
)  # fmt: skip
def test_what_an_answer_must_look_like(form: dict[str, Any] | None, schema: dict[str, Any] | None) -> None:
    toy = Toy()
    answered(toy, "/v1/completions", {"prompt": "x", "response_format": form})
    found = toy.asked[0][2].schema
    assert (json.loads(found) if found else None) == schema
