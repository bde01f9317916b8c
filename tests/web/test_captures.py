"""Texts that are kept where the owner has switched that on."""

import json
from base64 import b64decode
from typing import Any

import pytest

from bercail.core.access import ID_BYTES, SECRET_BYTES, KeyWish, Scope, mint
from bercail.core.options import ServerOptions
from bercail.web.app import App
from bercail.web.gate import Gate
from fakes.bench import answer
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.house import FakeArchive, FakeKeyring, FakeLedger
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted

CHAT = "/v1/chat/completions"
MIB = 1 << 20


class Bench:
    """A gateway that keeps texts, and its record of requests."""

    def __init__(self, capture: int = MIB, keyring: FakeKeyring | None = None, *answers: Scripted) -> None:
        self.ledger = FakeLedger()
        gate = Gate(keyring, self.ledger, clock=lambda: 0.0)
        options = ServerOptions(capture=capture)
        upstream = FakeUpstream(*(answers or (answer("hi"),)))
        self.app = App(FakeHost(known=[served()]), upstream, options, lambda: 0.0, gate)

    def ask(self, path: str, body: bytes = b"", method: str = "POST", **headers: str) -> Client:
        client = Client(self.app)
        shown = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())

        async def scene() -> None:
            await client.start(path, body, method=method, headers=shown).end()

        run(scene)
        return client

    def kept(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask("/api/captures", method="GET").json["captures"]
        return rows

    def capture(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(f"/api/captures/{number}", method="GET").json
        return found


ASKED = json.dumps({"messages": [{"role": "user", "content": "a secret"}]}).encode()


def test_a_request_and_its_answer_are_kept_under_the_id_of_its_record() -> None:
    bench = Bench()
    client = bench.ask(CHAT, ASKED, user_agent="x/1", authorization="Bearer any-key")
    (entry,) = bench.ledger.entries
    assert entry.capture_id
    found = bench.capture(entry.capture_id)
    assert b64decode(found["req_body"]) == ASKED
    assert b64decode(found["resp_body"]) == client.body
    assert found["req_headers"] == {"user-agent": "x/1", "authorization": "[REDACTED]"}
    assert found["resp_headers"]["content-type"] == "application/json"
    assert (found["req_path"], found["model"], found["status"], found["cut"]) == (CHAT, "tiny", 200, False)
    assert [one["id"] for one in bench.kept()] == [entry.capture_id]


def test_a_stream_is_kept_as_it_was_sent() -> None:
    bench = Bench()
    client = bench.ask(CHAT, ASKED[:-1] + b',"stream":true}')
    assert b64decode(bench.capture(bench.kept()[0]["id"])["resp_body"]) == client.body


def test_nothing_is_kept_unless_it_is_switched_on() -> None:
    bench = Bench(capture=0)
    bench.ask(CHAT, ASKED)
    assert bench.ledger.entries[0].capture_id is None
    client = bench.ask("/api/captures", method="GET")
    assert (client.status, client.error["code"]) == (404, "captures_off")


def test_the_oldest_go_when_the_budget_is_full_and_ids_are_never_used_again() -> None:
    bench = Bench(64 * 1024)
    for _ in range(9):
        bench.ask(CHAT, ASKED)
    ids = [entry.capture_id for entry in bench.ledger.entries]
    assert len(set(ids)) == 9
    assert [one["id"] for one in bench.kept()] == ids[: -len(bench.kept()) - 1 : -1]
    assert 1 <= len(bench.kept()) <= 3
    gone = bench.ask(f"/api/captures/{ids[0]}", method="GET")
    assert (gone.status, gone.error["code"]) == (404, "no_capture")


def test_what_is_too_long_is_cut_and_says_so() -> None:
    bench = Bench(128 * 1024)
    bench.ask(CHAT, json.dumps({"messages": [{"role": "user", "content": "x" * 50_000}]}).encode())
    found = bench.capture(bench.kept()[0]["id"])
    assert found["cut"]
    assert len(b64decode(found["req_body"])) == 16 * 1024
    assert b"hi" in b64decode(found["resp_body"])


def test_files_are_not_kept() -> None:
    bench = Bench()
    bench.ask("/v1/audio/transcriptions", b"--x--", content_type="multipart/form-data; boundary=x")
    assert bench.capture(bench.kept()[0]["id"])["req_body"] is None


def a_key(keyring: FakeKeyring, number: int, **wish: Any) -> str:
    key, token = mint(KeyWish(name=str(number), **wish), bytes([number] * (ID_BYTES + SECRET_BYTES)), 0.0)
    keyring.add(key)
    return token


def test_a_key_may_stay_out_of_it_and_only_admins_look() -> None:
    keyring = FakeKeyring()
    plain, private = a_key(keyring, 1), a_key(keyring, 2, capture=False)
    admin = a_key(keyring, 3, scopes=(Scope.ADMIN,))
    bench = Bench(MIB, keyring)
    for token in (plain, private):
        assert bench.ask(CHAT, ASKED + b" " * 3, x_api_key=token).status == 200
    assert bench.ask(CHAT, ASKED).status == 401
    assert [entry.capture_id is not None for entry in bench.ledger.entries] == [True, False]
    assert bench.ask("/api/captures", method="GET", x_api_key=plain).status == 403
    rows = bench.ask("/api/captures", method="GET", x_api_key=admin).json["captures"]
    assert len(rows) == 1
    document = bench.ask(f"/api/captures/{rows[0]['id']}", method="GET", x_api_key=admin).body
    assert plain.encode() not in document


def test_a_key_that_stands_in_a_body_is_taken_out_of_it() -> None:
    bench = Bench()
    bench.ask(CHAT, b'{"messages":[],"key":"my-own-key"}', x_api_key="my-own-key")
    assert b64decode(bench.capture(bench.kept()[0]["id"])["req_body"]) == b'{"messages":[],"key":"[REDACTED]"}'


@pytest.mark.parametrize("path", ["/api/captures/x", "/api/captures/1"])
def test_what_is_not_there_is_404(path: str) -> None:
    assert Bench().ask(path, method="GET").status == 404


def test_an_archive_gets_what_is_kept_and_nothing_else() -> None:
    archive = FakeArchive()
    upstream = FakeUpstream(answer("hi"), answer("hi"))
    options = ServerOptions(capture=MIB)
    app = App(FakeHost(known=[served()]), upstream, options, lambda: 0.0, archive=archive)
    client = Client(app)

    async def scene() -> None:
        await client.start(CHAT, ASKED).end()

    run(scene)
    (kept,) = archive.kept
    assert (kept.path, kept.request_body) == (CHAT, ASKED)


def test_a_stream_whose_middle_wakes_no_task_is_kept_whole() -> None:
    one = Bench()
    client = Client(one.app, takes=lambda _: True)

    async def scene() -> None:
        await client.post(CHAT, {"messages": [], "stream": True})

    run(scene)
    assert client.pushed
    [row] = one.kept()
    assert b64decode(one.capture(row["id"])["resp_body"]) == client.body
    closed = Client(one.app, takes=lambda _: False)

    async def other() -> None:
        await closed.post(CHAT, {"messages": [], "stream": True})

    run(other)
    assert b64decode(one.capture(one.kept()[0]["id"])["resp_body"]) == closed.body
