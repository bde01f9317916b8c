import asyncio
import json
from typing import Any

import pytest

from bercail.core.errors import BercailError, EngineError, ReadError, RefusedError, StoppingError
from bercail.core.model import Capability
from bercail.core.route import Phase
from bercail.web.routes import LISTED
from fakes.bench import Bench, answer
from fakes.host import FakeHost, served
from fakes.upstream import FakeUpstream, Scripted

CHAT = "/v1/chat/completions"


def messages(**more: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "x"}], **more}


@pytest.mark.parametrize("path", [CHAT, "/chat/completions", CHAT + "/"])
def test_a_chat_is_answered_as_one_object(path: str) -> None:
    bench = Bench()
    client = bench.post(path, messages(model="tiny"))
    assert client.status == 200
    assert client.headers["content-type"] == "application/json"
    assert client.headers["content-length"] == str(len(client.body))
    assert client.json["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    [asked] = bench.upstream.asked
    assert (asked.method, asked.target) == ("POST", CHAT)
    assert asked.headers == [(b"content-type", b"application/json")]
    assert json.loads(asked.body) == messages(model="tiny") | {
        "stream": True, "return_progress": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_embeddings_pass_as_they_are() -> None:
    host = FakeHost(known=[served(capabilities=(Capability.EMBEDDINGS,))])
    upstream = FakeUpstream(Scripted(pieces=[b'{"data":', b"[]}"], headers=[(b"content-type", b"application/json; x")]))
    bench = Bench(host, upstream)
    client = bench.post("/v1/embeddings", b' {"input": "x"} ')
    assert (client.status, client.body) == (200, b'{"data":[]}')
    assert client.headers["content-type"] == "application/json; x"
    assert bench.upstream.asked[0].body == b' {"input": "x"} '
    assert bench.upstream.asked[0].target == "/v1/embeddings"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b'{"data":[{"embedding":[0.5,0.5,0.5]}]}', 200),
        (b'{"data":[{"embedding":[0.5,0.5,0.5,0.5]}]}', 400),
        (b"[]", 200),
        (b"no JSON", 200),
    ],
)
def test_vectors_of_another_size_than_was_asked_for_are_refused(answer: bytes, status: int) -> None:
    host = FakeHost(known=[served(capabilities=(Capability.EMBEDDINGS,))])
    client = Bench(host, FakeUpstream(Scripted(pieces=[answer]))).post(
        "/v1/embeddings", {"input": "x", "dimensions": 3}
    )
    assert client.status == status
    if status == 200:
        assert client.body == answer
    else:
        assert (client.error["param"], client.error["code"]) == ("dimensions", "dimensions_unsupported")
    assert Bench(host).post("/v1/embeddings", {"input": "x", "dimensions": "3"}).error["param"] == "dimensions"


def test_vectors_of_a_size_that_is_known_not_to_be_made_are_refused_before_any_is() -> None:
    bench = Bench(FakeHost(known=[served(capabilities=(Capability.EMBEDDINGS,), vector_values=4)]))
    error = bench.post("/v1/embeddings", {"input": "x", "dimensions": 3}).error
    assert (error["param"], error["code"]) == ("dimensions", "dimensions_unsupported")
    assert "makes vectors of 4 values" in error["message"]
    assert not bench.upstream.asked
    for dimensions in (4, None):
        assert bench.post("/v1/embeddings", {"input": "x", "dimensions": dimensions}).status == 200


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "invalid_json", "empty"),
        (b"{", "invalid_json", "not valid JSON"),
        (b"hello", "invalid_json", "not valid JSON"),
        (b"[1]", "invalid_json", "must be a JSON object"),
        (b'"x"', "invalid_json", "must be a JSON object"),
        (b'{"model":"\xff"}', "invalid_json", "not valid JSON"),
        (b'{"x":' + b"[" * 1000, "invalid_json", "not valid JSON|nested"),
        (b'{"model":5}', "invalid_type", "model must be a text, not a whole number"),
        (b'{"stream":"yes"}', "invalid_type", "stream must be true or false, not a text"),
    ],
)
def test_a_body_that_is_no_request_is_refused_in_words(body: bytes, code: str, words: str) -> None:
    bench = Bench()
    client = bench.post(CHAT, body)
    assert client.status == 400
    assert client.error["code"] == code
    assert any(word in client.error["message"] for word in words.split("|"))
    assert client.error["type"] == "invalid_request_error"
    assert bench.host.granted == 0


