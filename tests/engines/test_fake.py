"""The fake engine's knobs and its journal."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.engines import Behaviour, FakeServer, HttpUpstream
from bercail.engines.fake import Failure


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110 - the fake has no event for it
            await asyncio.sleep(0)


def body(**more: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], **more}).encode()


def ask(data: bytes, behaviour: Behaviour | None = None) -> tuple[int, bytes]:
    async def story() -> tuple[int, bytes]:
        server = FakeServer(behaviour=behaviour)
        address = await server.listen(Address())
        upstream = HttpUpstream()
        try:
            response = await upstream.send(address, "POST", "/v1/chat/completions", [], data)
            return response.status, b"".join([piece async for piece in response.chunks()])
        finally:
            await upstream.close()
            await server.close()

    return asyncio.run(story())


def test_answer_has_as_many_tokens_as_asked_for() -> None:
    status, answer = ask(body(max_tokens=3))
    said = json.loads(answer)
    assert status == 200
    assert said["choices"][0]["message"]["content"] == "Once upon a"
    assert said["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("knobs", [{}, {"delay_s": 0.001}, {"prefill_steps": 0}, {"prefill_s": 0.001}])
@pytest.mark.parametrize("progress", [True, False])
def test_stream_says_the_same_at_any_pace(knobs: dict[str, object], progress: bool) -> None:
    status, answer = ask(body(max_tokens=3, stream=True, return_progress=progress, fake=knobs))
    events = [line[6:] for line in answer.decode().splitlines() if line]
    assert status == 200
    assert events.pop() == "[DONE]"
    words = [json.loads(event)["choices"][0]["delta"].get("content") for event in events]
    assert "".join(word for word in words if word) == "Once upon a"
    steps = [json.loads(event)["prompt_progress"] for event in events if "prompt_progress" in event]
    assert bool(steps) == progress
    assert not progress or steps[-1]["processed"] == steps[-1]["total"]


@pytest.mark.parametrize(("fail", "status"), [(Failure.ERROR, 500), (Failure.CONTEXT, 400)])
def test_engine_fails_on_demand(fail: Failure, status: int) -> None:
    assert ask(body(fake={"fail": fail}))[0] == status
    assert ask(body(), Behaviour(fail=fail))[0] == status


def test_engine_dies_in_mid_stream_on_demand() -> None:
    with pytest.raises(EngineError, match="broke off"):
        ask(body(stream=True, fake={"fail": "die"}))


def test_unknown_knob_is_refused() -> None:
    status, answer = ask(body(fake={"tokenz": 3}))
    assert status == 400
    assert b"tokenz" in answer


def test_journal_tells_when_a_client_left() -> None:
    async def story() -> None:
        server = FakeServer()
        address = await server.listen(Address())
        upstream = HttpUpstream()
        hang = body(fake={"fail": "hang"})
        task = asyncio.create_task(upstream.send(address, "POST", "/v1/chat/completions", [], hang))
        await until(lambda: bool(server.visits))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (visit,) = server.visits
        await until(lambda: visit.left_s is not None)
        assert visit.left_s is not None
        assert visit.left_s >= visit.began_s
        assert visit.ended_s is None
        response = await upstream.send(address, "GET", "/fake/journal", [], b"")
        (told,) = json.loads(b"".join([piece async for piece in response.chunks()]))
        assert told["left_s"] == pytest.approx(visit.left_s)
        await upstream.close()
        await server.close()

    asyncio.run(story())


def test_program_serves_at_the_socket_it_was_given(tmp_path: Path) -> None:
    path = str(tmp_path / "f.sock")
    argv = [sys.executable, "-m", "bercail.engines.fake", "--uds", path, "--tokens", "2"]

    async def story() -> bytes:
        upstream = HttpUpstream()
        response = await upstream.send(Address(unix_path=path), "POST", "/v1/completions", [], b'{"prompt": "x"}')
        answer = b"".join([piece async for piece in response.chunks()])
        await upstream.close()
        return answer

    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as fake:
        assert fake.stdout is not None
        assert fake.stdout.readline() == f"unix:{path}\n"
        answer = asyncio.run(story())
        fake.kill()
    assert json.loads(answer)["choices"][0]["text"] == "Once upon"
