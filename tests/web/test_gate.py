"""The gateway with keys, between a fake host and a fake upstream."""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from bercail.core.access import KeyWish, Limits, Scope, mint
from bercail.core.activity import Spent
from bercail.core.errors import StoreError
from bercail.core.options import ServerOptions
from bercail.core.route import Phase
from bercail.web.app import App
from bercail.web.gate import Gate
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.house import FakeKeyring, FakeLedger
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted

CHAT = "/v1/chat/completions"
NOW_S = 1_800_000_000.0
TOKENS = 12
"""What an answer is charged."""


def answer(prompt: int = 2, generated: int = 10) -> Scripted:
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "finish_reason": None, "delta": {"content": "hi"}}]},
        {"choices": [{"index": 0, "finish_reason": "stop", "delta": {}}]},
        {"choices": [], "timings": {"cache_n": 100, "prompt_n": prompt, "predicted_n": generated}},
    ]
    pieces = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return Scripted(pieces=[*pieces, b"data: [DONE]\n\n"])


@dataclass(slots=True)
class Bench:
    """A gateway whose keys, clocks and engine a test decides."""

    keyring: FakeKeyring = field(default_factory=FakeKeyring)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    upstream: FakeUpstream = field(default_factory=lambda: FakeUpstream(answer()))
    host: FakeHost = field(default_factory=FakeHost)
    require: str = "auto"
    now_s: float = 0.0
    app: App = field(init=False)
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        self.gate = Gate(
            self.keyring, self.ledger, require=self.require, clock=lambda: self.now_s, wall=lambda: NOW_S + self.now_s
        )
        self.app = App(self.host, self.upstream, ServerOptions(), lambda: self.now_s, self.gate)

    def key(self, name: str = "a", **facts: Any) -> str:
        """A new key; its token."""
        number = len(self.keyring.held or {})
        key, token = mint(KeyWish(name=name, **facts), bytes([number]) * 36, NOW_S)
        self.keyring.add(key)
        return token

    def ask(self, path: str = CHAT, *headers: tuple[str, str], method: str = "POST", **body: Any) -> Client:
        """One exchange from its first byte to its last."""
        client = Client(self.app)

        async def scene() -> None:
            await self.start(client, path, *headers, method=method, **body).end()

        self.play(scene())
        return client

    @staticmethod
    def start(client: Client, path: str, *headers: tuple[str, str], method: str = "POST", **body: Any) -> Client:
        sent = tuple((name.encode(), value.encode()) for name, value in headers)
        return client.start(path, json.dumps({"messages": [], **body}).encode(), method=method, headers=sent)

    def get(self, path: str, *headers: tuple[str, str], method: str = "GET") -> Client:
        return self.ask(path, *headers, method=method)

    @staticmethod
    def play(scene: Coroutine[None, None, None]) -> None:
        run(lambda: scene)


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


def test_without_keys_everybody_comes_in_and_is_recorded() -> None:
    bench = Bench()
    assert bench.ask().status == 200
    assert bench.get("/v1/models").status == 200
    [entry] = bench.ledger.entries
    assert (entry.key_id, entry.model, entry.status, entry.prompt_tokens, entry.cached_tokens) == (
        "", "tiny", 200, 2, 100,
    )  # fmt: skip
    assert entry.ended_s == NOW_S


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/tiny", "/metrics", "/", "/nothing"])
def test_with_a_key_made_nobody_comes_in_without_one(path: str) -> None:
    bench = Bench()
    bench.key()
    client = bench.ask() if path == CHAT else bench.get(path)
    assert (client.status, client.error["code"], client.error["type"]) == (
        401, "missing_api_key", "authentication_error",
    )  # fmt: skip
    assert client.headers["www-authenticate"].startswith("Bearer")
    assert bench.host.granted == 0
    assert not bench.ledger.entries


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
def test_health_needs_no_key_and_tells_no_names_without_one(path: str) -> None:
    bench = Bench(host=FakeHost(known=[served(phase=Phase.FAILED, error="/secret/path")]))
    token = bench.key()
    client = bench.get(path)
    assert (client.status, client.json) == (503, {"status": "failed"})
    assert bench.get(path, bearer(token)).json["models"][0]["id"] == "tiny"


