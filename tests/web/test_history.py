"""The record of requests is told in llama-swap's words, to those whose key opens everything."""

import asyncio
from typing import Any, Literal

import pytest

from bercail.core.access import KeyWish, Scope, mint
from bercail.core.activity import Entry
from bercail.core.history import Column, Page, Row, Tally, Wish
from bercail.core.options import ServerOptions
from bercail.web.app import App
from bercail.web.gate import Gate
from fakes.bench import answer
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.house import FakeKeyring, FakeLedger
from fakes.upstream import FakeUpstream

ACTIVITY, STATS = "/api/metrics/activity", "/api/metrics/stats"
NOTHING = Tally(requests=0, prompt_tokens=0, cached_tokens=0, generated_tokens=0, prefill=None, decode=None)


class Bench:
    """A gateway that keeps a record."""

    def __init__(self, keyring: FakeKeyring | None = None) -> None:
        self.ledger = FakeLedger(tallied=NOTHING)
        self.ledger.open()
        gate = Gate(keyring, self.ledger, clock=lambda: 0.0)
        self.app = App(FakeHost(known=[served()]), FakeUpstream(answer("hi")), ServerOptions(), lambda: 0.0, gate)

    def ask(self, path: str, body: bytes = b"", method: str = "GET", token: str = "") -> Client:
        client = Client(self.app)
        headers = ((b"authorization", f"Bearer {token}".encode()),) if token else ()

        async def scene() -> None:
            await client.start(path, body, method=method, headers=headers).end()

        asyncio.run(scene())  # the record is read on a thread, whose time cannot leap
        return client


def test_a_page_is_looked_up_as_the_query_says() -> None:
    bench = Bench()
    entry = Entry(ended_s=1_800_000_000.0, endpoint="chat/completions", model="tiny", key_id="", status=200)
    bench.ledger.found = Page(rows=(Row(id=7, entry=entry),), total=26)
    client = bench.ask(f"{ACTIVITY}?page=2&model=a&model=b%2Fc&sort=duration&order=asc&start=2027-01-15T08:00:00Z")
    assert bench.ledger.wishes == [
        Wish(page=2, models=("a", "b/c"), sort=Column.DURATION, descending=False, start_s=1_800_000_000.0)
    ]
    assert (client.status, client.headers["content-type"]) == (200, "application/json")
    assert {name: client.json[name] for name in ("page", "limit", "total", "total_pages")} == {
        "page": 2, "limit": 25, "total": 26, "total_pages": 2,
    }  # fmt: skip
    assert [row["id"] for row in client.json["data"]] == [7]


def test_sums_are_of_all_models_or_of_one() -> None:
    bench = Bench()
    assert bench.ask(STATS).json["total_requests"] == 0
    assert bench.ask(f"{STATS}?model=a%2Fb").status == 200
    assert bench.ledger.wishes == ["", "a/b"]


@pytest.mark.parametrize(
    ("query", "words"),
    [("page=0", "page is a whole number"), ("modle=a", "did you mean model?"), ("sort=x", "sort is")],
)
def test_a_query_that_means_nothing_is_refused_with_what_would(query: str, words: str) -> None:
    client = Bench().ask(f"{ACTIVITY}?{query}")
    assert client.status == 400
    assert words in client.error["message"]


def test_it_says_so_where_nothing_is_recorded() -> None:
    bench = Bench()
    bench.ledger.close()
    for path in (ACTIVITY, STATS):
        client = bench.ask(path)
        assert (client.status, client.error["code"]) == (404, "activity_off")
        assert "activity.days" in client.error["message"]


def test_a_key_that_does_not_open_everything_sees_nothing_of_others() -> None:
    ring, tokens = FakeKeyring(), []
    for number, scope in enumerate((Scope.MODELS, Scope.ADMIN)):
        key, token = mint(KeyWish(name=scope, scopes=(scope,)), bytes([number]) * 36, 0.0)
        ring.add(key)
        tokens.append(token)
    bench = Bench(ring)
    for path, method in ((ACTIVITY, "GET"), (STATS, "GET"), ("/api/inflight/1/cancel", "POST")):
        assert [bench.ask(path, method=method, token=token).status for token in ("", tokens[0])] == [401, 403]
    assert bench.ask(ACTIVITY, token=tokens[1]).status == 200


def test_what_a_request_was_is_recorded_with_what_became_of_it() -> None:
    bench = Bench()
    bench.ask("/chat/completions", b'{"messages":[],"stream":true}', "POST")
    bench.ask("/v1/completions", b'{"prompt":"a","model":"none"}', "POST")
    told = [(one.path, one.content_type, one.status, one.error) for one in bench.ledger.entries]
    assert told == [
        ("/chat/completions", "text/event-stream", 200, ""),
        ("/v1/completions", "application/json", 404, "model_not_found"),
    ]


def test_of_a_long_path_the_beginning_is_recorded() -> None:
    bench = Bench()
    bench.ask(f"/upstream/tiny/{'x' * 9000}")
    assert bench.ledger.entries[0].path == f"/upstream/tiny/{'x' * 9000}"[:256]


def test_these_paths_are_only_looked_at() -> None:
    client = Bench().ask(ACTIVITY, method="POST")
    assert (client.status, client.headers["allow"]) == (405, "GET, HEAD")


class Begun(asyncio.Event):
    """Never comes, and tells that it is waited for."""

    def __init__(self, told: asyncio.Event) -> None:
        super().__init__()
        self._told = told

    async def wait(self) -> Literal[True]:
        self._told.set()
        return await super().wait()


def cancelled(stream: bool) -> tuple[Client, Client, Client, Any]:
    """A request that is ended by another; what both heard, and what a second try hears."""
    bench = Bench()
    host, ledger = FakeHost(known=[served()]), bench.ledger
    waits = answer("hi")
    has_begun = asyncio.Event()
    waits.pieces = [waits.pieces[0], Begun(has_begun), *waits.pieces[1:]]
    app = App(host, FakeUpstream(waits), ServerOptions(), lambda: 0.0, Gate(ledger=ledger, clock=lambda: 0.0))
    one, two, three = Client(app), Client(app), Client(app)

    async def scene() -> None:
        one.start("/v1/chat/completions", b'{"messages":[],"stream":%s}' % (b"true" if stream else b"false"))
        await has_begun.wait()
        await two.post("/api/inflight/1/cancel", b"")
        await one.end()
        await three.post("/api/inflight/1/cancel", b"")

    asyncio.run(scene())
    assert host.out == 0, "its slot is free"
    return one, two, three, ledger.entries


def test_a_request_that_waits_for_its_answer_is_ended_with_a_reason() -> None:
    one, two, three, entries = cancelled(stream=False)
    assert (one.status, one.error["code"], one.headers["x-should-retry"]) == (503, "cancelled", "false")
    assert (two.status, two.json) == (200, {"cancelled": "1"})
    assert (three.status, three.error["code"]) == (404, "no_request")
    assert [(entry.error, entry.aborted) for entry in entries] == [("cancelled", True)]


def test_a_stream_is_ended_with_an_event_that_says_why() -> None:
    one, _, _, entries = cancelled(stream=True)
    assert one.status == 200
    assert "ended by whoever manages the server" in one.events[-1]
    assert not one.complete, "no clean end"
    assert [entry.aborted for entry in entries] == [True]
