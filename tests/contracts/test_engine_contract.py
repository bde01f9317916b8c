"""What every engine promises: one suite, run against each of them, and against programs that people start instead."""

import asyncio
import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bercail.core.budget import Part
from bercail.core.command import PORT, CommandSpec
from bercail.core.engine import EngineSettings, Make, Offer
from bercail.core.errors import EngineError
from bercail.core.launch import Address, LaunchSpec, Progress, TemplateVerdict
from bercail.core.pulse import Pulse
from bercail.demo import demo_path
from bercail.engines import (
    Commands,
    Embedded,
    FakeEngine,
    FakeProcess,
    HttpUpstream,
    LlamaCpp,
    OnnxRuntime,
    OpenVino,
    Server,
    Workshop,
)
from bercail.engines.llama_cpp import server_flags
from bercail.engines.llama_cpp.tiny import write_llama
from bercail.ports import Engine, EngineProcess, UpstreamResponse
from bercail.store import find_paths

SETTINGS = EngineSettings(
    context_tokens=512, slots=2, kv_unified=False, batch_tokens=64, ubatch_tokens=64, kv_type_k="f16",
    kv_type_v="f16", flash_attention=True, threads=1, threads_batch=1, mmap=True, repack=False, warmup=False,
)  # fmt: skip


FAKE = ("-m", "bercail.engines.fake")
LLAMA_SERVER = ("-c", "from bercail.cli.llama_server import main; main()")


async def kill_fake(process: EngineProcess) -> None:
    assert isinstance(process, FakeProcess)
    await process.crash()


async def kill_child(process: EngineProcess) -> None:
    os.kill(process.pid, signal.SIGKILL)


class ByCommand:
    """An engine that is a command line: what a plan says becomes its arguments."""

    name = "command"
    build = "none"
    offer = Offer(name="command", id="command", make=Make.FOUND)

    def __init__(self, *program: str) -> None:
        self._program = program

    async def look(self) -> Offer:
        return self.offer

    async def start(self, spec: LaunchSpec, on_progress: Callable[[Progress], None]) -> EngineProcess:
        if self._program[1:] == FAKE:
            context = str(spec.settings.slot_context_tokens)
            said: tuple[str, ...] = ("--model", spec.model_path, "--context", context, "--port", "1")
        else:
            said = server_flags.render(spec, Address(port=1))
        words = [PORT if before == "--port" else word for before, word in zip(("", *said), said, strict=False)]
        asked = CommandSpec(model_id=spec.model_id, argv=(*self._program, *words), url=f"http://127.0.0.1:{PORT}")
        return await Commands(os.environ).start(asked, on_progress)

    async def account(
        self, model_path: str, settings: EngineSettings, draft_path: str | None = None
    ) -> tuple[Part, ...]:
        return ()

    async def try_template(self, template: str, timeout_s: float) -> TemplateVerdict:
        pytest.skip("a command renders no templates by itself")


@dataclass
class Bench:
    """One engine on the bench."""

    engine: Engine
    folder: Path
    runtime: Path
    model: Path
    kill: Callable[[EngineProcess], Awaitable[None]]
    tells_progress: bool = True
    progress: list[Progress] = field(default_factory=list)
    settings: EngineSettings = SETTINGS

    def spec(self, model: Path | None = None) -> LaunchSpec:
        return LaunchSpec(model_id="tiny", model_path=str(model or self.model), weights_bytes=1, settings=self.settings)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[EngineProcess, HttpUpstream]]:
        process = await self.engine.start(self.spec(), self.progress.append)
        upstream = HttpUpstream()
        try:
            yield process, upstream
        finally:
            await upstream.close()
            await process.stop(2.0)