def test_a_preflight_needs_no_key() -> None:
    bench = Bench()
    bench.key()
    assert bench.get(CHAT, method="OPTIONS").status == 204
    assert bench.get("/v1/models", method="OPTIONS").status == 204


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
def test_a_key_may_come_in_any_header_that_clients_use(header: str) -> None:
    bench = Bench()
    token = bench.key()
    value = f"bearer  {token}" if header == "authorization" else token
    assert bench.ask(CHAT, (header, value)).status == 200
    [entry] = bench.ledger.entries
    assert entry.key_id == token[3:11]


def test_the_same_key_twice_is_one_and_two_keys_are_refused() -> None:
    bench = Bench()
    token, other = bench.key("a"), bench.key("b")
    assert bench.ask(CHAT, bearer(token), ("x-api-key", token)).status == 200
    client = bench.ask(CHAT, bearer(token), ("x-api-key", other))
    assert (client.status, client.error["code"]) == (401, "two_api_keys")


def test_authorization_of_another_kind_is_no_key() -> None:
    bench = Bench()
    token = bench.key()
    assert bench.ask(CHAT, ("authorization", "Basic abc")).error["code"] == "missing_api_key"
    assert bench.ask(CHAT, ("authorization", "Basic abc"), ("x-api-key", token)).status == 200
    assert bench.ask(CHAT, ("authorization", "Bearer ")).error["code"] == "missing_api_key"


def test_a_key_in_the_address_is_refused_in_words() -> None:
    bench = Bench()
    token = bench.key()

    async def scene() -> None:
        for query in (f"key={token}".encode(), b"a=1&api_key="):
            client = Client(bench.app)
            scope: dict[str, object] = {
                "type": "http",
                "method": "GET",
                "path": "/v1/models",
                "headers": [],
                "query_string": query,
            }
            await client._run(scope)
            assert (client.status, client.error["code"]) == (401, "api_key_in_address")
            assert token not in client.body.decode()

    bench.play(scene())


def test_a_wrong_key_is_refused_and_never_repeated() -> None:
    bench = Bench()
    token = bench.key()
    for wrong in (token[:-1] + "!", "bk-ffffffff-x", "sk-other", "bk-"):
        client = bench.ask(CHAT, bearer(wrong))
        assert (client.status, client.error["code"]) == (401, "invalid_api_key")
        assert wrong not in client.error["message"] or wrong == "bk-"


def test_scopes_open_what_they_say() -> None:
    bench = Bench()
    infer, lists = bench.key("a", scopes=(Scope.INFERENCE,)), bench.key("b", scopes=(Scope.MODELS,))
    admin = bench.key("c", scopes=(Scope.ADMIN,))
    for path in ("/v1/models", "/metrics", "/"):
        statuses = [bench.get(path, bearer(token)).status for token in (infer, lists, admin)]
        assert statuses == [403, 200, 200]
    refused = bench.ask(CHAT, bearer(lists))
    assert (refused.status, refused.error["code"], refused.error["type"]) == (403, "missing_scope", "permission_error")
    assert [bench.ask(CHAT, bearer(token)).status for token in (infer, admin)] == [200, 200]
    assert [bench.ask("/v1/nothing", bearer(token)).status for token in (infer, lists)] == [404, 404]


