"""An engine's own paths."""

import asyncio
from typing import Any

import pytest

from bercail.core.chat import ApiError
from bercail.core.configuration import Profile, Profiles
from bercail.core.errors import EngineError
from bercail.core.route import Phase
from fakes.bench import Bench
from fakes.host import FakeHost, served
from fakes.upstream import FakeUpstream, Scripted

NAMES = ("tiny", "org/tiny", "org/tiny/x")


def bench(*pieces: Any, status: int = 200, phase: Phase = Phase.LOADED, headers: Any = ()) -> Bench:
    host = FakeHost(known=[served(name, phase=phase) for name in NAMES])
    return Bench(host, FakeUpstream(Scripted(pieces=pieces, status=status, headers=list(headers))))


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/upstream/tiny/", "/"),
        ("/upstream/tiny/v1/models?a=%2F&b=c+d", "/v1/models?a=%2F&b=c+d"),
        ("/upstream/org/tiny/a%2Fb%252F%C3%A9//c/", "/a%2Fb%252F%C3%A9//c/"),
        ("/upstream/org%2Ftiny%2Fx/y", "/y"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
def test_everything_is_handed_on_as_it_came(path: str, target: str, method: str) -> None:
    one = bench(b"ab", b"cd", status=418, headers=[(b"content-type", b"x/y"), (b"transfer-encoding", b"chunked")])

    async def scene(one: Bench) -> None:
        headers = ((b"authorization", b"Bearer secret"), (b"x-own", b"1"), (b"host", b"h"))
        client = await one.client().start(path, b"bo", b"dy", method=method, headers=headers).end()
        assert (client.status, client.body, client.complete) == (418, b"abcd", True)
        assert client.headers == {"content-type": "x/y"}
        [asked] = one.upstream.asked
        assert (asked.method, asked.target, asked.body) == (method, target, b"body")
        assert asked.headers == [(b"x-own", b"1")]

    one.play(scene)


def comfyui(phase: Phase = Phase.LOADED) -> Bench:
    return Bench(FakeHost(known=[served("comfyui_auto", phase=phase)]), FakeUpstream(Scripted(pieces=[b"x"])))


def test_comfyui_has_a_path_of_its_own() -> None:
    one = comfyui()
    assert one.get("/comfyui/api/a%2Fb?c=d").body == b"x"
    assert one.upstream.asked[0].target == "/api/a%2Fb?c=d"
    for method, status in (("GET", 301), ("POST", 308)):
        client = one.get("/comfyui?a=b", method)
        assert (client.status, client.headers["location"]) == (status, "/comfyui/?a=b")
    assert Bench().get("/comfyui/").status == 404
    assert Bench().get("/comfyuix").status == 404


def test_only_its_page_loads_comfyui() -> None:
    one = comfyui(Phase.UNLOADED)
    for path in ("/comfyui/api/queue", "/comfyui/ws"):
        assert (one.get(path).status, one.host.granted) == (409, 0)
    assert (one.get("/comfyui/").status, one.host.granted) == (200, 1)


def test_a_path_that_no_model_begins_is_told_of_those_that_are_listed() -> None:
    client = Bench(FakeHost(known=[served("tiny"), served("own", unlisted=True)])).get("/upstream/tony/x")
    assert (client.status, client.error["code"]) == (404, "model_not_found")
    assert client.error["message"].endswith("there are: tiny")


@pytest.mark.parametrize("name", ["ti", "or%2Fg", "big/one"])
def test_aliases_and_the_names_of_a_profile_begin_a_path_too(name: str) -> None:
    host = FakeHost(known=[served("tiny", aliases=("ti", "or/g"))])
    host.others = Profiles(known=(Profile(id="p", line=1, pins={"big/one": "tiny"}),), active="p")
    one = Bench(host, FakeUpstream(Scripted(pieces=[b"x"])))
    assert one.get(f"/upstream/{name}/a").body == b"x"
    assert host.asked[0][0] in ("ti", "or/g", "tiny", "big/one")


def test_a_pattern_of_names_begins_a_path_and_takes_nothing_of_it_along() -> None:
    host = FakeHost(known=[served("tiny", aliases=("gpt-*",))])
    one = Bench(host, FakeUpstream(Scripted(pieces=[b"x"])))
    host.others = Profiles(known=(Profile(id="p", line=1, pins={"gpt-4": "tiny"}),), active="p")
    assert one.get("/upstream/gpt-4/a/b").body == b"x"
    assert one.upstream.asked[0].target == "/a/b"
    assert one.get("/upstream/other/a").status == 404


def test_a_head_is_a_get_without_its_body() -> None:
    one = bench(b"abcd", headers=[(b"content-length", b"4")])
    client = one.get("/upstream/tiny/x", "HEAD")
    assert (client.status, client.body, client.headers["content-length"]) == (200, b"", "4")
    assert one.upstream.asked[0].method == "GET"


@pytest.mark.parametrize("path", ["/upstream", "/upstream/"])
def test_without_a_model_it_is_the_page_that_lists_them(path: str) -> None:
    client = bench(b"x").get(path)
    assert (client.status, client.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/upstream/none/x", "GET", 404),
        ("/upstream/", "POST", 405),
        ("/upstream/tiny/../x", "GET", 400),
        ("/upstream/tiny/%2e%2e%2fx", "GET", 400),
        ("/upst%72eam/tiny/x", "GET", 404),
        ("/upstream/tiny/x", "TRACE", 405),
        ("/upstream/tiny/x", "CONNECT", 405),
    ],
)
def test_tricks_and_unknown_models_are_refused_without_an_engine(path: str, method: str, status: int) -> None:
    one = bench(b"x")
    client = one.get(path, method)
    assert client.status == status
    assert client.error["message"]
    assert not one.upstream.asked
    assert one.host.granted == 0