def test_a_member_of_the_wrong_type_is_named() -> None:
    assert Bench().post(CHAT, {"model": 5}).error["param"] == "model"


TEXT = "/v1/completions"
WRONG = [
    (CHAT, {"max_tokens": "x"}, "max_tokens must be a whole number, not a text"),
    (CHAT, {"max_tokens": 3.7}, "max_tokens must be a whole number, not 3.7"),
    (CHAT, {"max_tokens": True}, "max_tokens must be a whole number, not true or false"),
    (CHAT, {"max_completion_tokens": [1]}, "max_completion_tokens must be a whole number, not a list"),
    (CHAT, {"temperature": "x"}, "temperature must be a number, not a text"),
    (CHAT, {"top_p": {}}, "top_p must be a number, not an object"),
    (CHAT, {"n": "x"}, "n must be a whole number, not a text"),
    (CHAT, {"seed": 1.5}, "seed must be a whole number, not 1.5"),
    (CHAT, {"stop": 5}, "stop must be a text or a list, not a whole number"),
    (CHAT, {"stop": [5]}, "stop[0] must be a text, not a whole number"),
    (CHAT, {"logprobs": "x"}, "logprobs must be true or false or a whole number, not a text"),
    (CHAT, {"messages": 5}, "messages must be a list, not a number"),
    (CHAT, {"messages": None}, "messages must be a list, not null"),
    (CHAT, {"tools": {}}, "tools must be a list, not an object"),
    (TEXT, {"temperature": "x"}, "temperature must be a number, not a text"),
    (TEXT, {"prompt": 5}, "prompt must be a text or a list, not a number"),
    (TEXT, {"prompt": True}, "prompt must be a text or a list, not true"),
]


@pytest.mark.parametrize(("path", "members", "words"), WRONG, ids=str)
def test_what_is_of_another_type_is_named_before_the_engine_is_asked(
    path: str, members: dict[str, Any], words: str
) -> None:
    bench = Bench()
    error = bench.post(path, messages(prompt="x") | members).error
    assert (error["message"], error["code"]) == (words, "invalid_type")
    assert error["param"] == words.partition(" ")[0]
    assert not bench.upstream.asked