def test_a_key_of_some_models_sees_and_uses_no_other() -> None:
    bench = Bench(host=FakeHost(known=[served("qwen-1"), served("secret")]))
    token = bench.key(models=("qwen*",))
    assert [row["id"] for row in bench.get("/v1/models", bearer(token)).json["data"]] == ["qwen-1"]
    assert bench.get("/v1/models/qwen-1", bearer(token)).status == 200
    for client in (bench.ask(CHAT, bearer(token), model="secret"), bench.get("/v1/models/secret", bearer(token))):
        assert (client.status, client.error["code"], client.error["param"]) == (403, "model_forbidden", "model")
    client = bench.ask(CHAT, bearer(token), model="else")
    assert client.status == 404
    assert "secret" not in client.body.decode()
    metrics = bench.get("/metrics", bearer(token))
    assert (metrics.status, metrics.error["code"]) == (403, "model_forbidden")
    assert "secret" not in metrics.body.decode()
    assert bench.ask(CHAT, bearer(token), model="qwen-1").status == 200


def test_a_key_of_no_model_that_is_here_is_told_so() -> None:
    bench = Bench()
    client = bench.ask(CHAT, bearer(bench.key(models=("x",))), model="y")
    assert client.status == 503
    assert "none for this API key" in client.error["message"]


def test_a_quota_that_is_used_up_is_told_with_the_time_at_which_there_is_room_again() -> None:
    bench = Bench()
    token = bench.key(limits=Limits(tokens_per_minute=TOKENS + 1))
    assert bench.ask(CHAT, bearer(token)).status == 200
    assert bench.ask(CHAT, bearer(token), stream=True).status == 200
    refused = bench.ask(CHAT, bearer(token))
    assert (refused.status, refused.error["code"], refused.error["type"]) == (
        429, "tokens_per_minute_exceeded", "rate_limit_error",
    )  # fmt: skip
    wait_s = int(refused.headers["retry-after"])
    assert "x-should-retry" not in refused.headers or wait_s > 60
    bench.now_s += wait_s - 1
    assert bench.ask(CHAT, bearer(token)).status == 429
    bench.now_s += 1
    assert bench.ask(CHAT, bearer(token)).status == 200
    assert bench.get("/v1/models", bearer(token)).status == 200
    assert [entry.status for entry in bench.ledger.entries] == [200, 200, 200]


def test_a_long_wait_is_not_left_to_the_client() -> None:
    bench = Bench()
    token = bench.key(limits=Limits(tokens_per_day=1))
    bench.ask(CHAT, bearer(token))
    refused = bench.ask(CHAT, bearer(token))
    assert (refused.status, refused.headers["x-should-retry"]) == (429, "false")
    assert int(refused.headers["retry-after"]) >= 86_400


def test_no_more_requests_at_once_than_the_key_may_run() -> None:
    bench = Bench(host=FakeHost(gate=asyncio.Event()))
    token = bench.key(limits=Limits(concurrency=1))

    async def scene() -> None:
        first, second = Client(bench.app), Client(bench.app)
        bench.start(first, CHAT, bearer(token))
        await asyncio.sleep(0.1)
        await bench.start(second, CHAT, bearer(token)).end()
        assert (second.status, second.error["code"]) == (429, "concurrency_exceeded")
        assert "retry-after" not in second.headers
        assert bench.host.gate is not None
        bench.host.gate.set()
        await first.end()
        assert (await bench.start(Client(bench.app), CHAT, bearer(token)).end()).status == 200

    bench.play(scene())


def test_a_client_that_leaves_is_charged_for_what_it_got_and_lets_the_next_in() -> None:
    never = asyncio.Event()
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    bench = Bench(upstream=FakeUpstream(Scripted(pieces=[piece, piece, piece, never])))
    token = bench.key(limits=Limits(concurrency=1, tokens_per_minute=3))

    async def scene() -> None:
        client = bench.start(Client(bench.app), CHAT, bearer(token), stream=True)
        await asyncio.sleep(1)
        client.leave()
        await asyncio.sleep(1)
        await client.end()

    bench.play(scene())
    [entry] = bench.ledger.entries
    assert (entry.aborted, entry.generated_tokens) == (True, 3)
    assert bench.ask(CHAT, bearer(token)).error["code"] == "tokens_per_minute_exceeded"


