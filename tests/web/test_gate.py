"""The gateway with keys, between a fake host and a fake upstream."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from bercail.core.access import KeyWish, Limits, Scope, mint
from bercail.core.activity import Spent
from bercail.core.configuration import Profile, Profiles
from bercail.core.errors import StoreError
from bercail.core.options import ServerOptions
from bercail.core.route import Phase
from bercail.ports import Watch
from bercail.web.app import App
from bercail.web.gate import Gate
from fakes.client import Client
from fakes.host import FakeHost, FakeLease, served
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


def test_only_a_key_for_administration_and_all_models_has_the_configuration_read_anew() -> None:
    bench = Bench()
    whole, narrow, none = (
        bench.key(scopes=frozenset({Scope.ADMIN})),
        bench.key("b", scopes=frozenset({Scope.ADMIN}), models=("tiny",)),
        bench.key("c"),
    )
    codes = [bench.ask("/api/config/reload", bearer(token)).status for token in (whole, narrow, none)]
    assert codes == [200, 403, 403]


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
    bench = Bench(host=FakeHost(known=[served("qwen-1"), served("qwen-own", unlisted=True), served("secret")]))
    token = bench.key(models=("qwen*",))
    assert [row["id"] for row in bench.get("/v1/models", bearer(token)).json["data"]] == ["qwen-1"]
    assert bench.get("/v1/models/qwen-1", bearer(token)).status == 200
    for client in (bench.ask(CHAT, bearer(token), model="secret"), bench.get("/v1/models/secret", bearer(token))):
        assert (client.status, client.error["code"], client.error["param"]) == (403, "model_forbidden", "model")
    client = bench.ask(CHAT, bearer(token), model="else")
    assert client.status == 404
    assert "secret" not in client.body.decode()
    assert "qwen-own" not in client.body.decode(), "it is not to be listed"
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


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/chat", lambda error: isinstance(error, str)),
        ("/api/tags", lambda error: isinstance(error, str)),
        ("/api/pull", lambda error: isinstance(error, str)),
        ("/v1/messages", lambda error: error["type"] == "authentication_error" and "code" not in error),
        ("/v1/responses", lambda error: "API key" in error["message"]),
        ("/rerank", lambda error: error["code"] == "missing_api_key"),
        ("/models/load", lambda error: error["code"] == "missing_api_key"),
        ("/upstream/tiny/x", lambda error: error["code"] == "missing_api_key"),
        ("/upstream/none/x", lambda error: error["code"] == "missing_api_key"),
        ("/upstream/tiny", lambda error: error["code"] == "missing_api_key"),
        ("/nothing", lambda error: error["code"] == "missing_api_key"),
    ],
)
def test_a_refusal_is_in_the_words_of_the_dialect(path: str, words: Callable[[Any], bool]) -> None:
    bench = Bench()
    bench.key()
    client = bench.get(path) if path == "/api/tags" else bench.ask(path, model="tiny")
    assert client.status == 401
    assert client.headers["www-authenticate"].startswith("Bearer")
    assert words(client.error)
    assert not bench.upstream.asked
    assert not bench.host.loads
    assert "tiny" not in client.body.decode()


INFERENCE = ("/v1/messages", "/api/chat", "/api/embed", "/tokenize", "/upstream/tiny/x", "/v1/rerank")
READING = ("/v1/models", "/metrics", "/", "/running", "/props", "/slots", "/api/tags", "/api/ps", "/api/version")
ADMIN = ("/models/load", "/models/unload", "/unload", "/api/models/unload", "/api/models/unload/tiny")


def test_every_path_needs_its_scope() -> None:
    bench = Bench()
    tokens = {scope: bench.key(scope, scopes=(scope,)) for scope in Scope}
    paths = [
        *((path, "POST", Scope.INFERENCE) for path in INFERENCE),
        *((path, "GET", Scope.MODELS) for path in READING),
        ("/api/show", "POST", Scope.MODELS),
        *((path, "POST", Scope.ADMIN) for path in ADMIN),
    ]
    for path, method, need in paths:
        for scope, token in tokens.items():
            client = bench.ask(path, bearer(token), method=method, model="tiny", input="x")
            refused = client.status == 403 and f"needs the scope {need}" in client.body.decode()
            assert refused == (scope not in (need, Scope.ADMIN)), (path, scope, client.body)


def test_a_key_of_some_models_sees_no_other_in_any_dialect() -> None:
    bench = Bench(host=FakeHost(known=[served("tiny"), served("other")]))
    token = bench.key(models=("tiny",), scopes=(Scope.ADMIN,))
    for path in ("/running", "/api/tags", "/api/ps", "/v1/models", "/upstream/none/x"):
        text = bench.get(path, bearer(token)).body.decode()
        assert "tiny" in text
        assert "other" not in text
    for path in (CHAT, "/v1/messages", "/api/chat", "/api/show", "/models/load", "/models/unload", "/upstream/other/x"):
        client = bench.ask(path, bearer(token), model="other")
        assert client.status == 403, path
    assert bench.ask("/unload", bearer(token)).status == 200
    assert (bench.host.unloads, bench.host.loads, bench.host.granted) == (["tiny"], [], 0)
    assert bench.ask("/models/load", bearer(token), model="tiny").status == 200
    assert bench.get("/props?model=tiny", bearer(token)).status == 200


def test_how_long_a_model_stays_is_up_to_keys_for_administration() -> None:
    bench = Bench()
    plain, admin = bench.key(), bench.key("b", scopes=(Scope.ADMIN,))
    for keep_alive in (0, "10m"):
        for said in ({}, {"messages": [{"role": "user", "content": "x"}]}):
            body: dict[str, Any] = {"model": "tiny", "keep_alive": keep_alive, "stream": False, **said}
            client = bench.ask("/api/chat", bearer(plain), method="POST", **body)
            assert client.status == 200
            assert client.headers["x-bercail-note"].startswith("keep_alive is not heeded")
            assert bench.host.stays == []
    assert "x-bercail-note" not in bench.ask("/api/chat", bearer(admin), model="tiny", keep_alive=0).headers
    assert bench.host.stays == [("tiny", 0, 0)]


def test_a_key_of_some_models_sees_its_part_of_profiles_and_switches_none() -> None:
    bench = Bench(host=FakeHost(known=(served("tiny"), served("other"))))
    pins = {"a": "tiny", "b": "other", "c": None}
    bench.host.others = Profiles(known=(Profile(id="work", line=1, pins=pins),))
    token = bench.key(models=("tiny",), scopes=frozenset(Scope))
    told = bench.ask("/api/profiles", bearer(token), method="GET")
    assert told.json["profiles"][0]["pins"] == {"a": "tiny", "c": None}
    refused = bench.ask("/api/profiles/active", bearer(token), method="PUT", name="work")
    assert (refused.status, refused.error["code"], bench.host.others.active) == (403, "model_forbidden", "")


def test_a_name_that_turns_out_to_mean_another_model_opens_none() -> None:
    class Changing(FakeHost):
        async def lease(
            self, model_id: str, key: str = "", priority: int = 0, *,
            substitutes: Sequence[str] = (), watch: Watch | None = None,
        ) -> FakeLease:  # fmt: skip
            await FakeHost.lease(self, model_id, key, priority)
            return FakeLease(self, served("other"))

    bench = Bench(host=Changing())
    token = bench.key(models=("tiny",))
    client = bench.ask(CHAT, bearer(token), model="tiny")
    assert (client.status, client.error["code"], bench.host.out) == (403, "model_forbidden", 0)
    assert not bench.upstream.asked


def test_a_lease_is_asked_for_in_the_name_of_the_key_and_with_its_priority() -> None:
    bench = Bench()
    token = bench.key(priority=3)
    for path in (CHAT, "/upstream/tiny/x", "/upstream/tiny/x.js"):
        bench.ask(path, bearer(token), model="tiny")
    bench.get("/props", bearer(token))
    [key_id] = bench.keyring.held or {}
    assert bench.host.asked == [("tiny", key_id, 3)] * 4


def test_without_keys_a_lease_is_nobodys() -> None:
    bench = Bench()
    bench.ask()
    assert bench.host.asked == [("tiny", "", 0)]


@pytest.mark.parametrize(
    ("path", "pieces", "counts"),
    [
        ("/v1/messages", answer().pieces, (2, 10)),
        ("/api/chat", answer().pieces, (2, 10)),
        ("/upstream/tiny/v1/chat/completions", answer().pieces, (2, 10)),
        ("/rerank", [b'{"results":[],"usage":{"prompt_tokens":7,"total_tokens":7}}'], (7, 0)),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_every_dialect_is_charged_by_the_count_of_the_engine(
    path: str, pieces: Any, counts: tuple[int, int], *, stream: bool
) -> None:
    host = FakeHost(known=[served(capabilities=())])
    bench = Bench(host=host, upstream=FakeUpstream(Scripted(pieces=list(pieces))))
    token = bench.key(limits=Limits(tokens_per_minute=1))
    said = [{"role": "user", "content": "x"}]
    client = bench.ask(path, bearer(token), model="tiny", stream=stream, max_tokens=5, messages=said)
    assert client.status == 200, client.body
    [entry] = bench.ledger.entries
    assert (entry.prompt_tokens, entry.generated_tokens) == counts
    assert entry.ttft_s == 0.0
    again = bench.ask(path, bearer(token), model="tiny")
    assert (again.status, "tokens of 1 a minute" in again.body.decode()) == (429, True)
    assert again.headers["retry-after"]


def test_looking_takes_no_quota_and_leaves_no_line() -> None:
    bench = Bench()
    token = bench.key(limits=Limits(concurrency=1), scopes=(Scope.ADMIN,))
    for path in ("/running", "/props"):
        assert bench.get(path, bearer(token)).status == 200
    assert bench.ask("/models/load", bearer(token), model="tiny").status == 200
    assert not bench.ledger.entries
    assert bench.ask(CHAT, bearer(token)).status == 200


def test_keys_of_a_configuration_open_everything_and_make_a_key_required(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    assert bench.ask().status == 200
    bench.gate.take_keys(("open-sesame", "other"))
    assert bench.ask().error["code"] == "missing_api_key"
    wrong = bench.ask(CHAT, bearer("open-sesam"))
    assert wrong.error["code"] == "invalid_api_key"
    assert bench.ask(CHAT, bearer("open-sesame")).status == 200
    assert bench.ask("/models/load", ("x-api-key", "other"), model="tiny").status == 200
    assert bench.ask("/upstream/tiny/x", ("api-key", "other")).status == 200
    assert bench.get("/metrics", bearer("other")).status == 200
    assert [entry.key_id for entry in bench.ledger.entries] == ["", "config-1", "config-2"]
    for asked in bench.upstream.asked:
        assert not any(b"sesame" in value or b"other" in value for _, value in asked.headers)
    assert "sesam" not in caplog.text + wrong.body.decode()
    token = bench.key()
    assert bench.ask(CHAT, bearer(token)).status == 200
    assert bench.ask(CHAT, bearer("other")).status == 200
    bench.gate.take_keys(())
    assert bench.ask(CHAT, bearer("other")).status == 401


def test_a_browser_may_ask_for_leave_without_a_key_and_reaches_no_engine() -> None:
    bench = Bench()
    token = bench.key()
    leave = (("origin", "http://localhost"), ("access-control-request-method", "POST"))
    for path in (CHAT, "/v1/messages", "/api/chat", "/upstream/tiny/x"):
        client = bench.get(path, *leave, method="OPTIONS")
        assert (client.status, client.headers["access-control-allow-origin"]) == (204, "http://localhost"), path
    assert not bench.upstream.asked
    assert bench.get("/upstream/tiny/x", method="OPTIONS").status == 401
    assert bench.get("/upstream/tiny/x", *leave, bearer(token), method="OPTIONS").status == 200
    assert len(bench.upstream.asked) == 1


def test_a_server_that_stops_tells_only_those_with_a_key() -> None:
    bench = Bench()
    token = bench.key()
    bench.app.stopping = True
    assert bench.ask().status == 401
    assert bench.ask(CHAT, bearer(token)).status == 503
    assert bench.get("/health").json == {"status": "stopping"}


@pytest.mark.parametrize("path", ["/ui", "/ui/state.css", "/ui/state.js"])
def test_the_page_needs_no_key_for_it_holds_no_state(path: str) -> None:
    bench = Bench()
    bench.key()
    assert bench.get(path).status == 200


def test_a_session_is_kept_as_its_client_names_it() -> None:
    bench = Bench()
    bench.ask(CHAT, ("x-session-id", " s1 "))
    bench.ask(CHAT, ("x-litellm-session-id", "s2"), ("x-session-id", " "))
    bench.ask(CHAT)
    bench.ask(CHAT, ("x-session-id", "long" * 100))
    bench.gate.take_sessions(("X-Chat",))
    bench.ask(CHAT, ("x-session-id", "s3"), ("x-chat", "c"))
    bench.gate.take_sessions(())
    bench.ask(CHAT, ("x-chat", "c"))
    assert [entry.session for entry in bench.ledger.entries] == ["s1", "s2", "", "long" * 32, "c", ""]