@pytest.mark.parametrize(
    "members",
    [
        {"max_tokens": 3.0, "n": 1.0, "seed": -1, "top_k": 40.0, "temperature": 1},
        {"seed": 99999999999999999999, "logprobs": 2, "stop": "a", "tools": []},
        dict.fromkeys(("max_tokens", "n", "seed", "temperature", "top_p", "stop", "logprobs", "tools", "stream")),
        {"prompt": {"prompt_string": "x"}, "logit_bias": [[5, False]], "unknown": "x"},
        {"prompt": ["x"], "stop": ["a", "b"], "top_logprobs": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_what_the_engine_takes_passes(path: str, members: dict[str, Any]) -> None:
    bench = Bench()
    assert bench.post(path, messages(prompt="x") | members).status == 200
    got = json.loads(bench.upstream.asked[0].body)
    assert all(got[name] == value for name, value in members.items() if name != "stream")


TWO = (served("a"), served("b"))
ONE_LOADED = (served("a", phase=Phase.UNLOADED), served("b"))


@pytest.mark.parametrize(
    ("known", "model", "status", "code"),
    [
        ((served("a"),), None, 200, None),
        (ONE_LOADED, None, 200, None),
        (ONE_LOADED, "a", 200, None),
        (TWO, None, 400, "model_required"),
        (TWO, "", 400, "model_required"),
        (TWO, "c", 404, "model_not_found"),
        ((served("a"),), "c", 404, "model_not_found"),
        ((), "c", 503, "no_model"),
        ((), None, 503, "no_model"),
    ],
)
def test_the_model_is_the_one_named_or_the_only_one(
    known: tuple[Any, ...], model: str | None, status: int, code: str | None
) -> None:
    client = Bench(FakeHost(known=known)).post(CHAT, messages(model=model))
    assert client.status == status
    if code:
        assert client.error["code"] == code
        assert ("GGUF" if status == 503 else "a") in client.error["message"]


@pytest.mark.parametrize(
    ("path", "changes", "code", "words"),
    [
        (CHAT, {"chat_refusal": "its template hangs"}, "chat_disabled", "its template hangs; /v1/completions"),
        (CHAT, {"capabilities": (Capability.EMBEDDINGS,)}, "chat_unsupported", "use /v1/embeddings"),
        (CHAT, {"capabilities": (Capability.COMPLETION,)}, "chat_unsupported", "use /v1/completions"),
        (CHAT, {"capabilities": (Capability.RERANK,)}, "chat_unsupported", "only rerank"),
        ("/v1/completions", {"capabilities": (Capability.EMBEDDINGS,)}, "completion_unsupported", "/v1/embeddings"),
        ("/v1/embeddings", {}, "embeddings_unsupported", "--embedding"),
    ],
)
def test_what_a_model_cannot_do_is_refused_without_loading_it(
    path: str, changes: dict[str, Any], code: str, words: str
) -> None:
    bench = Bench(FakeHost(known=[served(phase=Phase.UNLOADED, **changes)]))
    client = bench.post(path, messages(stream=True))
    assert (client.status, client.error["code"]) == (400, code)
    assert words in client.error["message"]
    assert bench.host.granted == 0


def test_completions_stay_when_chat_is_disabled() -> None:
    bench = Bench(FakeHost(known=[served(chat_refusal="broken template")]))
    assert bench.post("/v1/completions", {"prompt": "x"}).status == 200


def test_a_failure_that_is_kept_does_not_keep_the_request_it_was_told_to() -> None:
    host = FakeHost(refusal=EngineError("it died"))
    assert Bench(host).post(CHAT, messages()).status == 503
    assert host.refusal is not None
    assert host.refusal.__traceback__ is None


@pytest.mark.parametrize(
    ("refusal", "status", "code", "headers"),
    [
        (RefusedError("needs 8 GiB, 4 are free", hint="q4"), 503, "does_not_fit", {"x-should-retry": "false"}),
        (RefusedError("context 9", code="cannot_be_had"), 422, "cannot_be_had", {}),
        (ReadError("bad magic", path="m.gguf"), 503, "unreadable_model", {"x-should-retry": "false"}),
        (EngineError("no program", code="no_such_program"), 503, "no_such_program", {"x-should-retry": "false"}),
        (EngineError("cannot open", code="missing_file"), 503, "missing_file", {"x-should-retry": "false"}),
        (EngineError("it died", log_tail=("a", "b")), 503, "engine", {"retry-after": "2"}),
        (StoppingError("going down"), 503, "stopping", {"retry-after": "5"}),
        (BercailError("odd"), 500, "error", {}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_why_there_is_no_lease_is_told_with_its_status(
    refusal: BercailError, status: int, code: str, headers: dict[str, str], *, stream: bool
) -> None:
    bench = Bench(FakeHost(refusal=refusal))
    client = bench.post(CHAT, messages(stream=stream))
    assert (client.status, client.error["code"]) == (status, code)
    assert refusal.message in client.error["message"]
    assert headers.items() <= client.headers.items()
    assert ("retry-after" in client.headers) == ("retry-after" in headers)
    assert client.error.get("log_tail") == (["a", "b"] if code == "engine" else None)
    assert not bench.upstream.asked


OVERFLOW = json.dumps({"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 5}}).encode()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "pieces"),
    [
        (400, [OVERFLOW[:10], OVERFLOW[10:]]),
        (200, [b'data: {"choices":[],"prompt_progress":{}}\n\n', b"data: " + OVERFLOW + b"\n\n"]),
    ],
)
def test_an_overflow_keeps_its_status_wherever_it_is_told(status: int, pieces: list[bytes], *, stream: bool) -> None:
    client = Bench(upstream=FakeUpstream(Scripted(status=status, pieces=pieces))).post(CHAT, messages(stream=stream))
    assert (client.status, client.error["code"]) == (400, "context_length_exceeded")
    assert client.complete


def test_a_body_over_the_cap_is_refused_by_its_announced_length_and_the_connection_closed() -> None:
    bench = Bench()

    async def scene(bench: Bench) -> None:
        client = bench.client().start(CHAT, b"x" * 10, b"y", headers=((b"content-length", b"4096"),))
        await client.end()
        assert (client.status, client.error["code"]) == (413, "body_too_large")
        assert client.headers["connection"] == "close"
        assert "2048 bytes" in client.error["message"]
        assert client.complete

    bench.play(scene)


@pytest.mark.parametrize("pieces", [(b"x" * 4096,), (b"x" * 1500, b"x" * 1500, b"x" * 1500), (b"", b"x" * 2049)])
def test_a_body_over_the_cap_is_refused_by_its_real_length(pieces: tuple[bytes, ...]) -> None:
    async def scene(bench: Bench) -> None:
        client = await bench.client().start(CHAT, *pieces).end()
        assert (client.status, client.error["code"]) == (413, "body_too_large")
        assert client.complete

    Bench().play(scene)


def test_a_body_in_pieces_up_to_the_cap_is_taken() -> None:
    async def scene(bench: Bench) -> None:
        body = json.dumps(messages()).encode()
        client = await bench.client().start(CHAT, body[:9], b"", body[9:]).end()
        assert client.status == 200

    Bench().play(scene)


@pytest.mark.parametrize("coding", [b"gzip", b"br"])
def test_an_encoded_body_is_refused(coding: bytes) -> None:
    async def scene(bench: Bench) -> None:
        client = await bench.client().start(CHAT, b"{}", headers=((b"content-encoding", coding),)).end()
        assert (client.status, client.error["code"]) == (415, "unsupported_encoding")

    Bench().play(scene)


def test_identity_is_no_encoding() -> None:
    async def scene(bench: Bench) -> None:
        body = json.dumps(messages()).encode()
        client = await bench.client().start(CHAT, body, headers=((b"content-encoding", b"identity"),)).end()
        assert client.status == 200

    Bench().play(scene)


def test_a_body_that_never_comes_is_given_up() -> None:
    async def scene(bench: Bench) -> None:
        client = bench.client().start(CHAT)
        await client.end()
        assert (client.status, client.error["code"]) == (408, "slow_body")
        assert client.started_s == pytest.approx(30)

    Bench().play(scene)


@pytest.mark.parametrize(
    ("path", "method", "status", "allow"),
    [
        ("/v1/models", "POST", 405, "GET, HEAD, OPTIONS"),
        ("/health", "DELETE", 405, "GET, HEAD, OPTIONS"),
        (CHAT, "GET", 405, "POST, OPTIONS"),
        (CHAT + "/", "GET", 405, "POST, OPTIONS"),
        (CHAT, "OPTIONS", 204, "POST, OPTIONS"),
        ("/v1/models", "OPTIONS", 204, "GET, HEAD, OPTIONS"),
        ("/v1/models", "HEAD", 200, None),
        ("/nowhere", "GET", 404, None),
        ("/nowhere", "POST", 404, None),
        ("/nowhere", "OPTIONS", 404, None),
        ("/v1", "GET", 404, None),
    ],
)
def test_wrong_methods_and_unknown_paths_are_told_apart(path: str, method: str, status: int, allow: str | None) -> None:
    client = Bench().get(path, method)
    assert client.status == status
    assert client.headers.get("allow") == allow
    assert "access-control-allow-origin" not in client.headers
    if status in (404, 405):
        assert client.error["type"] == "invalid_request_error"
    if status == 404:
        assert client.error["message"] == f"there is no {path} here: GET / lists every route"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/chat/completion", "POST /v1/chat/completions"),
        ("/v1/v1/models", "GET /v1/models"),
        ("/v1/tokenize", "POST /tokenize"),
        ("/v1/model", "GET /v1/models"),
    ],
)
def test_a_path_that_is_not_there_names_the_nearest_that_are(path: str, meant: str) -> None:
    message = Bench().get(path).error["message"]
    assert message.startswith(f"there is no {path} here: did you mean {meant}")
    assert len(message) < 200


def test_below_api_it_is_told_in_the_words_of_ollama() -> None:
    assert Bench().get("/api/config/relaod").json == {
        "error": "there is no /api/config/relaod here: did you mean POST /api/config/reload? GET / lists every route"
    }


def test_every_route_that_is_listed_is_there() -> None:
    client = Bench()
    for route in LISTED:
        methods, path = route.split(" ")
        # Those are there where a log is kept, and these do not end by themselves.
        if "{" not in path and not path.startswith("/logs") and path not in ("/models/sse", "/api/events"):
            method = "POST" if methods == "ANY" else methods.partition("|")[0]
            assert "there is no /" not in client.get(path, method).body.decode(), route


PATHS = ["/", "/v1/models", "/models/", "/v1/models/tiny", "/models/no/such", "/health", "/v1/health", "/metrics"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_no_look_starts_a_model(path: str, method: str) -> None:
    bench = Bench(FakeHost(known=[served(phase=Phase.UNLOADED)]))
    client = bench.get(path, method)
    assert client.status == (404 if "no/such" in path and method != "OPTIONS" else 204 if method == "OPTIONS" else 200)
    assert bench.host.granted == 0
    assert not bench.upstream.asked


def test_one_model_is_found_by_a_name_with_slashes() -> None:
    bench = Bench(FakeHost(known=[served("org/name:Q4_0"), served("b")]))
    assert bench.get("/v1/models/org/name:Q4_0").json["id"] == "org/name:Q4_0"
    missing = bench.get("/v1/models/c")
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")


def test_a_stopping_server_refuses_new_requests_and_says_when_to_come_back() -> None:
    bench = Bench()
    bench.app.stopping = True
    client = bench.post(CHAT, messages())
    assert (client.status, client.error["code"]) == (503, "stopping")
    assert client.headers["retry-after"] == "5"
    assert client.headers["connection"] == "close"
    assert bench.get("/health").status == 503
    assert bench.get("/v1/models").status == 200


def test_a_fault_of_the_gateway_itself_is_an_answer_and_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeUpstream):
        async def send(self, *_: object) -> Scripted:
            raise ZeroDivisionError

    client = Bench(upstream=Broken(answer("x"))).post(CHAT, messages())
    assert (client.status, client.error["code"]) == (500, "internal")
    assert "ZeroDivisionError" in caplog.text


def test_the_metrics_tell_what_happened() -> None:
    bench = Bench()
    bench.post(CHAT, messages())
    bench.post(CHAT, messages(stream=True))
    bench.post(CHAT, messages(model="other"))
    lines = bench.get("/metrics").body.decode().splitlines()
    assert 'bercail_requests_total{model="tiny",endpoint="chat/completions",status="200"} 2' in lines
    assert 'bercail_requests_total{model="(none)",endpoint="chat/completions",status="404"} 1' in lines
    assert 'bercail_prefill_tokens_total{model="tiny"} 4' in lines
    assert 'bercail_decode_tokens_total{model="tiny"} 2' in lines
    assert 'bercail_time_to_first_token_seconds_count{model="tiny"} 2' in lines
    assert 'bercail_model_loaded{model="tiny"} 1' in lines


def test_other_scopes_are_left_alone() -> None:
    async def scene(bench: Bench) -> None:
        client = bench.client()
        await bench.app({"type": "lifespan", "method": "", "path": "", "headers": []}, client._receive, client._send)
        assert client.started_s is None

    Bench().play(scene)


def test_requests_at_the_same_time_do_not_mix() -> None:
    async def scene(bench: Bench) -> None:
        clients = [bench.client().start(CHAT, json.dumps(messages(stream=n % 2 == 0)).encode()) for n in range(8)]
        await asyncio.gather(*(client.end() for client in clients))
        assert {client.status for client in clients} == {200}

    Bench(upstream=FakeUpstream(*(answer(str(n)) for n in range(9)))).play(scene)


def test_models_are_told_in_lm_studios_words() -> None:
    embeds = served("x/e", capabilities=(Capability.EMBEDDINGS,), phase=Phase.UNLOADED, slot_context_tokens=None)
    two = (served("a", capabilities=(Capability.CHAT, Capability.COMPLETION, Capability.TOOLS), format="gguf"), embeds)
    found = Bench(FakeHost(known=two)).get("/api/v0/models").json
    assert found["object"] == "list"
    assert found["data"][0] == {
        "id": "a", "object": "model", "type": "llm", "publisher": "bercail", "arch": "llama",
        "compatibility_type": "gguf", "quantization": "Q8_0", "state": "loaded", "max_context_length": 512,
        "loaded_context_length": 512, "capabilities": ["tool_use"],
    }  # fmt: skip
    one = Bench(FakeHost(known=two)).get("/api/v0/models/x/e").json
    assert one == found["data"][1]
    assert (one["type"], one["state"], one["max_context_length"]) == ("embeddings", "not-loaded", 4096)
    assert "loaded_context_length" not in one
    assert Bench(FakeHost(known=two)).get("/api/v0/models/none").status == 404