@pytest.fixture(
    params=[
        "fake",
        pytest.param("llama.cpp", marks=pytest.mark.engine),
        pytest.param("llama-server", marks=pytest.mark.engine),
        pytest.param("llama-server found", marks=pytest.mark.engine),
        pytest.param("openvino", marks=pytest.mark.engine),
        pytest.param("onnxruntime", marks=[pytest.mark.engine, pytest.mark.shared]),
        "command fake",
        pytest.param("command bercail-llama-server", marks=pytest.mark.engine),
    ]
)
def bench(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    model = tmp_path_factory.getbasetemp() / "tiny.gguf"
    if not model.exists():
        write_llama(model)
    runtime = tmp_path / "r"
    runtime.mkdir()
    if request.param == "fake":
        return Bench(FakeEngine(runtime_dir=runtime), tmp_path, runtime, model, kill_fake)
    if request.param == "openvino":
        if not OpenVino().installed():
            pytest.skip("openvino-genai is not installed (extra openvino)")
        model = demo_path() or pytest.skip("the demo is not in this installation")
        return Bench(OpenVino(runtime_dir=runtime), tmp_path, runtime, model, kill_child)
    if request.param == "onnxruntime":
        if not OnnxRuntime().installed():
            pytest.skip("onnxruntime-genai is not installed (extra onnxruntime)")
        folder = with_template(request.getfixturevalue("shared") / "models" / "onnx" / "onnx-stories260K", tmp_path)
        return Bench(OnnxRuntime(runtime_dir=runtime), tmp_path, runtime, folder, kill_child)
    if request.param.startswith("command"):
        program = FAKE if request.param == "command fake" else LLAMA_SERVER
        return Bench(ByCommand(sys.executable, *program), tmp_path, runtime, model, kill_child, tells_progress=False)
    return Bench(LlamaCpp(a_host(request.param), runtime_dir=runtime), tmp_path, runtime, model, kill_child)


def with_template(folder: Path, place: Path) -> Path:
    """A copy of a folder for ONNX Runtime, with a template of chats."""
    copy = place / "onnx"
    shutil.copytree(folder, copy)
    tokenizer = json.loads((copy / "tokenizer_config.json").read_text())
    tokenizer["chat_template"] = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (copy / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return copy


def a_host(kind: str) -> Embedded | Server:
    """The embedded engine, one that was built here, or that one as if somebody else had made it."""
    if kind == "llama.cpp":
        return Embedded()
    paths = find_paths(os.environ, home=Path.home(), system=platform.system(), user_id=None)
    builds = [build for build in Workshop(paths.cache / "engines", {}).builds() if build.recipe.target == "cpu"]
    if not builds:
        pytest.skip("no engine was built here: `bercail engine build` makes one")
    if kind == "llama-server":
        return Server.built(builds[0], os.environ)
    return Server.found(Path(builds[0].folder) / "llama-server", os.environ, print)


@pytest.mark.engine
def test_an_engine_that_was_built_here_is_sound() -> None:
    a_host("llama-server")  # or skips
    paths = find_paths(os.environ, home=Path.home(), system=platform.system(), user_id=None)
    workshop = Workshop(paths.cache / "engines", os.environ, trial=demo_path())
    made = next(build for build in workshop.builds() if build.recipe.target == "cpu")
    assert asyncio.run(workshop.verify(made)) == ()


async def ask(
    upstream: HttpUpstream, process: EngineProcess, method: str, target: str, body: dict[str, object] | None = None
) -> tuple[int, bytes]:
    data = b"" if body is None else json.dumps(body).encode()
    response = await upstream.send(process.address, method, target, [(b"content-type", b"application/json")], data)
    return response.status, b"".join([piece async for piece in response.chunks()])


def gone(pid: int) -> bool:
    return pid == os.getpid() or not Path(f"/proc/{pid}").exists()


def test_engine_has_a_name_and_a_build(bench: Bench) -> None:
    assert bench.engine.name
    assert bench.engine.build


def test_started_engine_answers_its_health_check(bench: Bench) -> None:
    async def story() -> None:
        async with bench.running() as (process, upstream):
            status, body = await ask(upstream, process, "GET", "/health")
            assert (status, json.loads(body)) == (200, {"status": "ok"})

    asyncio.run(story())


def test_start_reports_progress_that_ends_at_one(bench: Bench) -> None:
    if not bench.tells_progress:
        pytest.skip("a command tells of no progress")

    async def story() -> None:
        async with bench.running():
            pass

    asyncio.run(story())
    fractions = [step.fraction for step in bench.progress if step.stage == "weights"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_generation_at_temperature_0_is_deterministic(bench: Bench) -> None:
    question: dict[str, object] = {"prompt": "abc", "max_tokens": 6, "temperature": 0}

    async def story() -> list[str]:
        async with bench.running() as (process, upstream):
            answers = [await ask(upstream, process, "POST", "/v1/completions", question) for _ in range(2)]
            assert [status for status, _ in answers] == [200, 200]
            return [json.loads(body)["choices"][0]["text"] for _, body in answers]

    first, second = asyncio.run(story())
    assert first == second != ""


def test_stream_carries_progress_then_tokens_then_usage_and_ends_with_done(bench: Bench) -> None:
    question: dict[str, object] = {
        "messages": [{"role": "user", "content": "abc"}], "max_tokens": 4, "temperature": 0, "stream": True,
        "return_progress": True, "stream_options": {"include_usage": True},
    }  # fmt: skip

    async def story() -> bytes:
        async with bench.running() as (process, upstream):
            status, body = await ask(upstream, process, "POST", "/v1/chat/completions", question)
            assert status == 200
            return body

    events = [line[6:] for line in asyncio.run(story()).decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    parsed = [json.loads(event) for event in events[:-1]]
    assert "prompt_progress" in parsed[0]
    assert parsed[-1]["choices"] == []
    assert parsed[-1]["usage"]["completion_tokens"] == 4
    assert parsed[-1]["timings"]["predicted_n"] == 4
    assert parsed[-2]["choices"][0]["finish_reason"] == "length"


def test_prompt_over_the_context_is_refused_with_its_numbers(bench: Bench) -> None:
    question: dict[str, object] = {"prompt": "a b c d " * 1000, "max_tokens": 1}

    async def story() -> tuple[int, bytes]:
        async with bench.running() as (process, upstream):
            return await ask(upstream, process, "POST", "/v1/completions", question)

    status, body = asyncio.run(story())
    error = json.loads(body)["error"]
    assert (status, error["type"], error["n_ctx"]) == (400, "exceed_context_size_error", 256)
    assert error["n_prompt_tokens"] > 256


def test_stopped_engine_leaves_neither_process_nor_socket(bench: Bench) -> None:
    async def story() -> int:
        process = await bench.engine.start(bench.spec(), bench.progress.append)
        end = await process.stop(120.0)
        assert end.code == 0
        assert await process.wait() == end
        return process.pid

    pid = asyncio.run(story())
    assert gone(pid)
    assert list(bench.runtime.iterdir()) == []


def test_stopping_twice_is_harmless(bench: Bench) -> None:
    async def story() -> None:
        process = await bench.engine.start(bench.spec(), bench.progress.append)
        assert await process.stop(2.0) == await process.stop(2.0)

    asyncio.run(story())


def test_it_says_that_it_is_well_until_it_ends(bench: Bench) -> None:
    async def story() -> None:
        process = await bench.engine.start(bench.spec(), bench.progress.append)
        assert await process.pulse(60.0) == Pulse()
        await bench.kill(process)
        await process.wait()
        assert (await process.pulse(60.0)).words

    asyncio.run(story())


def test_killed_engine_is_seen_to_end_by_that_signal(bench: Bench) -> None:
    """Nothing of it is left when that is heard."""
    left: list[Path] = []

    async def story() -> None:
        process = await bench.engine.start(bench.spec(), bench.progress.append)
        waiting = asyncio.create_task(process.wait())
        waiting.add_done_callback(lambda _: left.extend(bench.runtime.iterdir()))
        await bench.kill(process)
        end = await asyncio.wait_for(waiting, 60)
        assert end.code == -signal.SIGKILL
        assert end.log_tail
        upstream = HttpUpstream()
        with pytest.raises(EngineError):
            await ask(upstream, process, "GET", "/health")

    asyncio.run(story())
    assert left == list(bench.runtime.iterdir()) == []


def test_bad_model_is_an_error_that_names_it_says_why_and_shows_the_log(bench: Bench) -> None:
    bad = bench.folder / "bad.gguf"
    bad.write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match=r"tiny could not be loaded: .*cannot read it") as caught:
        asyncio.run(bench.engine.start(bench.spec(bad), bench.progress.append))
    assert caught.value.hint
    assert caught.value.log_tail
    assert list(bench.runtime.iterdir()) == []


def test_missing_model_is_an_error(bench: Bench) -> None:
    with pytest.raises(EngineError, match="tiny could not be loaded"):
        asyncio.run(bench.engine.start(bench.spec(bench.folder / "none.gguf"), bench.progress.append))


def test_cancelled_start_leaves_neither_process_nor_socket(bench: Bench) -> None:
    async def story() -> None:
        seen = asyncio.Event()
        start = asyncio.create_task(bench.engine.start(bench.spec(), lambda _: seen.set()))
        if bench.tells_progress:
            await seen.wait()
        else:
            await until(children)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start

    asyncio.run(story())
    assert children() == []
    assert list(bench.runtime.iterdir()) == []


async def until(true: Callable[[], object]) -> None:
    """Returns once ``true`` says so; nobody tells of such things."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def children() -> list[int]:
    """Processes whose parent we are, zombies included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(stat.parent.name))
    return found


def test_a_stop_string_ends_the_answer_and_is_not_in_it(bench: Bench) -> None:
    """Or the engine says that it has none."""
    question: dict[str, object] = {"prompt": "abc", "max_tokens": 24, "temperature": 0}

    async def story() -> None:
        async with bench.running() as (process, upstream):
            _, whole = await ask(upstream, process, "POST", "/v1/completions", question)
            text = json.loads(whole)["choices"][0]["text"]
            stop = stop_in(text)
            status, body = await ask(upstream, process, "POST", "/v1/completions", {**question, "stop": [stop]})
            if status == 400:
                assert "stop" in json.loads(body)["error"]["message"]
                return
            cut = json.loads(body)["choices"][0]
            assert stop not in cut["text"]
            assert text.startswith(cut["text"].rstrip("\N{REPLACEMENT CHARACTER}"))
            assert cut["finish_reason"] == "stop"

    asyncio.run(story())


def stop_in(text: str) -> str:
    """Letters of the text that nothing broken stands before: pieces of characters are sent when they are whole."""
    whole = [place for place, letter in enumerate(text) if letter.isascii() and letter.isprintable()]
    return text[whole[len(whole) // 2]]


def test_a_count_is_of_what_would_be_read(bench: Bench) -> None:
    """Or the engine says that it does not count."""
    chat: dict[str, object] = {"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 1}
    text = "Once upon a time"

    async def story() -> None:
        async with bench.running() as (process, upstream):

            async def told(path: str, body: dict[str, object]) -> dict[str, Any]:
                status, answer = await ask(upstream, process, "POST", path, body)
                assert status == 200, answer
                found: dict[str, Any] = json.loads(answer)
                return found

            status, body = await ask(upstream, process, "POST", "/v1/chat/completions/input_tokens", chat)
            if status == 404:
                return
            answer = await told("/v1/chat/completions", chat)
            assert json.loads(body)["input_tokens"] == answer["usage"]["prompt_tokens"]
            tokens = (await told("/tokenize", {"content": text, "add_special": True}))["tokens"]
            answer = await told("/v1/completions", {"prompt": text, "max_tokens": 1})
            assert len(tokens) == answer["usage"]["prompt_tokens"]
            bare = (await told("/tokenize", {"content": text, "add_special": False}))["tokens"]
            assert (await told("/detokenize", {"tokens": bare}))["content"].strip() == text

    asyncio.run(story())


def test_a_seed_makes_dice_fall_alike(bench: Bench) -> None:
    question: dict[str, object] = {"prompt": "abc", "max_tokens": 12, "temperature": 2.0, "seed": 7}

    async def story() -> list[str]:
        async with bench.running() as (process, upstream):
            answers = [await ask(upstream, process, "POST", "/v1/completions", question) for _ in range(2)]
            return [json.loads(body)["choices"][0]["text"] for _, body in answers]

    first, second = asyncio.run(story())
    assert first == second != ""


def test_requests_at_once_are_worked_on_at_once(bench: Bench) -> None:
    """As many as there are slots: each has its first piece before the first has ended."""
    question: dict[str, object] = {
        "max_tokens": 200, "temperature": 0, "stream": True, "ignore_eos": True, "fake": {"delay_s": 0.0025},
    }  # fmt: skip

    async def one(upstream: HttpUpstream, process: EngineProcess, name: str, order: list[str]) -> None:
        body = json.dumps({**question, "prompt": name * 3}).encode()
        headers = [(b"content-type", b"application/json")]
        response = await upstream.send(process.address, "POST", "/v1/completions", headers, body)
        first = True
        async for _ in response.chunks():
            if first:
                order.append(f"{name} begins")
                first = False
        order.append(f"{name} ends")

    async def story() -> list[str]:
        order: list[str] = []
        async with bench.running() as (process, upstream):
            await asyncio.gather(*(one(upstream, process, name, order) for name in "ab"))
        return order

    # A busy machine may let one of them come too late; an engine that takes one after the other never passes.
    assert any({event.split()[1] for event in asyncio.run(story())[:2]} == {"begins"} for _ in range(10))


@pytest.mark.parametrize("phase", ["reading", "generating", "waiting"])
def test_a_client_that_leaves_frees_its_slot(bench: Bench, phase: str) -> None:
    """Whether its prompt is read, it is being answered, or others are; the next request is answered in full."""
    chat = [{"role": "user", "content": "abc " * 20}]
    question: dict[str, object] = {
        "messages": chat, "max_tokens": 5000, "temperature": 0, "stream": True, "ignore_eos": True,
        "return_progress": True, "fake": {"delay_s": 0.01},
    }  # fmt: skip
    short: dict[str, object] = {"prompt": "abc", "max_tokens": 3, "temperature": 0}
    headers = [(b"content-type", b"application/json")]

    async def story() -> None:
        async with bench.running() as (process, upstream):

            async def begun(*, generating: bool) -> UpstreamResponse:
                body = json.dumps(question).encode()
                response = await upstream.send(process.address, "POST", "/v1/chat/completions", headers, body)
                async for piece in response.chunks():
                    if not generating or b'"content"' in piece:
                        break
                return response

            if phase == "waiting":
                busy = [await begun(generating=True) for _ in range(SETTINGS.slots)]
                late = asyncio.create_task(begun(generating=True))
                await asyncio.sleep(0.1)  # it is sent, and waits for a slot
                late.cancel()
                await asyncio.wait([late])
                for response in busy:
                    response.abort()
            else:
                for _ in range(SETTINGS.slots + 1):
                    (await begun(generating=phase == "generating")).abort()
            async with asyncio.timeout(120):
                status, answer = await ask(upstream, process, "POST", "/v1/completions", short)
            assert (status, json.loads(answer)["usage"]["completion_tokens"]) == (200, 3)

    asyncio.run(story())


def test_logprobs_or_a_clear_refusal(bench: Bench) -> None:
    question: dict[str, object] = {"prompt": "abc", "max_tokens": 2, "temperature": 0, "logprobs": 2}

    async def story() -> tuple[int, bytes]:
        async with bench.running() as (process, upstream):
            return await ask(upstream, process, "POST", "/v1/completions", question)

    status, body = asyncio.run(story())
    answer = json.loads(body)
    if status == 200:
        assert answer["choices"][0]["logprobs"]
    else:
        assert "logprobs" in answer["error"]["message"]


def test_embeddings_or_a_clear_refusal(bench: Bench) -> None:
    async def story() -> tuple[int, bytes]:
        async with bench.running() as (process, upstream):
            return await ask(upstream, process, "POST", "/v1/embeddings", {"input": "abc"})

    status, body = asyncio.run(story())
    assert status in (200, 501)
    assert ("data" if status == 200 else "error") in json.loads(body)


def test_template_verdicts(bench: Bench) -> None:
    fine = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"

    async def story() -> None:
        assert (await bench.engine.try_template(fine, 120.0)).usable
        verdict = await bench.engine.try_template("{{ raise_exception('no such thing') }}", 120.0)
        assert verdict.why
        assert not verdict.usable or (not verdict.lasting and verdict.why.startswith("not tried"))

    asyncio.run(story())