def test_a_request_that_fails_gives_its_place_back() -> None:
    bench = Bench()
    token = bench.key(limits=Limits(concurrency=1))
    assert bench.ask(CHAT, bearer(token), model="none").status == 404
    assert bench.ask(CHAT, bearer(token)).status == 200
    assert [(entry.model, entry.status) for entry in bench.ledger.entries] == [("", 404), ("tiny", 200)]


@pytest.mark.parametrize(("facts", "code"), [("revoked", "revoked_api_key"), ("expired", "expired_api_key")])
def test_a_key_out_of_force_is_told_so(facts: str, code: str) -> None:
    bench = Bench()
    token = bench.key(expires_s=NOW_S + 5)
    assert bench.ask(CHAT, bearer(token)).status == 200
    if facts == "revoked":
        bench.keyring.revoke(token[3:11], NOW_S)
    else:
        bench.now_s += 5
    client = bench.ask(CHAT, bearer(token))
    assert (client.status, client.error["code"]) == (401, code)


def test_revoking_the_last_key_opens_nothing() -> None:
    bench = Bench(keyring=FakeKeyring(held={}))
    assert bench.ask().error["code"] == "no_keys"


def test_always_needs_a_key_where_none_was_made_and_never_looks_at_none() -> None:
    assert Bench(require="always").ask().error["code"] == "no_keys"
    bench = Bench(require="never")
    bench.key()
    assert bench.ask(CHAT, bearer("bk-wrong")).status == 200


def test_the_key_reaches_no_engine() -> None:
    bench = Bench()
    token = bench.key()
    bench.ask(CHAT, bearer(token), ("x-api-key", token), ("api-key", token))
    [asked] = bench.upstream.asked
    assert asked.headers == [(b"content-type", b"application/json")]
    assert token.encode() not in asked.body


def test_keys_that_cannot_be_read_let_nobody_in() -> None:
    bench = Bench(keyring=FakeKeyring(refusal=StoreError("the file of keys is damaged")))
    assert bench.ask().status == 500
    assert bench.get("/v1/models").status == 500
    assert (bench.get("/health").status, bench.get("/health").json) == (200, {"status": "ok"})
    assert bench.host.granted == 0


def test_a_restart_gives_nobody_a_new_quota() -> None:
    bench = Bench()
    token = bench.key(limits=Limits(tokens_per_day=100))
    bench.ledger.charged = (
        Spent(key_id=token[3:11], at_s=NOW_S - 90_000, tokens=100),
        Spent(key_id=token[3:11], at_s=NOW_S - 80_000, tokens=60),
        Spent(key_id=token[3:11], at_s=NOW_S - 10, tokens=40),
    )
    bench.gate.remember()
    refused = bench.ask(CHAT, bearer(token))
    assert refused.error["code"] == "tokens_per_day_exceeded"
    assert 6400 <= int(refused.headers["retry-after"]) <= 6400 + 1440


def test_a_record_that_cannot_be_read_is_told_and_quotas_begin_anew(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(ledger=FakeLedger(refusal=StoreError("unreadable")))
    bench.gate.remember()
    assert "begin anew" in caplog.text


def test_refusals_are_counted_under_the_label_of_no_model() -> None:
    bench = Bench()
    token = bench.key()
    bench.ask()
    text = bench.get("/metrics", bearer(token)).body.decode()
    assert 'bercail_requests_total{model="(none)",endpoint="chat/completions",status="401"} 1' in text


def test_queue_and_load_are_told_apart() -> None:
    bench = Bench(host=FakeHost(gate=asyncio.Event(), load_s=2.0))

    async def scene() -> None:
        client = bench.start(Client(bench.app), CHAT)
        await asyncio.sleep(0.1)
        bench.now_s = 5.0
        assert bench.host.gate is not None
        bench.host.gate.set()
        await client.end()

    bench.play(scene())
    [entry] = bench.ledger.entries
    assert (entry.queue_s, entry.load_s, entry.ttft_s, entry.total_s) == (3.0, 2.0, 5.0, 5.0)
