"""A running server asked by hand."""

import json
from typing import Any

import pytest

from bercail.core.errors import EngineError, NotFoundError
from bercail.flows import Moved, load, logs, profiles, running, switch, unload
from fakes.house import ClosingUpstream, Fakes, run
from fakes.upstream import Scripted


def answering(body: object, status: int = 200) -> Fakes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Fakes(upstream=ClosingUpstream(Scripted(status=status, pieces=[data])))


def test_what_runs_is_asked_for() -> None:
    fakes = answering({"running": [{"model": "a"}, "odd"]})
    assert run(lambda: running(fakes.house())) == ({"model": "a"},)
    assert (fakes.upstream.asked[0].method, fakes.upstream.asked[0].target) == ("GET", "/running")
    assert fakes.upstream.closed
    assert run(lambda: running(answering({"running": 3}).house())) == ()


@pytest.mark.parametrize(("flow", "target"), [(load, "/models/load"), (unload, "/models/unload")])
def test_models_come_and_go(flow: Any, target: str) -> None:
    fakes = answering({"success": True, "model": "tiny", "was": "ready"})
    assert run(lambda: flow(fakes.house(), "a")) == Moved(id="tiny", was="ready")
    (asked,) = fakes.upstream.asked
    assert (asked.method, asked.target, json.loads(asked.body)) == ("POST", target, {"model": "a"})


def test_a_server_that_does_not_say_what_it_moved_is_taken_at_the_name() -> None:
    assert run(lambda: unload(answering({"success": True}).house(), "a")) == Moved(id="a")


def test_profiles_are_told_and_switched() -> None:
    told = {"profiles": [], "active": "work"}
    fakes = answering(told)
    assert run(lambda: profiles(fakes.house())) == told
    assert run(lambda: switch(fakes.house(), None)) == told
    first, second = fakes.upstream.asked
    assert (first.method, first.target) == ("GET", "/api/profiles")
    assert (second.method, second.target, json.loads(second.body)) == ("PUT", "/api/profiles/active", {"name": None})


@pytest.mark.parametrize("flow", [running, load, unload])
def test_a_key_is_shown(flow: Any) -> None:
    fakes = answering({"success": True})
    given = () if flow is running else ("a",)
    run(lambda: flow(fakes.house(), *given, "bk-1"))
    assert (b"authorization", b"Bearer bk-1") in fakes.upstream.asked[0].headers
    run(lambda: flow(fakes.house(), *given))
    assert b"authorization" not in dict(fakes.upstream.asked[1].headers)


@pytest.mark.parametrize("body", [b"<html>", [1]])
def test_another_server_is_not_taken_for_ours(body: object) -> None:
    with pytest.raises(NotFoundError, match="is not Bercail"):
        run(lambda: running(answering(body).house()))


@pytest.mark.parametrize(
    ("body", "words"), [({"error": {"message": "no room now"}}, "no room now"), ({"error": 1}, "status 503")]
)
def test_a_refusal_is_told_in_the_words_of_the_server(body: object, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        run(lambda: load(answering(body, 503).house(), "a"))


def test_without_a_server_it_says_how_to_start_one() -> None:
    unreachable = EngineError("nobody", code="engine_unreachable")
    fakes = Fakes(upstream=ClosingUpstream(Scripted(before_headers=unreachable)))
    with pytest.raises(NotFoundError, match="no server at") as caught:
        run(lambda: running(fakes.house()))
    assert "bercail up" in caught.value.hint
    broken = Fakes(upstream=ClosingUpstream(Scripted(before_headers=EngineError("broke off", code="engine_broke_off"))))
    with pytest.raises(EngineError, match="broke off"):
        run(lambda: running(broken.house()))


def test_a_key_that_is_missing_is_told_with_how_to_make_one() -> None:
    with pytest.raises(EngineError, match="needs an API key") as caught:
        run(lambda: load(answering({"error": {"message": "this server needs an API key"}}, 401).house(), "a"))
    assert "BERCAIL_KEY" in caught.value.hint


def lines_of(fakes: Fakes, whose: str = "", *, follow: bool = False) -> list[str]:
    async def read() -> list[str]:
        return [line async for line in logs(fakes.house(), whose, follow=follow, key="bk-1")]

    return run(read)


def test_lines_are_told_as_they_come() -> None:
    fakes = Fakes(upstream=ClosingUpstream(Scripted(pieces=[b"one\ntw", b"o\n\n", b"\xff\n"])))
    assert lines_of(fakes, "a/b c", follow=True) == ["one", "two", "\N{REPLACEMENT CHARACTER}"]
    assert fakes.upstream.asked[0].target == "/logs/stream/a/b%20c"
    assert fakes.upstream.closed
    assert (b"authorization", b"Bearer bk-1") in fakes.upstream.asked[0].headers
    assert lines_of(fakes) == ["one", "two", "\N{REPLACEMENT CHARACTER}"]
    assert fakes.upstream.asked[1].target == "/logs"


def test_a_refusal_of_lines_is_told_in_its_words() -> None:
    with pytest.raises(EngineError, match="no log of"):
        lines_of(answering({"error": {"message": "no log of 'x'"}}, 400), "x")
