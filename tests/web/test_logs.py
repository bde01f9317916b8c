"""The latest lines, and those to come, at the routes of llama-swap."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from bercail.core.access import ID_BYTES, SECRET_BYTES, KeyWish, Scope, mint
from bercail.core.log import OURS
from bercail.core.options import ServerOptions
from bercail.store import MemoryLog
from bercail.web.app import App
from bercail.web.dialects.logs import SLOW_S
from bercail.web.gate import Gate
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.house import FakeKeyring
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted


def an_app(log: MemoryLog | None, gate: Gate | None = None) -> App:
    host = FakeHost(known=[served("a/b", aliases=("short",)), served("c")])
    app = App(host, FakeUpstream(Scripted()), ServerOptions(keep_alive=15.0), lambda: 0.0, gate)
    app.take_log(log)
    return app


def a_log() -> MemoryLog:
    log = MemoryLog()
    for source, text in ((OURS, "one"), ("a/b", "two"), ("c", "three"), (OURS, "four")):
        log.add(source, text)
    return log


def get(path: str, app: App | None = None, method: str = "GET") -> Client:
    client = Client(app or an_app(a_log()))

    async def scene() -> None:
        await client.get(path, method)

    run(scene)
    return client


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/logs", "one\na/b | two\nc | three\nfour\n"),
        ("/logs/proxy", "one\nfour\n"),
        ("/logs/upstream", "a/b | two\nc | three\n"),
        ("/logs/a/b", "two\n"),
        ("/logs/c", "three\n"),
    ],
)
def test_what_was_said_is_told(path: str, text: str) -> None:
    client = get(path)
    assert (client.status, client.body.decode()) == (200, text)
    assert client.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/logs/nobody", "/logs/stream/nobody"])
def test_nobody_has_no_log(path: str) -> None:
    client = get(path)
    assert client.status == 400
    assert "name a model, proxy or upstream" in client.error["message"]


def test_a_log_is_only_looked_at() -> None:
    assert get("/logs", method="POST").status == 405
    assert get("/logs", an_app(None)).status == 404


def follow(path: str, story: Callable[[MemoryLog, Client], Coroutine[None, None, None]]) -> Client:
    log = a_log()
    client = Client(an_app(log))

    async def scene() -> None:
        client.start(path, b"", method="GET")
        await asyncio.sleep(1)
        await story(log, client)
        await client.end()

    run(scene)
    return client


def test_a_stream_begins_with_what_was_said_and_goes_on_until_the_server_ends() -> None:
    async def story(log: MemoryLog, _: Client) -> None:
        log.add("c", "five")
        await asyncio.sleep(1)
        log.add(OURS, "stopping")
        log.close()

    client = follow("/logs/stream", story)
    assert client.complete
    assert client.body.decode() == "one\na/b | two\nc | three\nfour\nc | five\nstopping\n"


def test_history_can_be_left_out_and_other_peoples_lines_are() -> None:
    async def story(log: MemoryLog, _: Client) -> None:
        log.add("c", "not mine")
        log.add("a/b", "mine")
        await asyncio.sleep(1)
        log.close()

    assert follow("/logs/stream/a/b?no-history", story).body == b"mine\n"


def test_silence_is_filled() -> None:
    async def story(log: MemoryLog, client: Client) -> None:
        await asyncio.sleep(40)
        client.leave()

    client = follow("/logs/stream/proxy", story)
    assert [(at, piece) for at, piece in client.pieces] == [(0.0, b"one\nfour\n"), (15.0, b"\n"), (30.0, b"\n")]


def test_a_follower_who_is_slow_hears_how_much_was_lost() -> None:
    async def story(log: MemoryLog, _: Client) -> None:
        for number in range(5000):
            log.add("c", f"{number:060}")
        await asyncio.sleep(1)
        log.close()

    text = follow("/logs/stream/c", story).body.decode()
    assert text.startswith("three\n... 3294 lines left out\n")
    assert text.endswith("4999\n")


def test_a_follower_who_reads_nothing_is_cut() -> None:
    app = an_app(a_log())
    stuck = asyncio.Event

    async def scene() -> None:
        never = stuck()

        async def send(message: object) -> None:
            if isinstance(message, dict) and message.get("body"):
                await never.wait()

        async def receive() -> dict[str, object]:
            if not asked:
                asked.append(1)
                return {"type": "http.request", "body": b"", "more_body": False}
            await never.wait()
            return {}

        asked: list[int] = []
        scope = {"type": "http", "method": "GET", "path": "/logs/stream", "headers": [], "query_string": b""}
        await app(scope, receive, send)  # type: ignore[arg-type] # as a server calls it
        assert asyncio.get_running_loop().time() == SLOW_S

    run(scene)
    assert not app.turns


def test_logs_need_a_key_that_opens_everything() -> None:
    keyring = FakeKeyring()
    tokens = []
    for number, scopes in enumerate([(Scope.INFERENCE, Scope.MODELS), (Scope.ADMIN,)]):
        key, token = mint(KeyWish(name=str(number), scopes=scopes), bytes([number] * (ID_BYTES + SECRET_BYTES)), 0.0)
        keyring.add(key)
        tokens.append(token)
    app = an_app(a_log(), Gate(keyring, clock=lambda: 0.0))
    clients = [Client(app) for _ in range(3)]

    async def scene() -> None:
        for client, shown in zip(clients, [None, *tokens], strict=True):
            headers = ((b"authorization", f"Bearer {shown}".encode()),) if shown else ()
            await client.start("/logs", b"", method="GET", headers=headers).end()

    run(scene)
    assert [client.status for client in clients] == [401, 403, 200]
