"""The embedded engine itself: real children, on models written here."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bercail.core.engine import EngineSettings
from bercail.core.errors import EngineError
from bercail.core.landing import compare
from bercail.core.launch import PLAIN_TEMPLATE, Landed, LaunchSpec, Progress, TemplateVerdict
from bercail.core.model import Pooling
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.engines import HttpUpstream, LlamaCpp
from bercail.engines.llama_cpp.child import clean_environment
from bercail.engines.llama_cpp.tiny import LlamaShape, write_llama
from bercail.engines.running import Patience, RunningEngine
from bercail.engines.runtime import listen_at, make_runtime, parse_address
from bercail.probes import LocalProber
from bercail.readers import Readers

pytestmark = pytest.mark.engine

SETTINGS = EngineSettings(
    context_tokens=256, slots=1, kv_unified=False, batch_tokens=64, ubatch_tokens=64, kv_type_k="f16",
    kv_type_v="f16", flash_attention=True, threads=1, threads_batch=1, mmap=True, repack=False, warmup=False,
)  # fmt: skip
RAISES = "{{ raise_exception('no system role') }}"
UNDEFINED = "{{ frobnicate(messages) }}"
LOOPS = "{% for i in range(100000000) %}{% endfor %}x"
PRIVATE = "{{ messages.__class__.__mro__ }}"
SYNTAX = "{% for m in messages %}{{ m.content"
GOOD = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_llama(path)
    return path


def spec(model: Path, **more: object) -> LaunchSpec:
    return LaunchSpec(model_id="m", model_path=str(model), weights_bytes=1, **{"settings": SETTINGS, **more})  # type: ignore[arg-type]


def ignore(_: Progress) -> None:
    pass


async def ask(process: RunningEngine, target: str, body: Mapping[str, object]) -> tuple[int, dict[str, object]]:
    upstream = HttpUpstream()
    try:
        response = await upstream.send(process.address, "POST", target, [], json.dumps(body).encode())
        return response.status, json.loads(b"".join([piece async for piece in response.chunks()]))
    finally:
        await upstream.close()


def ask_once(launch: LaunchSpec, target: str, body: Mapping[str, object]) -> tuple[int, dict[str, object]]:
    async def story() -> tuple[int, dict[str, object]]:
        process = await LlamaCpp().start(launch, ignore)
        try:
            return await ask(process, target, body)
        finally:
            await process.stop(2.0)

    return asyncio.run(story())


def verdict(template: str, timeout_s: float = 120.0) -> TemplateVerdict:
    return asyncio.run(LlamaCpp().try_template(template, timeout_s))


# Life and death


def alive(pid: int) -> bool:
    """Runs, and is not a zombie that nobody has reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