@pytest.mark.parametrize(("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308)])
def test_a_bare_model_leads_to_its_page(method: str, status: int) -> None:
    client = bench().get("/upstream/org%2Ftiny?a=b", method)
    assert (client.status, client.headers["location"]) == (status, "/upstream/org%2Ftiny/?a=b")


def test_a_path_loads_its_model_but_a_file_of_a_page_does_not() -> None:
    one = bench(b"x", phase=Phase.UNLOADED)
    assert one.get("/upstream/tiny/v1/models").status == 200
    assert one.host.granted == 1
    for name in ("app.js", "a/b.css", "favicon.ico"):
        client = one.get("/upstream/tiny/" + name)
        assert (client.status, client.error["code"]) == (409, "model_not_loaded")
    assert one.host.granted == 1
    assert bench(b"x").get("/upstream/tiny/app.js").body == b"x"


def test_an_answer_that_breaks_off_breaks_off_here_too() -> None:
    one = bench(b"half", EngineError("it died"))
    client = one.get("/upstream/tiny/x")
    assert (client.status, client.body, client.complete) == (200, b"half", False)
    lines = one.get("/metrics").body.decode()
    assert 'endpoint="upstream",status="502"' in lines


def test_an_engine_that_cannot_be_reached_is_told() -> None:
    one = Bench(upstream=FakeUpstream(Scripted(before_headers=EngineError("nobody listens"))))
    client = one.get("/upstream/tiny/x")
    assert (client.status, client.complete) == (502, True)
    assert "nobody listens" in client.error["message"]


def test_a_body_over_the_cap_is_refused() -> None:
    client = bench(b"x").post("/upstream/tiny/x", b"x" * 5000)
    assert (client.status, client.error["code"]) == (413, "body_too_large")


def test_a_client_that_leaves_ends_its_request() -> None:
    one = bench(b"a", 1000.0)

    async def scene(one: Bench) -> None:
        client = one.client().start("/upstream/tiny/x", b"", method="GET")
        await asyncio.sleep(0.01)
        client.leave()
        await client.end()
        assert one.upstream.answers[0].aborted

    one.play(scene)


def test_a_server_that_stops_breaks_an_answer_off() -> None:
    one = bench(b"a", 1000.0)

    async def scene(one: Bench) -> None:
        client = one.client().start("/upstream/tiny/x", b"", method="GET")
        await asyncio.sleep(0.01)
        [turn] = one.app.turns
        assert turn.stop(ApiError(status=503, message="stopping"))
        await client.end()
        assert (client.body, client.complete) == (b"a", False)

    one.play(scene)


def test_paths_that_load_nothing_are_for_the_configuration_to_say() -> None:
    one = bench(b"x", phase=Phase.UNLOADED)
    assert one.get("/upstream/tiny/a.js").status == 409
    one.app.take_assets(["^/quiet/"])
    assert [one.get(f"/upstream/tiny/{path}").status for path in ("a.js", "quiet/x")] == [200, 409]
