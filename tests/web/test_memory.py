"""What is in memory, and the wish to change it, as clients of llama-server's router and of llama-swap ask."""

import json
from typing import Any

import pytest

from bercail.core.access import KeyWish, Scope, mint
from bercail.core.configuration import Profile, Profiles
from bercail.core.errors import BusyError, SettingsError
from bercail.core.options import ServerOptions
from bercail.core.route import Phase
from bercail.web.app import App
from bercail.web.gate import Gate
from fakes.bench import Bench
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.house import FakeKeyring, run
from fakes.upstream import FakeUpstream


def two() -> FakeHost:
    return FakeHost(known=(served("a", engine="llama.cpp", requests=2, waiting=1), served("b", phase=Phase.UNLOADED)))


def test_what_runs_is_told() -> None:
    (row,) = Bench(two()).get("/running").json["running"]
    assert row == {
        "model": "a", "state": "ready", "name": "", "description": "", "cmd": "", "proxy": "", "ttl": 0,
        "engine": "llama.cpp", "requests": 2, "waiting": 1,
        "slots": 2, "context_length": 512, "cores": None, "numa": None, "cores_because": None,
    }  # fmt: skip


@pytest.mark.parametrize(("scopes", "whole"), [({Scope.MODELS}, False), ({Scope.MODELS, Scope.ADMIN}, True)])
def test_what_starts_a_model_and_where_it_answers_is_told_to_who_manages(
    scopes: frozenset[Scope], *, whole: bool
) -> None:
    known = served("a", started_by="x-server --api-key s3cret", address="http://localhost:5800", ttl_s=30.0)
    keyring = FakeKeyring()
    key, token = mint(KeyWish(name="a", scopes=tuple(scopes)), bytes(36), 0.0)
    keyring.add(key)
    gate = Gate(keyring)
    client = Client(App(FakeHost(known=(known,)), FakeUpstream(), ServerOptions(), lambda: 0.0, gate))
    shown = ((b"authorization", f"Bearer {token}".encode()),)
    run(lambda: client.start("/running", b"", method="GET", headers=shown).end())
    (row,) = client.json["running"]
    assert row["ttl"] == 30
    told = ("x-server --api-key s3cret", "http://localhost:5800") if whole else ("", "")
    assert (row["cmd"], row["proxy"]) == told


def test_the_cores_that_an_engine_is_kept_to_are_told_with_the_reason() -> None:
    host = FakeHost(known=(served("a", cores=(0, 1, 4), numa=1, cores_because="as asked"),))
    (row,) = Bench(host).get("/running").json["running"]
    assert (row["cores"], row["numa"], row["cores_because"]) == ("0-1,4", 1, "as asked")


@pytest.mark.parametrize(
    ("path", "body", "answer", "unloaded"),
    [
        ("/models/unload", {"model": "a"}, {"success": True, "model": "a", "was": "ready"}, ["a"]),
        ("/api/models/unload", {}, {"msg": "ok"}, ["a"]),
        ("/unload", {}, "OK", ["a"]),
        ("/api/models/unload/a", {}, "OK", ["a"]),
    ],
)
def test_models_leave_by_hand(path: str, body: dict[str, Any], answer: object, unloaded: list[str]) -> None:
    host = two()
    found = Bench(host).post(path, body)
    assert (found.status, found.body.decode() if answer == "OK" else found.json) == (200, answer)
    assert host.unloads == unloaded


def test_a_model_comes_by_hand() -> None:
    host = two()
    assert Bench(host).post("/models/load", {"model": "b"}).json == {"success": True, "model": "b", "was": "stopped"}
    assert host.loads == ["b"]


def test_what_comes_or_goes_by_another_name_is_told_by_its_own() -> None:
    host = FakeHost(known=(served("a", aliases=("gpt-5",)),))
    assert Bench(host).post("/models/unload", {"model": "gpt-5"}).json["model"] == "a"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/models/load", {}, 400, "name the model"),
        ("/models/load", b"{", 400, "name the model"),
        ("/models/unload", {"model": "z"}, 404, "there is no model 'z'"),
        ("/api/models/unload/z", {}, 404, "there is no model 'z'"),
    ],
)
def test_what_is_wrong_is_told(path: str, body: Any, status: int, words: str) -> None:
    found = Bench(two()).post(path, body)
    assert found.status == status
    assert words in found.json["error"]["message"]


def test_what_cannot_come_says_why_and_when_to_try_again() -> None:
    host = two()
    host.refusal = BusyError("no room now", status=503, retry_after_s=7)
    found = Bench(host).post("/models/load", {"model": "b"})
    assert (found.status, found.headers["retry-after"]) == (503, "7")


def test_the_configuration_is_read_anew_by_hand() -> None:
    found = Bench(two()).post("/api/config/reload", {})
    assert (found.status, found.json) == (
        200,
        {"changed": ["a"], "added": ["b"], "gone": [], "later": ["server.port"], "altered": ["other names of a"]},
    )


def test_a_configuration_that_is_wrong_is_told_with_its_line_and_what_to_do() -> None:
    host = two()
    host.refusal = SettingsError("c.yaml, line 3: unknown key 'modle'", hint="did you mean model?")
    found = Bench(host).post("/api/config/reload", {})
    assert (found.status, found.json["error"]["code"]) == (422, "settings")
    assert found.json["error"]["message"] == "c.yaml, line 3: unknown key 'modle': did you mean model?"


def test_other_methods_are_refused() -> None:
    found = Bench(two()).get("/models/load")
    assert (found.status, found.headers["allow"]) == (405, "POST")


def with_profiles() -> FakeHost:
    host = two()
    host.others = Profiles(known=(Profile(id="work", line=1, pins={"x": "a", "y": None}, description="d"),))
    return host


def test_profiles_are_told_and_switched() -> None:
    host = with_profiles()
    known = [{"name": "work", "description": "d", "pins": {"x": "a", "y": None}}]
    assert Bench(host).get("/api/profiles").json == {"profiles": known, "active": None}
    assert put(host, {"name": "work"}).json == {"profiles": known, "active": "work"}
    assert host.others.active == "work"
    assert put(host, {"name": None}).json["active"] is None


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": 3}, [], b"{", b"[" * 2000])
def test_a_profile_that_is_not_named_is_refused(body: object) -> None:
    client = put(with_profiles(), body)
    assert (client.status, client.error["code"]) == (400, "profile_required")


def test_an_unknown_profile_is_named_with_those_there_are() -> None:
    client = put(with_profiles(), {"name": "play"})
    assert client.status == 404
    assert client.error["message"] == "no profile 'play': there are: work"


def put(host: FakeHost, body: object) -> Client:
    bench = Bench(host)
    client = bench.client()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def scene(_: Bench) -> None:
        await client.start("/api/profiles/active", data, method="PUT").end()

    bench.play(scene)
    return client
