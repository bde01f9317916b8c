"""A stream says how it stands with its model, where a configuration wants that. Time is the fake loop's."""

import asyncio
import json
from dataclasses import replace

import pytest

from bercail.core.errors import EngineError
from bercail.core.loading import Wait
from bercail.core.options import ServerOptions
from bercail.core.route import Phase
from bercail.web.app import App
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted

CHAT = "/v1/chat/completions"
ANSWER = b'data: {"choices":[{"index":0,"finish_reason":"stop","delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = b'{"stream":true,"messages":[]}'
OUT = served(phase=Phase.UNLOADED, tells_loading=True)
HALF = Wait(model="", phase=Phase.LOADING, position=2, progress=0.5)


def waits(host: FakeHost, path: str = CHAT, body: bytes = STREAM, *, answer: bytes = ANSWER + DONE) -> Client:
    """A request that waits for 3.5 s; after 1.9 s its model has come further."""
    app = App(host, FakeUpstream(Scripted(pieces=[answer])), ServerOptions(), lambda: asyncio.get_running_loop().time())
    client = Client(app)

    async def scene() -> None:
        client.start(path, body)
        await asyncio.sleep(1.9)
        host.wait = replace(host.wait, position=1, progress=0.9)
        await asyncio.sleep(1.6)
        assert host.gate is not None
        host.gate.set()
        await client.end()

    run(scene)
    assert (host.out, host.waiting) == (0, 0)
    return client


def thoughts(client: Client) -> list[str]:
    deltas = [json.loads(event)["choices"][0]["delta"] for event in client.events if event.startswith("{")]
    return [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta]


def test_a_chat_hears_it_as_reasoning_before_its_answer() -> None:
    client = waits(FakeHost(known=[OUT], gate=asyncio.Event(), wait=HALF))
    assert thoughts(client) == ["Loading tiny: 50 %, number 2 in line\n", "Loading tiny: 90 %\n",
                                "tiny is ready after 3.5 s\n\n"]  # fmt: skip
    assert [moment for moment, _ in client.pieces] == [0.0, 2.0, 3.5, 3.5]
    assert client.body.endswith(ANSWER + DONE)
    assert client.complete


def test_nothing_is_said_where_nobody_wants_it() -> None:
    client = waits(FakeHost(known=[replace(OUT, tells_loading=False)], gate=asyncio.Event(), wait=HALF))
    assert client.body == ANSWER + DONE


def test_a_model_that_is_there_is_not_waited_for_in_words() -> None:
    client = Client(
        App(FakeHost(known=[OUT]), FakeUpstream(Scripted(pieces=[ANSWER + DONE])), ServerOptions(), lambda: 0)
    )

    async def scene() -> None:
        await client.start(CHAT, STREAM).end()

    run(scene)
    assert client.body == ANSWER + DONE


def test_a_slot_that_is_free_within_a_second_takes_no_words() -> None:
    busy = Wait(model="", phase=Phase.LOADED, position=4)
    client = waits(FakeHost(known=[OUT], gate=asyncio.Event(), wait=busy))
    assert client.pieces[0][0] == 1.0
    assert thoughts(client)[0] == "tiny is busy: number 4 in line\n"


def test_a_load_that_fails_is_an_error_event_and_a_broken_connection() -> None:
    refusal = EngineError("it did not start", code="engine_exited")
    client = waits(FakeHost(known=[OUT], gate=asyncio.Event(), wait=HALF, refusal=refusal))
    assert client.status == 200
    assert not client.complete
    assert json.loads(client.events[-1])["error"]["code"] == "engine_exited"
    assert "[DONE]" not in client.events


def test_whoever_never_joined_the_line_keeps_the_status_of_the_refusal() -> None:
    refusal = EngineError("it does not fit", code="no_fit")
    client = Client(App(FakeHost(known=[OUT], refusal=refusal), FakeUpstream(Scripted()), ServerOptions(), lambda: 0))

    async def scene() -> None:
        await client.start(CHAT, STREAM).end()

    run(scene)
    assert (client.status, client.error["code"]) == (503, "no_fit")


def test_a_client_that_leaves_meanwhile_leaves_the_line() -> None:
    host = FakeHost(known=[OUT], gate=asyncio.Event(), wait=HALF)
    app = App(host, FakeUpstream(Scripted()), ServerOptions(), lambda: 0.0)
    client = Client(app)

    async def scene() -> None:
        client.start(CHAT, STREAM)
        await asyncio.sleep(1.5)
        assert (client.status, host.waiting) == (200, 1)
        client.leave()
        await client.end()

    run(scene)
    assert (host.waiting, host.granted) == (0, 0)
    assert not app.turns


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/completions", b": Loading tiny: 50 %, number 2 in line\n\n"),
        ("/v1/messages", b': Loading tiny: 50 %, number 2 in line\n\nevent: ping\ndata: {"type": "ping"}\n\n'),
        ("/v1/responses", b": Loading tiny: 50 %, number 2 in line\n\n"),
    ],
)
def test_other_dialects_hear_it_as_comments(path: str, said: bytes) -> None:
    body = json.dumps(json.loads(STREAM) | {"input": "x"}).encode()
    client = waits(FakeHost(known=[OUT], gate=asyncio.Event(), wait=HALF), path, body)
    assert client.pieces[0] == (0.0, said)


def test_a_reader_of_json_lines_hears_nothing() -> None:
    host = FakeHost(known=[OUT], gate=asyncio.Event(), wait=HALF)
    client = waits(host, "/api/chat", b'{"model":"tiny","messages":[{"role":"user","content":"x"}]}')
    assert client.started_s == 3.5
    assert all(json.loads(line) for line in client.body.splitlines())


def test_who_does_not_read_is_told_no_heap_of_words() -> None:
    """Each word is asked for anew when the last has gone out, so nothing piles up."""
    host = FakeHost(known=[OUT], gate=asyncio.Event(), wait=HALF)
    app = App(host, FakeUpstream(Scripted(pieces=[ANSWER + DONE])), ServerOptions(), lambda: 0.0)
    client, reads = Client(app), asyncio.Event()
    slow = client._send

    async def send(message: object) -> None:
        if client.started_s is not None:
            await reads.wait()
        await slow(message)  # type: ignore[arg-type] # handed on as it came

    client._send = send  # type: ignore[method-assign]

    async def scene() -> None:
        client.start(CHAT, STREAM)
        for share in (0.6, 0.7, 0.8):
            await asyncio.sleep(1)
            host.wait = replace(host.wait, progress=share)
        reads.set()
        await asyncio.sleep(0.5)
        host.gate.set()  # type: ignore[union-attr] # it was given
        await client.end()

    run(scene)
    assert [line.split(",")[0].strip() for line in thoughts(client)] == [
        "Loading tiny: 50 %", "tiny is ready after 0.0 s",
    ]  # fmt: skip
