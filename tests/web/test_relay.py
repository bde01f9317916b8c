"""Streams, and the ends of requests that do not end well. Time is the fake loop's: exact, and free."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bercail.core.chat import ApiError
from bercail.core.errors import EngineError, RefusedError
from bercail.core.options import ServerOptions
from bercail.web.app import App
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.loop import run
from fakes.upstream import FakeUpstream, Piece, Scripted

CHAT = "/v1/chat/completions"
OPTIONS = ServerOptions(header_hold=15.0, keep_alive=10.0)
WHY = ApiError(status=503, message="stopping", code="stopping")


def chunk(words: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "delta": {"content": words} if words else {}}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


A, B = chunk("a"), chunk("b")
END = chunk("", "stop")
DONE = b"data: [DONE]\n\n"
PROGRESS = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}],"prompt_progress":{"total":5}}\n\n'
STREAM = b'{"stream":true}'
WHOLE = b"{}"


def play(
    upstream: FakeUpstream,
    scene: Callable[[App, Client], Coroutine[None, None, None]],
    host: FakeHost | None = None,
    takes: Callable[[bytes], bool] | None = None,
) -> tuple[App, Client]:
    """Run a scene; afterwards nothing is left of it."""
    host = host or FakeHost()
    app = App(host, upstream, OPTIONS, lambda: 0.0)
    client = Client(app, takes=takes)
    run(lambda: scene(app, client))
    assert host.out == 0
    assert host.waiting == 0
    assert not app.turns
    assert (app.metrics.running.total(), app.metrics.queued.total()) == (0, 0)
    return app, client


def stream_of(*pieces: Piece, host: FakeHost | None = None) -> Client:
    """What a client that streams gets from these pieces."""

    async def scene(_: App, client: Client) -> None:
        await client.start(CHAT, STREAM).end()

    return play(FakeUpstream(Scripted(pieces=pieces)), scene, host)[1]


def test_a_stream_passes_as_it_comes_and_ends_well() -> None:
    client = stream_of(PROGRESS, 2.0, A, 3.0, B[:7], 1.0, B[7:] + END + DONE)
    assert client.complete
    assert client.pieces == [(2.0, A), (6.0, B + END + DONE)]
    assert client.headers == {
        "content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no",
    }  # fmt: skip


def streamed(pieces: list[Piece], takes: Callable[[bytes], bool]) -> tuple[App, Client]:
    """A stream to a client that takes pieces as ``takes`` says."""

    async def scene(_: App, client: Client) -> None:
        await client.start(CHAT, STREAM).end()

    return play(FakeUpstream(Scripted(pieces=pieces)), scene, takes=takes)


def test_tokens_in_the_middle_of_a_stream_are_written_at_once_and_its_ends_are_not() -> None:
    app, client = streamed([PROGRESS, A, B, PROGRESS, A, END + DONE], lambda _: True)
    assert client.body == A + B + A + END + DONE
    assert client.pushed == [B]
    assert app.metrics.text(()).count(b'status="200"} 1') == 1


@given(st.lists(st.booleans(), min_size=12, max_size=12), st.lists(st.sampled_from([A, B, A + B, 1.0, A[:9]])))
@settings(deadline=None)
def test_a_client_that_cannot_take_a_piece_at_once_loses_nothing(wills: list[bool], pieces: list[Piece]) -> None:
    will = iter(wills)
    whole: list[Piece] = [A, *pieces, b"\n\n" + END + DONE]
    _, client = streamed(whole, lambda _: next(will, True))
    assert client.body == b"".join(piece for piece in whole if isinstance(piece, bytes))


def test_comments_come_after_silence_whichever_way_the_last_token_went() -> None:
    _, client = streamed([A, 6.0, B, 6.0, B, 11.0, END + DONE], lambda _: True)
    assert client.pieces == [(0.0, A), (6.0, B), (12.0, B), (22.0, b": ping\n\n"), (23.0, END + DONE)]


def test_headers_wait_for_the_first_real_byte_at_most_the_hold_and_comments_follow() -> None:
    client = stream_of(PROGRESS, 40.0, A, 25.0, END + DONE)
    assert client.started_s == 15.0
    assert client.pieces == [
        (15.0, b": ping\n\n"), (25.0, b": ping\n\n"), (35.0, b": ping\n\n"), (40.0, A),
        (50.0, b": ping\n\n"), (60.0, b": ping\n\n"), (65.0, END + DONE),
    ]  # fmt: skip
    assert client.complete


def test_comments_flow_while_a_model_loads() -> None:
    gate = asyncio.Event()
    host = FakeHost(gate=gate)

    async def scene(app: App, client: Client) -> None:
        client.start(CHAT, STREAM)
        await asyncio.sleep(29)
        assert app.metrics.queued == {"tiny": 1}
        gate.set()
        await client.end()

    _, client = play(FakeUpstream(Scripted(pieces=[A, END + DONE])), scene, host)
    assert client.pieces == [(15.0, b": ping\n\n"), (25.0, b": ping\n\n"), (29.0, A), (29.0, END + DONE)]


def test_a_comment_never_falls_into_an_event() -> None:
    client = stream_of(A[:9], 40.0, A[9:] + END + DONE)
    assert client.events == [": ping", ": ping", ": ping", *(e.decode()[6:-2] for e in (A, END)), "[DONE]"]


def test_an_error_before_the_first_byte_keeps_its_status() -> None:
    client = stream_of(PROGRESS, 5.0, EngineError("broke off", log_tail=("last",)))
    assert (client.status, client.error["message"]) == (502, "tiny: broke off")
    assert client.complete


def test_an_error_after_the_headers_is_an_event_and_a_broken_connection() -> None:
    death = EngineError("tiny died: killed by signal 9", hint="out of memory?", code="engine_died", log_tail=("x", "y"))
    client = stream_of(A, 1.0, EngineError("broke off"), host=FakeHost(death=death))
    assert client.status == 200
    assert not client.complete
    error = json.loads(client.events[-1])["error"]
    assert error["message"] == "tiny died: killed by signal 9: out of memory?"
    assert (error["code"], error["log_tail"]) == ("engine_died", ["x", "y"])
    assert "[DONE]" not in client.events


def test_a_death_that_is_noticed_a_moment_later_is_still_told() -> None:
    host = FakeHost()

    async def scene(_: App, client: Client) -> None:
        client.start(CHAT, WHOLE)
        await asyncio.sleep(0.05)
        host.death = EngineError("tiny died", code="engine_died")
        await client.end()

    _, client = play(FakeUpstream(Scripted(pieces=[EngineError("broke off")])), scene, host)
    assert (client.status, client.error["code"]) == (502, "engine_died")


def test_a_refusal_after_the_hold_is_an_event() -> None:
    gate = asyncio.Event()
    host = FakeHost(gate=gate, refusal=RefusedError("needs 8 GiB"))

    async def scene(_: App, client: Client) -> None:
        client.start(CHAT, STREAM)
        await asyncio.sleep(20)
        gate.set()
        await client.end()

    _, client = play(FakeUpstream(Scripted()), scene, host)
    assert client.status == 200
    assert json.loads(client.events[-1])["error"]["code"] == "does_not_fit"
    assert not client.complete


@pytest.mark.parametrize("pieces", [[A], [A, DONE[:4]], []])
@pytest.mark.parametrize("body", [STREAM, WHOLE])
def test_an_answer_that_just_stops_is_no_answer(pieces: list[Piece], body: bytes) -> None:
    async def scene(_: App, client: Client) -> None:
        await client.start(CHAT, body).end()

    _, client = play(FakeUpstream(Scripted(pieces=pieces)), scene)
    error = json.loads(client.events[-1])["error"]
    assert error["code"] == "engine_cut"
    assert client.complete == (client.status == 502)
    assert client.status == (200 if body == STREAM and pieces else 502)


def test_an_answer_without_an_end_of_its_choice_is_no_answer() -> None:
    async def scene(_: App, client: Client) -> None:
        await client.start(CHAT, WHOLE).end()

    _, client = play(FakeUpstream(Scripted(pieces=[A, DONE])), scene)
    assert (client.status, client.error["code"]) == (502, "engine_cut")


@pytest.mark.parametrize("body", [STREAM, WHOLE])
def test_a_client_does_not_wait_for_the_last_byte_of_the_connection(body: bytes) -> None:
    """And its request is in the books, with its lease given back, before it can ask anything more."""
    answer, host = Scripted(pieces=[A, END + DONE, 60.0]), FakeHost()

    async def scene(app: App, client: Client) -> None:
        client.start(CHAT, body)
        while not client.complete:  # noqa: ASYNC110 - each turn of the loop is looked at
            await asyncio.sleep(0)
        assert host.out == 0
        assert b'status="200"} 1' in app.metrics.text(())
        await client.end()

    play(FakeUpstream(answer), scene, host)
    assert answer.aborted


def test_a_connection_whose_answer_ended_is_not_aborted() -> None:
    answer = Scripted(pieces=[A, END + DONE])

    async def scene(_: App, client: Client) -> None:
        await client.start(CHAT, STREAM).end()

    play(FakeUpstream(answer), scene)
    assert answer.ended
    assert not answer.aborted


def never() -> asyncio.Event:
    return asyncio.Event()


STAGES: dict[str, Callable[[], tuple[FakeHost, Scripted]]] = {
    "queue": lambda: (FakeHost(gate=never()), Scripted()),
    "headers": lambda: (FakeHost(), Scripted(before_headers=never())),
    "prefill": lambda: (FakeHost(), Scripted(pieces=[PROGRESS, never()])),
    "decode": lambda: (FakeHost(), Scripted(pieces=[A, never()])),
    "refusal": lambda: (FakeHost(), Scripted(status=500, pieces=[b"{", never()])),
}


@pytest.mark.parametrize("body", [STREAM, WHOLE, b'{"logprobs":true}'])
@pytest.mark.parametrize("stage", STAGES)
def test_a_client_that_leaves_frees_everything_at_once(stage: str, body: bytes) -> None:
    host, answer = STAGES[stage]()
    upstream = FakeUpstream(answer)

    async def scene(_: App, client: Client) -> None:
        client.start(CHAT, body)
        await asyncio.sleep(5)
        client.leave()
        await client.end()
        assert asyncio.get_running_loop().time() == 5.0
        assert (host.out, host.waiting) == (0, 0)

    app, _ = play(upstream, scene, host)
    reached_engine = stage != "queue"
    assert len(upstream.asked) == reached_engine
    assert answer.aborted == (stage in ("prefill", "decode", "refusal"))
    assert upstream.cancelled == (stage == "headers")
    text = app.metrics.text(()).decode()
    assert 'bercail_requests_aborted_total{model="tiny"} 1' in text
    assert 'status="499"} 1' in text


def test_a_client_that_leaves_while_it_sends_is_forgotten() -> None:
    async def scene(_: App, client: Client) -> None:
        client.start(CHAT)
        await asyncio.sleep(1)
        client.leave()
        await client.end()
        assert client.started_s is None

    app, _ = play(FakeUpstream(Scripted()), scene)
    assert 'status="499"} 1' in app.metrics.text(()).decode()


@pytest.mark.parametrize("body", [STREAM, WHOLE])
@pytest.mark.parametrize("stage", STAGES)
def test_a_request_that_is_cut_is_told_why(stage: str, body: bytes) -> None:
    host, answer = STAGES[stage]()

    async def scene(app: App, client: Client) -> None:
        client.start(CHAT, body)
        await asyncio.sleep(5)
        [turn] = app.turns
        assert turn.stop(WHY)
        assert not turn.stop(WHY)
        await client.end()

    _, client = play(FakeUpstream(answer), scene, host)
    begun = stage == "decode" and body == STREAM
    assert client.status == (200 if begun else 503)
    assert client.complete != begun
    assert json.loads(client.events[-1])["error"]["code"] == "stopping"


def test_a_client_that_does_not_read_is_cut_all_the_same() -> None:
    async def scene(app: App, client: Client) -> None:
        async def stuck(message: Any) -> None:
            await asyncio.Event().wait()

        client._send = stuck  # type: ignore[method-assign] # a client of its own kind
        client.start(CHAT, STREAM)
        await asyncio.sleep(5)
        [turn] = app.turns
        turn.stop(WHY)
        await client.end()
        assert asyncio.get_running_loop().time() <= 6.1

    play(FakeUpstream(Scripted(pieces=[A, B])), scene)


def test_a_slow_reader_gets_no_heap_of_comments() -> None:
    """While one write waits for the client, at most one comment waits with it."""
    sent: list[bytes] = []

    async def scene(app: App, client: Client) -> None:
        gate = asyncio.Event()
        plain = client._send

        async def slow(message: Any) -> None:
            if message["type"] == "http.response.body":
                await gate.wait()
                sent.append(message["body"])
            await plain(message)

        client._send = slow  # type: ignore[method-assign] # a client of its own kind
        client.start(CHAT, STREAM)
        await asyncio.sleep(100)
        gate.set()
        await client.end()

    play(FakeUpstream(Scripted(pieces=[A, 0.5, END + DONE])), scene)
    assert sent.count(b": ping\n\n") <= 1
    assert b"".join(one for one in sent if one != b": ping\n\n") == A + END + DONE


pieces = st.sampled_from([A, B, PROGRESS, 1.0, 30.0, b"data: ", EngineError("x"), b'data: {"error":{"code":500}}\n\n'])


@settings(max_examples=150, deadline=None)
@given(
    script=st.lists(pieces, max_size=6),
    ends=st.booleans(),
    body=st.sampled_from([STREAM, WHOLE, b'{"n_probs":1}', b"{", b'{"stream":true,"return_progress":true}']),
    wait_s=st.sampled_from([None, 0.0, 0.5, 15.0, 31.0, 200.0]),
    how=st.sampled_from(["leave", "cut"]),
    queue_s=st.sampled_from([0.0, 20.0]),
    takes=st.sampled_from([None, lambda _: True, lambda piece: piece == A]),
)
def test_whatever_happens_nothing_is_left(
    script: list[Piece],
    ends: bool,
    body: bytes,
    wait_s: float | None,
    how: str,
    queue_s: float,
    takes: Callable[[bytes], bool] | None,
) -> None:
    """Leases, tasks, timers and answers of every mix of engine, client and server; ``play`` counts what is left."""
    gate = asyncio.Event()
    answer = Scripted(pieces=[*script, *([END + DONE] if ends else [])])
    upstream = FakeUpstream(answer)

    async def scene(app: App, client: Client) -> None:
        asyncio.get_running_loop().call_later(queue_s, gate.set)
        client.start(CHAT, body)
        if wait_s is not None:
            await asyncio.sleep(wait_s)
            if how == "leave":
                client.leave()
            for turn in list(app.turns):
                if how == "cut":
                    turn.stop(WHY)
        await client.end()

    _, client = play(upstream, scene, FakeHost(gate=gate, known=[served()]), takes)
    assert not upstream.asked or answer.ended or answer.aborted
    if client.complete and client.headers["content-type"] == "text/event-stream":
        assert client.body.endswith(DONE)


ROLE = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1,'
    b'"id":"i"}\n\n'
)
QUOTED = chunk('an "error": {}')
USAGE = b'data: {"choices":[],"id":"i","usage":{"prompt_tokens":9,"completion_tokens":4},"timings":{"prompt_n":9}}\n\n'
GATHERED = ROLE + PROGRESS + A + QUOTED + B + END + USAGE + DONE


@given(st.sets(st.integers(1, len(GATHERED) - 1)))
@settings(deadline=None)
def test_an_answer_is_gathered_the_same_however_its_stream_is_cut(cuts: set[int]) -> None:
    places = [0, *sorted(cuts), len(GATHERED)]
    pieces = [GATHERED[start:end] for start, end in pairwise(places)]

    async def scene(_: App, client: Client) -> None:
        await client.start(CHAT, WHOLE).end()

    client = play(FakeUpstream(Scripted(pieces=pieces)), scene)[1]
    assert (client.status, client.complete) == (200, True)
    (choice,) = client.json["choices"]
    assert choice["message"] == {"role": "assistant", "content": 'aan "error": {}b'}
    assert choice["finish_reason"] == "stop"
    assert (client.json["id"], client.json["usage"]["completion_tokens"]) == ("i", 4)


def test_an_error_in_the_middle_of_a_gathered_answer_is_told_with_its_status() -> None:
    pieces: list[Piece] = [ROLE, A, B, b'data: {"error":{"code":400,"message":"no","type":"x"}}\n\n']

    async def scene(_: App, client: Client) -> None:
        await client.start(CHAT, WHOLE).end()

    client = play(FakeUpstream(Scripted(pieces=pieces)), scene)[1]
    assert (client.status, client.error["message"]) == (400, "no")


def test_tokens_of_a_gathered_answer_wake_no_task() -> None:
    """They are taken where they come in; the task goes on with the last piece."""

    class Poured(Scripted):
        taken: list[bytes]

        async def pour(self, take: Callable[[bytes], bool]) -> None:
            def heard(piece: bytes) -> bool:
                if took := take(piece):
                    self.taken.append(piece)
                return took

            await super().pour(heard)

    answer = Poured(pieces=[ROLE, A, B, A, B, END + USAGE + DONE])
    answer.taken = []

    async def scene(_: App, client: Client) -> None:
        await client.start(CHAT, WHOLE).end()

    client = play(FakeUpstream(answer), scene)[1]
    assert client.json["choices"][0]["message"]["content"] == "abab"
    assert answer.taken == [A, B, A, B]