@pytest.mark.parametrize(("template", "until"), [(LOOPS, "loading 1.0"), ("", "ready")], ids=["loading", "ready"])
def test_engine_does_not_outlive_a_killed_parent(tmp_path: Path, template: str, until: str) -> None:
    path = tmp_path / "m.gguf"
    write_llama(path, template=template)
    script = Path(__file__).with_name("parent_that_dies.py")
    with subprocess.Popen([sys.executable, script, path, tmp_path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert any(line.strip() == until for line in parent.stdout)
        (engine,) = children_of(parent.pid)
        watch = os.pidfd_open(engine)
        parent.kill()
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        assert poll.poll(60_000), "the engine lives on"
        os.close(watch)
    assert not alive(engine)


def test_life_is_the_same_on_uvloop(model: Path, tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def story() -> tuple[int, int]:
        engine = LlamaCpp(runtime_dir=tmp_path)
        first = await engine.start(spec(model), ignore)
        assert (await ask(first, "/v1/completions", {"prompt": "a", "max_tokens": 1}))[0] == 200
        second = await engine.start(spec(model), ignore)
        os.kill(second.pid, signal.SIGKILL)
        return (await first.stop(120.0)).code, (await asyncio.wait_for(second.wait(), 60)).code

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(story()) == (0, -signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []
    assert children_of(os.getpid()) == []


def test_engine_is_deaf_to_ctrl_c_and_first_in_line_for_the_oom_killer(model: Path) -> None:
    def look(pid: int) -> tuple[int, int]:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return int(status["SigIgn"], 16), int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    async def story() -> tuple[int, int]:
        process = await LlamaCpp().start(spec(model), ignore)
        seen = look(process.pid)
        await process.stop(2.0)
        return seen

    ignored, score = asyncio.run(story())
    assert ignored & 0b10
    assert score == 300


def test_socket_is_in_a_folder_that_only_we_may_enter(model: Path) -> None:
    async def story() -> None:
        process = await LlamaCpp().start(spec(model), ignore)  # tmp_path may be too long for a socket
        assert process.address.unix_path is not None
        assert Path(process.address.unix_path).parent.stat().st_mode & 0o777 == 0o700
        assert (process.resident_bytes() or 0) > 1 << 20
        await process.stop(2.0)

    asyncio.run(story())


@pytest.mark.parametrize("wish", [{}, {"mmap": False}, {"repack": False}, {"slots": 2, "ubatch": 64}])
def test_what_it_says_of_its_buffers_is_what_was_planned(model: Path, wish: dict[str, Any]) -> None:
    read = Readers({}, model.parent, model.parent).read(str(model))
    plan = decide(LocalProber().probe(), read, EngineOptions(context=512, **wish))
    assert isinstance(plan, Fits)

    async def story() -> tuple[Landed, ...]:
        process = await LlamaCpp().start(replace(spec(model), settings=plan.settings), ignore)
        landed = process.landed()
        await process.stop(2.0)
        return landed

    landed = asyncio.run(story())
    assert {item.part for item in landed} >= {"weights", "KV cache", "compute", "output"}
    outcome = compare(plan, landed)
    assert outcome is not None
    assert outcome.surprises == ()
    taken = {row.part: row.took - row.planned for row in outcome.rows}
    assert abs(taken["KV cache"]) < 16 * 1024  # it tells hundredths of a MiB
    assert abs(sum(taken.values())) < 1024 * 1024


def test_it_says_less_once_it_serves(model: Path) -> None:
    async def story() -> tuple[str, ...]:
        process = await LlamaCpp().start(spec(model), ignore)
        assert (await ask(process, "/v1/completions", {"prompt": "a", "max_tokens": 1}))[0] == 200
        await process.stop(2.0)
        return process.log_tail(200)

    lines = asyncio.run(story())
    assert any("buffer size" in line for line in lines)
    assert not any("sampler" in line or "done request" in line for line in lines)


def test_long_folder_name_falls_back_to_loopback(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)

    async def story() -> None:
        process = await LlamaCpp(runtime_dir=folder).start(spec(model), ignore)
        assert process.address.unix_path is None
        assert process.address.port > 0
        assert (await ask(process, "/v1/completions", {"prompt": "a", "max_tokens": 1}))[0] == 200
        await process.stop(2.0)

    asyncio.run(story())
    assert list(folder.iterdir()) == []


def test_log_is_kept_on_disk_if_wished(model: Path, tmp_path: Path) -> None:
    async def story() -> None:
        process = await LlamaCpp(log_dir=tmp_path / "log").start(replace(spec(model), model_id="a/b"), ignore)
        await process.stop(2.0)

    asyncio.run(story())
    assert "model loaded" in (tmp_path / "log" / "a_b.log").read_text()


def test_folders_of_killed_servers_are_swept_and_others_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    names = [f"bercail-engine-{dead.pid}-old", f"bercail-engine-{dead.pid}-young", f"bercail-engine-{os.getpid()}-x",
             "bercail-engine-y", "other"]  # fmt: skip
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "trial.gguf").touch()
        if not name.endswith("young"):
            os.utime(tmp_path / name, (1, 1))
    made = make_runtime(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {made.name, *names[1:]}


# Failures; a module of the engine's name in front of the real one plays them


def stand_in(folder: Path, code: str) -> dict[str, str]:
    (folder / "xllamacpp.py").write_text(code)
    return {"PYTHONPATH": str(folder)}


def failure(model: Path, environment: dict[str, str], patience: Patience | None = None) -> EngineError:
    with pytest.raises(EngineError) as caught:
        asyncio.run(LlamaCpp(patience=patience or Patience()).start(spec(model, environment=environment), ignore))
    return caught.value


def test_missing_library_gives_the_line_that_installs_it(model: Path, tmp_path: Path) -> None:
    error = failure(model, stand_in(tmp_path, "raise ImportError('no such library')"))
    assert error.code == "engine_not_installed"
    assert error.hint == "pip install 'xllamacpp==2026.10.11549'"
    assert error.log_tail == ("xllamacpp cannot be imported: no such library",)


def test_silent_engine_is_given_up(model: Path, tmp_path: Path) -> None:
    error = failure(model, stand_in(tmp_path, "import signal; signal.pause()"), Patience(silence_s=0.5))
    assert error.code == "engine_timeout"
    assert "no sign of life" in error.message


def test_engine_that_says_ready_but_does_not_listen_is_not_ready(model: Path, tmp_path: Path) -> None:
    code = (
        "import types\n"
        "class CommonParams:\n"
        "    def __getattr__(self, name): return CommonParams()\n"
        "Server = lambda params: types.SimpleNamespace(listening_address='unix:///nonexistent.sock')\n"
    )
    error = failure(model, stand_in(tmp_path, code))
    assert error.code == "engine_not_alive"
    assert "ready but does not answer" in error.message


def test_abort_of_the_engine_is_told_with_its_reason(model: Path, tmp_path: Path) -> None:
    code = "import os, sys; sys.stderr.write('x.c:1: GGML_ASSERT(n > 0) failed\\n'); sys.stderr.flush(); os.abort()"
    error = failure(model, stand_in(tmp_path, code))
    assert error.code == "engine_assert"
    assert "m could not be loaded" in error.message
    assert "n > 0" in error.message


def test_unknown_architecture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_llama(path)
    path.write_bytes(path.read_bytes().replace(b"llama", b"frobs", 1))
    error = failure(path, {})
    assert error.code == "unknown_architecture"
    assert "'frobs'" in error.message


# Chat templates


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (RAISES, "no system role"),
        (UNDEFINED, "frobnicate"),
        (PRIVATE, "what the user said is not in the prompt"),
        ("", "what the user said is not in the prompt"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "broke down"),
        ("{% if messages|length > 1 %}{{ raise_exception('once') }}{% endif %}{{ messages[0].content }}", "once"),
    ],
    ids=["raises", "undefined", "private", "empty", "endless recursion", "only one message"],
)
def test_unusable_template_is_found_with_words(template: str, words: str) -> None:
    found = verdict(template)
    assert not found.usable
    assert not found.malformed
    assert words in found.why


def test_template_that_cannot_be_parsed_is_malformed() -> None:
    found = verdict(SYNTAX)
    assert (found.usable, found.malformed) == (False, True)
    assert found.why


def test_template_that_hangs_is_cut_off(tmp_path: Path) -> None:
    found = asyncio.run(LlamaCpp(runtime_dir=tmp_path).try_template(LOOPS, 1.5))
    assert not found.usable
    assert "more than 1.5 s" in found.why
    assert children_of(os.getpid()) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "template",
    [
        GOOD,
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + GOOD,
        "{% if tools %}{{ raise_exception('no tools') }}{% endif %}" + GOOD,
    ],
    ids=["plain", "refuses system", "refuses tools"],
)
def test_template_that_renders_plain_chat_is_usable(template: str) -> None:
    found = verdict(template)
    assert found == TemplateVerdict(usable=True)


def test_template_that_writes_tools_down_is_known_for_it() -> None:
    tools = "{% if tools %}{% for t in tools %}{{ t.function.name }}{{ t|tojson }}{% endfor %}{% endif %}"
    calls = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}"
        "{{ c.function.name }}{{ c.function.arguments }}{% endfor %}{% endif %}{% endfor %}"
    )
    assert verdict(tools + calls).tools


