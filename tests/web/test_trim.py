"""Prompts that are too long for an engine that counts a token for every letter."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from bercail.core.access import ID_BYTES, SECRET_BYTES, KeyWish, mint
from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.options import ServerOptions
from bercail.core.overflow import Overflow
from bercail.ports import Tunnel
from bercail.web.app import App
from bercail.web.gate import Gate
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.house import FakeKeyring, FakeLedger
from fakes.loop import run
from fakes.upstream import Asked, Scripted

CHAT = "/v1/chat/completions"
CONTEXT = 100
COUNTERS = ("/v1/chat/completions/input_tokens", "/v1/messages/count_tokens", "/v1/responses/input_tokens")


def letters(body: dict[str, Any]) -> int:
    said = body.get("prompt") or body.get("messages") or body["input"]
    if isinstance(said, list) and isinstance(said[0], dict):
        said = "".join(str(one.get("content")) for one in said)
    return len(said)


def event(data: dict[str, Any], name: str = "") -> bytes:
    return (
        (f"event: {name}\n" if name else "").encode()
        + b"data: "
        + json.dumps(data, separators=(",", ":")).encode()
        + b"\n\n"
    )


@dataclass
class Engine:
    """Refuses what has more letters than its context, and counts letters.

    Attributes:
        counts: it tells how many tokens a request has.
    """

    counts: bool = True
    asked: list[Asked] = field(default_factory=list)

    async def send(
        self, address: Address, method: str, target: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> Scripted:
        self.asked.append(Asked(address=address, method=method, target=target, headers=list(headers), body=body))
        found = json.loads(body)
        if target in (*COUNTERS, "/tokenize", "/detokenize") and not self.counts:
            return Scripted(pieces=[b"{}"], status=404)
        if target in COUNTERS:
            return Scripted(pieces=[json.dumps({"input_tokens": letters(found)}).encode()])
        if target == "/tokenize":
            return Scripted(pieces=[json.dumps({"tokens": list(map(ord, found["content"]))}).encode()])
        if target == "/detokenize":
            return Scripted(pieces=[json.dumps({"content": "".join(map(chr, found["tokens"]))}).encode()])
        if (tokens := letters(found)) >= CONTEXT:
            error = {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": tokens, "n_ctx": CONTEXT}
            return Scripted(pieces=[json.dumps({"error": error}).encode()], status=400)
        return Scripted(pieces=_answer(target, tokens))

    async def tunnel(self, address: Address, target: str, headers: Sequence[tuple[bytes, bytes]]) -> Tunnel:
        raise EngineError("no websockets are played here")

    async def close(self) -> None:
        pass


def _answer(target: str, tokens: int) -> list[bytes]:
    usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
    if target == "/v1/messages":
        start = event({"type": "message_start", "message": {"usage": {"input_tokens": tokens}}}, "message_start")
        delta = event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 1}}, "message_delta")
        return [start, delta, event({"type": "message_stop"}, "message_stop")]
    if target == "/v1/responses":
        return [event({"type": "response.completed", "response": {"usage": {"input_tokens": tokens}}},
                      "response.completed")]  # fmt: skip
    if target == "/completion":
        return [event({"content": "hi", "stop": True})]
    choice = {"index": 0, "text": "hi", "delta": {"content": 'a "usage" {}'}, "finish_reason": None}
    last = {"index": 0, "text": "", "delta": {}, "finish_reason": "stop"}
    return [event({"choices": [choice]}), event({"choices": [last]}), event({"choices": [], "usage": usage}),
            b"data: [DONE]\n\n"]  # fmt: skip


def conversation(*letters: int) -> list[dict[str, str]]:
    """A system prompt, then a user and a model in turn, with so many letters each."""
    roles = ["system", *(["user", "assistant"] * len(letters))]
    return [{"role": role, "content": role[0] * count} for role, count in zip(roles, letters, strict=False)]


LONG = conversation(10, 20, 20, 20, 20, 20, 20, 20)
POLICY: dict[str, Any] = {"overflow": Overflow.TRIM_OLDEST}


def play(path: str, body: dict[str, Any], engine: Engine | None = None, **model: object) -> tuple[Client, Engine, App]:
    engine = engine or Engine()
    host = FakeHost(known=[served(**(POLICY | model))])
    app = App(host, engine, ServerOptions(), lambda: 0.0)
    client = Client(app)

    async def scene() -> None:
        await client.post(path, body)

    run(scene)
    assert host.out == 0
    return client, engine, app


def test_nothing_is_trimmed_unless_a_policy_asks() -> None:
    client, engine, _ = play(CHAT, {"messages": LONG}, overflow=None)
    assert (client.status, client.error["code"]) == (400, "context_length_exceeded")
    assert [one.target for one in engine.asked] == [CHAT]


def test_what_fits_is_sent_once_and_not_counted() -> None:
    client, engine, _ = play(CHAT, {"messages": conversation(5, 5)})
    assert client.status == 200
    assert [one.target for one in engine.asked] == [CHAT]
    assert "x-bercail-trimmed" not in client.headers
    assert "trimmed_tokens" not in client.json["usage"]


def test_the_oldest_turns_go_and_the_answer_says_how_much() -> None:
    client, engine, app = play(CHAT, {"messages": LONG, "max_tokens": 10})
    assert client.headers["x-bercail-trimmed"] == "messages=4, tokens=80"
    assert client.json["usage"]["prompt_tokens"] == 70
    assert (client.json["usage"]["trimmed_tokens"], client.json["usage"]["trimmed_messages"]) == (80, 4)
    sent = json.loads(engine.asked[-1].body)
    assert sent["messages"] == [LONG[0], *LONG[5:]]
    assert sent["max_tokens"] == 10
    assert b'trimmed_tokens_total{model="tiny"} 80' in app.metrics.text(())


def test_room_for_the_answer_is_a_wish_and_what_just_fits_is_sent() -> None:
    client, _, _ = play(CHAT, {"messages": conversation(90, 9, 9, 9)})
    assert (client.status, client.json["usage"]["prompt_tokens"]) == (200, 99)


def test_the_middle_goes_and_the_first_exchange_stays() -> None:
    client, engine, _ = play(CHAT, {"messages": LONG, "max_tokens": 1}, overflow=Overflow.TRIM_MIDDLE)
    assert client.headers["x-bercail-trimmed"] == "messages=4, tokens=80"
    assert json.loads(engine.asked[-1].body)["messages"] == [*LONG[:3], *LONG[7:]]


def test_a_stream_says_it_in_its_last_counts_and_in_a_header() -> None:
    client, _, _ = play(CHAT, {"messages": LONG, "stream": True, "stream_options": {"include_usage": True}})
    assert client.headers["x-bercail-trimmed"] == "messages=4, tokens=80"
    *_, last, done = client.events
    assert json.loads(last)["usage"]["trimmed_tokens"] == 80
    assert done == "[DONE]"
    assert sum("trimmed" in one for one in client.events) == 1


def test_a_stream_whose_headers_have_gone_says_it_in_a_comment() -> None:
    client = Client(App(host := FakeHost(known=[served(**POLICY)]), Engine(), ServerOptions(header_hold=0), lambda: 0))

    async def scene() -> None:
        host.gate = asyncio.Event()
        client.start(CHAT, json.dumps({"messages": LONG, "stream": True}).encode())
        await asyncio.sleep(1)
        host.gate.set()
        await client.end()

    run(scene)
    assert "x-bercail-trimmed" not in client.headers
    assert ": trimmed messages=4, tokens=80" in client.events


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"messages": LONG[1:], "max_tokens": 9}),
        ("/v1/responses", {"input": LONG}),
        ("/v1/completions", {"prompt": "x" * 200, "stream_options": {"include_usage": True}}),
        ("/completion", {"prompt": "x" * 200}),
        ("/api/chat", {"model": "tiny", "messages": LONG}),
    ],
)
def test_every_dialect_says_it_beside_its_counts(path: str, body: dict[str, Any], stream: bool) -> None:
    client, _, app = play(path, body | {"stream": stream})
    assert client.status == 200, client.body
    assert client.headers["x-bercail-trimmed"].startswith("messages=")
    assert b'"trimmed_tokens":' in client.body
    assert b"trimmed_tokens_total{" in app.metrics.text(())


def test_texts_are_cut_by_whole_tokens() -> None:
    text = "".join(map(chr, range(1000, 1200)))
    client, engine, _ = play("/v1/completions", {"prompt": text, "max_tokens": 20})
    assert client.headers["x-bercail-trimmed"] == "messages=0, tokens=120"
    assert json.loads(engine.asked[-1].body)["prompt"] == text[-80:]
    client, engine, _ = play("/v1/completions", {"prompt": text}, overflow=Overflow.TRIM_MIDDLE)
    assert json.loads(engine.asked[-1].body)["prompt"] == text[:37] + text[-38:]
    client, engine, _ = play("/completion", {"prompt": list(range(200))})
    assert json.loads(engine.asked[-1].body)["prompt"] == list(range(125, 200))


@pytest.mark.parametrize(
    ("path", "body", "counts", "why"),
    [
        (CHAT, {"messages": conversation(90, 90)}, True, "what may not be left out takes 180 tokens alone"),
        (CHAT, {"messages": conversation(90, 9, 9, 10)}, True, "takes 100 tokens"),
        (CHAT, {"messages": LONG}, False, "its engine does not answer /v1/chat/completions/input_tokens"),
        ("/v1/completions", {"prompt": "x" * 200}, False, "its engine does not answer /tokenize"),
        ("/v1/completions", {"prompt": ["x" * 200] * 120}, True, "several prompts"),
        ("/v1/responses", {"input": "x" * 200}, True, None),
        ("/infill", {"prompt": "x" * 200}, True, "requests to /infill are not trimmed"),
    ],
)
def test_what_cannot_be_trimmed_honestly_is_refused_with_the_reason(
    path: str, body: dict[str, Any], counts: bool, why: str | None
) -> None:
    client, engine, _ = play(path, body, Engine(counts=counts), plain=why is None)
    why = why or "what it holds is no list of messages"
    assert (client.status, client.error["code"]) == (400, "context_length_exceeded")
    assert client.error["message"].startswith("This model's maximum context length is 100 tokens. However")
    assert "(overflow: trim-oldest)" in client.error["message"]
    assert why in client.error["message"]
    assert len([one for one in engine.asked if one.target == path]) == 1


def test_a_key_decides_before_the_model_and_the_model_before_the_server() -> None:
    wish = KeyWish(name="k", overflow=Overflow.ERROR)
    key, token = mint(wish, bytes(range(ID_BYTES + SECRET_BYTES)), 0.0)
    keyring = FakeKeyring()
    keyring.add(key)
    ledger = FakeLedger()
    app = App(
        FakeHost(known=[served(**POLICY)]),
        Engine(),
        ServerOptions(),
        lambda: 0.0,
        Gate(keyring, ledger, clock=lambda: 0.0),
    )
    client = Client(app)
    shown = ((b"authorization", b"Bearer " + token.encode()),)

    async def scene() -> None:
        await client.start(CHAT, json.dumps({"messages": LONG}).encode(), headers=shown).end()

    run(scene)
    assert client.status == 400
    general = Client(App(FakeHost(), Engine(), ServerOptions(overflow="trim-oldest"), lambda: 0.0))

    async def other() -> None:
        await general.post(CHAT, {"messages": LONG})

    run(other)
    assert general.status == 200
