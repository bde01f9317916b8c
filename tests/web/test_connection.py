"""What comes before a request is complete is bounded, and what is turned away hears why."""

import asyncio
import gc
import json
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress

import pytest
import uvloop

from bercail.engines.fake import Behaviour
from fakes.memory import uncollected
from fakes.street import Street, asked, send, street, until

Play = Callable[[Coroutine[None, None, None]], None]
HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
HURRY_S = 0.6
"""Long enough for a request that is sent at once, also on a busy machine."""


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a scene in each of the loops that the gateway may find itself in."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.SelectorEventLoop

    def run(scene: Coroutine[None, None, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(scene, 120))

    return run


async def reach(way: Street) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*way.address)


async def get(way: Street) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has had one answer, and is idle."""
    reader, writer = await reach(way)
    writer.write(HEALTH)
    assert (await whole(reader)).startswith(b"HTTP/1.1 200 ")
    return reader, writer


async def whole(reader: asyncio.StreamReader) -> bytes:
    """One answer on a connection that stays."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    return head + await reader.readexactly(length)


def code(raw: bytes) -> str:
    return str(json.loads(raw.partition(b"\r\n\r\n")[2])["error"]["code"])


def test_a_connection_that_says_nothing_is_ended(play: Play) -> None:
    async def scene() -> None:
        async with street(header_timeout=HURRY_S) as way:
            reader, writer = await reach(way)
            assert await reader.read() == b""
            writer.close()

    play(scene())


@pytest.mark.parametrize("before", [b"", HEALTH], ids=["first", "later"])
def test_headers_that_drip_in_are_ended_in_words(play: Play, before: bytes) -> None:
    async def scene() -> None:
        async with street(header_timeout=HURRY_S) as way:
            reader, writer = await (get(way) if before else reach(way))

            async def drip() -> None:
                writer.write(b"GET /health HTTP/1.1\r\n")
                while True:
                    writer.write(b"x-slow: 1\r\n")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            raw = await reader.read()
            dripping.cancel()
            writer.close()
            assert raw.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in raw
            assert code(raw) == "slow_headers"

    play(scene())


def test_empty_lines_after_an_answer_do_not_keep_a_connection(play: Play) -> None:
    async def scene() -> None:
        async with street(header_timeout=HURRY_S) as way:
            reader, writer = await get(way)
            reading = asyncio.create_task(reader.read())
            while not reading.done():
                writer.write(b"\r\n")
                await asyncio.sleep(0.02)
            assert await reading == b""
            writer.close()

    play(scene())


def test_an_idle_connection_and_a_long_answer_outlive_the_time_for_headers(play: Play) -> None:
    async def scene() -> None:
        async with street(Behaviour(tokens=40, delay_s=HURRY_S / 20), header_timeout=HURRY_S) as way:
            reader, writer = await get(way)
            await asyncio.sleep(2 * HURRY_S)
            writer.write(HEALTH)
            assert (await whole(reader)).startswith(b"HTTP/1.1 200 ")
            writer.close()
            reader, writer = await send(way, asked(stream=True))
            assert (await reader.readuntil(b"data: [DONE]\n\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()

    play(scene())


def headers(count: int, size: int) -> bytes:
    return b"".join(b"x-%d: %s\r\n" % (number, b"a" * size) for number in range(count))


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(headers(3000, 10_000), id="many"),
        pytest.param(headers(7, 10_000), id="in one piece"),
        pytest.param(b"x: " + b"a" * 500_000, id="one without an end"),
    ],
)
def test_headers_that_are_too_long_are_refused_and_nothing_more_is_read(play: Play, head: bytes) -> None:
    async def scene() -> None:
        async with street() as way:
            reader, writer = await reach(way)
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n\r\n")
            raw = await reader.read()
            writer.close()
            assert raw.startswith(b"HTTP/1.1 431 ")
            assert b"connection: close" in raw
            assert code(raw) == "headers_too_large"

    play(scene())