@pytest.mark.parametrize("template", [RAISES, UNDEFINED, LOOPS], ids=["raises", "undefined", "hangs"])
def test_model_with_an_unusable_template_completes_with_a_plain_one(tmp_path: Path, template: str) -> None:
    path = tmp_path / "m.gguf"
    write_llama(path, template=template)
    launch = spec(path, chat_template=PLAIN_TEMPLATE)
    status, answer = ask_once(launch, "/v1/completions", {"prompt": "a", "max_tokens": 2, "temperature": 0})
    assert status == 200
    assert answer["object"] == "text_completion"


def test_model_with_an_unusable_template_says_so_without(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_llama(path, template=RAISES)
    assert failure(path, {}).code == "chat_template"


# Work


def test_embedding_mode_without_prompt_cache(model: Path) -> None:
    settings = replace(SETTINGS, embedding=True, pooling=Pooling.MEAN, prompt_cache_bytes=0)
    status, answer = ask_once(spec(model, settings=settings), "/v1/embeddings", {"input": ["abc", "abd"]})
    assert status == 200
    vectors = [item["embedding"] for item in answer["data"]]  # type: ignore[attr-defined]
    assert [len(vector) for vector in vectors] == [LlamaShape().embedding] * 2
    assert vectors[0] != vectors[1]


@pytest.mark.parametrize("change", [{"mmap": False, "repack": True}, {"kv_type_k": "q8_0", "kv_type_v": "q8_0"}])
def test_other_settings_load_too(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "m.gguf"
    write_llama(path, LlamaShape(embedding=64, heads=2, kv_heads=1))
    settings = replace(SETTINGS, **change)  # type: ignore[arg-type]
    body = {"prompt": "a", "max_tokens": 2}
    assert ask_once(spec(path, settings=settings), "/v1/completions", body)[0] == 200


@pytest.mark.shared
def test_trained_model_tells_its_story(shared: Path) -> None:
    body = {"prompt": "Once upon", "max_tokens": 8, "temperature": 0}
    status, answer = ask_once(spec(shared / "models" / "stories260K-q8_0.gguf"), "/v1/completions", body)
    assert status == 200
    assert answer["choices"][0]["text"] == " a time, there was a little g"  # type: ignore[index]
    assert answer["model"] == "m"


# Pure parts


def test_written_model_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_llama(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size < 64 * 1024


def test_environment_is_cleaned_of_proxies_keys_and_switches() -> None:
    given = {"HOME": "/h", "https_proxy": "x", "HTTP_PROXY": "x", "HF_TOKEN": "x", "LLAMA_TRACE": "1", "AIP_MODE": "x",
             "GGML_CPU_TILED_MM": "0"}  # fmt: skip
    assert clean_environment(given) == {"HOME": "/h", "GGML_CPU_TILED_MM": "0", "GGML_NO_BACKTRACE": "1"}


def test_addresses() -> None:
    assert parse_address("unix:///a/b.sock").unix_path == "/a/b.sock"
    assert str(parse_address("http://127.0.0.1:81")) == "127.0.0.1:81"
    with pytest.raises(EngineError):
        parse_address("nowhere")
    assert listen_at(Path("/" + "x" * 92)) == "127.0.0.1"
    assert listen_at(Path("/" + "x" * 91)).endswith(".sock")


def test_a_folder_too_deep_for_a_socket_is_swept_as_well(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    old = deep / "bercail-engine-999999999-old"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    make_runtime(deep)
    assert not old.exists()