def test_headers_within_the_limit_are_taken_also_after_a_long_body(play: Play) -> None:
    async def scene() -> None:
        async with street() as way:
            reader, writer = await reach(way)
            for _ in range(2):
                writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n" + headers(6, 10_000) + b"\r\n")
                assert (await whole(reader)).startswith(b"HTTP/1.1 200 ")
                body = b'{"model":"tiny","prompt":"' + b"a" * 1_000_000 + b'"}'
                writer.write(
                    b"POST /v1/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
                )
                assert (await whole(reader)).startswith(b"HTTP/1.1 404 ")
            writer.close()

    play(scene())


CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"


def test_trailers_without_an_end_are_cut_off(play: Play) -> None:
    async def scene() -> None:
        async with street() as way:
            reader, writer = await reach(way)
            writer.write(CHUNKED + b"2\r\n{}\r\n0\r\n" + b"x: " + b"a" * 1_000_000)
            with suppress(ConnectionResetError):  # it was still sending
                assert await reader.read() == b""
            writer.close()

    play(scene())


def test_trailers_are_no_headers(play: Play) -> None:
    async def scene() -> None:
        async with street() as way:
            reader, writer = await reach(way)
            body = json.dumps(asked(stream=False)).encode()
            chunk = b"%x\r\n%s\r\n0\r\ncontent-encoding: gzip\r\n\r\n" % (len(body), body)
            writer.write(CHUNKED + chunk)
            assert (await whole(reader)).startswith(b"HTTP/1.1 200 ")
            writer.close()

    play(scene())


def test_where_there_are_as_many_as_may_be_the_one_that_idles_longest_leaves(play: Play) -> None:
    async def scene() -> None:
        async with street(connections=3) as way:
            silent = await reach(way)
            await asyncio.sleep(0.02)  # one loop's clock counts milliseconds
            idle = await get(way)
            await asyncio.sleep(0.02)
            later = await get(way)
            newest = await get(way)
            assert await silent[0].read() == b""
            another = await get(way)
            assert await idle[0].read() == b""
            for _, writer in (later, newest, another):
                writer.write(HEALTH)
            for reader, writer in (later, newest, another):
                assert (await whole(reader)).startswith(b"HTTP/1.1 200 ")
                writer.close()
            silent[1].close()
            idle[1].close()

    play(scene())


def test_of_many_that_come_at_once_the_newest_stay_and_no_more_than_may_be(play: Play) -> None:
    async def scene() -> None:
        async with street(connections=3) as way:
            burst = [socket.create_connection(way.address) for _ in range(12)]  # the loop stands still meanwhile
            lines = [await asyncio.open_connection(sock=one) for one in burst]
            for reader, _ in lines[:-3]:
                assert await reader.read() == b""
            for _, writer in lines[-3:]:
                writer.write(HEALTH)
            for reader, _ in lines[-3:]:
                assert (await whole(reader)).startswith(b"HTTP/1.1 200 ")
            for _, writer in lines:
                writer.close()

    play(scene())


def test_where_all_are_at_work_a_new_one_is_answered_when_it_asks(play: Play) -> None:
    async def scene() -> None:
        async with street(Behaviour(tokens=20_000, delay_s=0.01), connections=2) as way:
            busy = [await send(way, asked(stream=True)) for _ in range(2)]
            for reader, _ in busy:
                await reader.readuntil(b"Once")
            reader, writer = await reach(way)
            writer.write(HEALTH)
            raw = await reader.read()
            writer.close()
            assert raw.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in raw
            assert code(raw) == "too_many_connections"
            for reader, writer in busy:
                await reader.readuntil(b"time")
                writer.close()
            await until(lambda: not way.host.out)
            reader, writer = await get(way)
            writer.close()

    play(scene())


def test_a_connection_that_has_ended_is_let_go_of_without_the_collector(play: Play) -> None:
    def alive() -> list[object]:
        return [one for one in gc.get_objects() if type(one).__qualname__ == "_Connection" and hasattr(one, "show_out")]

    async def scene() -> None:
        async with street() as way:
            _, writer = await get(way)
            assert alive()
            writer.close()
            await until(lambda: not alive())

    gc.collect()
    with uncollected():
        play(scene())
