"""Programs that are started, seen to be ready, and ended: real children."""

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bercail.core.command import PID, PORT, CommandSpec
from bercail.core.errors import EngineError
from bercail.core.launch import Exit, Progress
from bercail.core.pulse import Pulse
from bercail.engines import Commands, HttpUpstream
from bercail.engines.command import Program
from fakes.house import FakeJournal

PROGRAM = Path(__file__).parents[2] / "fakes" / "program.py"
FAKE = (sys.executable, "-m", "bercail.engines.fake", "--port", PORT)


def a_spec(*words: str, **more: object) -> CommandSpec:
    plain: dict[str, object] = {
        "model_id": "m", "argv": (sys.executable, str(PROGRAM), PORT, *words), "ready_s": 120.0, "stop_s": 60.0,
    }  # fmt: skip
    return CommandSpec(**{**plain, **more})  # type: ignore[arg-type] # a test names what it changes


async def start(spec: CommandSpec, commands: Commands | None = None) -> Program:
    process = await (commands or Commands(os.environ)).start(spec, lambda _: None)
    assert isinstance(process, Program)
    return process


async def get(process: Program, target: str = "/who") -> str:
    upstream = HttpUpstream()
    try:
        response = await upstream.send(process.address, "GET", target, [], b"")
        return b"".join([piece async for piece in response.chunks()]).decode()
    finally:
        await upstream.close()


def with_program(spec: CommandSpec, story: Callable[[Program], Coroutine[None, None, None]]) -> Exit:
    """How a program ended after ``story``."""

    async def whole() -> Exit:
        process = await start(spec)
        try:
            await story(process)
        finally:
            end = await process.stop(5.0)
        return end

    return asyncio.run(whole())


def failure(spec: CommandSpec, commands: Commands | None = None) -> EngineError:
    with pytest.raises(EngineError) as caught:
        asyncio.run(start(spec, commands))
    assert children() == []
    return caught.value


def children() -> list[int]:
    """Our children, zombies included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


@contextmanager
def listener() -> Iterator[int]:
    """A port that we listen at."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        plug.listen(128)
        yield plug.getsockname()[1]


def said(log: tuple[str, ...], word: str) -> str:
    """What follows ``word`` in a log."""
    (line,) = [line for line in log if line.startswith(word)]
    return line.removeprefix(word).strip()


def test_a_program_is_ready_when_its_check_gives_200() -> None:
    async def story(process: Program) -> None:
        port = process.address.port
        assert await get(process) == f"|/who||localhost:{port}"
        assert await process.pulse(60.0) == Pulse()
        assert process.resident_bytes()
        assert process.landed() == ()
        assert said(process.log_tail(), "pid").startswith(f"{process.pid} ")

    assert with_program(a_spec("busy=3"), story).code == -signal.SIGTERM


def test_both_its_outputs_are_its_log_and_kept_in_a_file(tmp_path: Path) -> None:
    async def whole() -> Exit:
        process = await start(a_spec("say=hello there"), Commands(os.environ, log_dir=tmp_path))
        return await process.stop(1.0)

    log = asyncio.run(whole()).log_tail
    assert "hello there" in log
    assert said(log, "pid")
    assert "hello there" in (tmp_path / "m.log").read_text()


def test_it_gets_our_environment_and_its_own_and_the_signals_a_program_expects() -> None:
    added = {"WORD": f"at {PORT}", "PYTHONHOME": ""}

    async def story(process: Program) -> None:
        assert (await get(process)).startswith(f"at {process.address.port}|")
        assert said(process.log_tail(), "pid").endswith("interrupts True")

    with_program(a_spec(environment=added), story)


def test_what_would_break_our_own_interpreter_reaches_the_program_alone(tmp_path: Path) -> None:
    """``PYTHONHOME`` of nowhere: our child would not even begin."""
    script = tmp_path / "server.sh"
    script.write_text(f'#!/bin/sh\necho "home $PYTHONHOME"\nunset PYTHONHOME\nexec {sys.executable} {PROGRAM} "$@"\n')
    script.chmod(0o755)

    async def story(process: Program) -> None:
        assert said(process.log_tail(), "home") == "/nowhere"

    with_program(a_spec(argv=(str(script), PORT), environment={"PYTHONHOME": "/nowhere"}), story)


def test_its_url_may_have_a_path_and_headers() -> None:
    spec = a_spec(url=f"http://127.0.0.1:{PORT}/v0/", headers=(("authorization", "Bearer x"),))

    async def story(process: Program) -> None:
        assert await get(process) == f"|/v0/who|Bearer x|127.0.0.1:{process.address.port}"

    with_program(spec, story)


def test_its_progress_is_heard_if_it_tells_of_any(tmp_path: Path) -> None:
    heard: list[Progress] = []
    line = 'cmd_child_to_router:state:{"state":"loading","payload":{"current":"text_model","value":0.5}}'

    async def whole() -> None:
        process = await Commands(os.environ).start(a_spec(f"say={line}"), heard.append)
        await process.stop(1.0)

    asyncio.run(whole())
    assert heard == [Progress(stage="weights", fraction=0.5)]


def test_without_a_check_it_is_ready_as_soon_as_it_runs() -> None:
    async def story(process: Program) -> None:
        assert await process.pulse(0.1) == Pulse()

    with_program(a_spec("bind=0", check_path=""), story)


def test_health_is_asked_anew() -> None:
    async def whole() -> list[Pulse]:
        process = await start(a_spec())
        seen = [await process.pulse(60.0)]
        os.kill(process.pid, signal.SIGSTOP)
        seen.append(await process.pulse(0.1))
        os.kill(process.pid, signal.SIGCONT)
        seen.append(await process.pulse(60.0))
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        seen.append(await process.pulse(0.1))
        return seen

    silent = Pulse(words="no answer to GET /health within 0.1 s", silent=True)
    assert asyncio.run(whole()) == [Pulse(), silent, Pulse(), Pulse(words="it has ended")]


# Ports


def test_the_preferred_port_is_taken_if_free_else_the_next_and_that_is_told() -> None:
    notes: list[str] = []
    with listener() as port:

        async def whole() -> tuple[int, int]:
            commands = Commands(os.environ, note=notes.append)
            first, second = await asyncio.gather(*(start(a_spec(port=port), commands) for _ in range(2)))
            ports = first.address.port, second.address.port
            await asyncio.gather(first.stop(1.0), second.stop(1.0))
            again = await start(a_spec(port=min(ports)), commands)
            assert again.address.port == min(ports)
            await again.stop(1.0)
            return ports

        ports = asyncio.run(whole())
    assert len({port, *ports}) == 3
    assert min(ports) > port
    assert len(notes) == 2
    assert notes[0].startswith(f"m: port {port} is taken by python")
    assert f"(pid {os.getpid()}); it gets {ports[0]}" in notes[0]


def test_a_stranger_at_a_fixed_port_is_never_taken_for_the_program() -> None:
    with listener() as port:
        error = failure(a_spec(url=f"http://127.0.0.1:{port}", argv=(sys.executable, str(PROGRAM), str(port))))
    assert error.code == "port_taken"
    assert f"(pid {os.getpid()}) answers at http://127.0.0.1:{port} already" in error.message


# What fails


def test_what_happened_is_found_far_above_the_end_of_a_long_log(tmp_path: Path) -> None:
    lines = "import sys; print('CUDA out of memory.'); [print('Traceback', i) for i in range(150)]; sys.exit(1)"
    error = failure(a_spec(argv=(sys.executable, "-c", lines, PORT)))
    assert error.code == "out_of_memory"
    assert error.log_tail[-1] == "Traceback 149"


def test_a_program_that_ends_is_an_error_with_its_words() -> None:
    error = failure(a_spec("exit=3", "say=error: invalid argument: --nope"))
    assert error.message == "m could not be loaded: it does not know --nope"
    assert error.code == "unknown_flag"
    assert "error: invalid argument: --nope" in error.log_tail


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("status=404", "GET /health gives 404"),
        ("busy=999", "GET /health gives 503"),
        ("hang=1", "no answer to GET /health within 2 s"),
        ("bind=0", "does not answer: Connection refused"),
    ],
)
def test_a_program_that_is_never_ready_is_ended_and_told(word: str, expected: str) -> None:
    error = failure(a_spec(word, ready_s=8.0))  # until then it has to begin, also on a busy machine
    assert error.code == "engine_timeout"
    assert expected in error.message
    assert error.log_tail


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-such-program-here", "there is no program no-such-program-here"),
        ("/none/such/program", "there is no program /none/such/program"),
        ("/", "is a folder"),
        ("{folder}/plain.txt", "chmod +x"),
        ("{folder}/llama-servr", "did you mean {folder}/llama-server?"),
        ("llama-servr", "did you mean llama-server?"),
        ("docker", "is it installed"),
    ],
)
def test_no_program_is_an_error_with_what_there_is(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "plain.txt").write_text("plain")
    (tmp_path / "llama-server").write_text("#!/bin/sh\n")
    (tmp_path / "llama-server").chmod(0o755)
    spec, commands = a_spec(argv=(name.format(folder=tmp_path),)), Commands({"PATH": str(tmp_path)})
    error = failure(spec, commands)
    with pytest.raises(EngineError, match=re.escape(error.message)):
        commands.check(spec)
    assert error.code == "no_such_program"
    assert error.message.startswith("m could not be loaded: ")
    assert words.format(folder=tmp_path) in str(error)


def test_another_container_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "podman").write_text("#!/bin/sh\n")
    (tmp_path / "podman").chmod(0o755)
    error = failure(a_spec(argv=("docker", "run")), Commands({"PATH": str(tmp_path)}))
    assert "there is podman" in error.hint


@pytest.mark.parametrize("text", ["#!/none/such\n", "\x7fELF but not really"])
def test_a_file_that_the_system_cannot_run_is_told(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "server"
    broken.write_text(text)
    broken.chmod(0o755)
    error = failure(a_spec(argv=(str(broken), PORT)))
    assert f"the system cannot run it: {broken}: " in error.message


@pytest.mark.parametrize(
    "more",
    [
        {"argv": (sys.executable, "a\0b")},
        {"environment": {"A=B": "c"}},
        {"environment": {"A": "\0"}},
    ],
)
def test_what_no_program_can_be_given_is_refused(more: dict[str, object]) -> None:
    assert failure(a_spec(**more)).code == "bad_command"


def test_a_check_that_is_no_path_is_refused() -> None:
    assert failure(a_spec(check_path="health")).code == "bad_url"


def test_a_port_is_free_again_after_a_failed_start() -> None:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
    commands = Commands(os.environ)

    async def whole() -> int:
        with pytest.raises(EngineError):
            await start(a_spec("exit=1", port=port), commands)
        process = await start(a_spec(port=port), commands)
        await process.stop(1.0)
        return process.address.port

    assert asyncio.run(whole()) == port


# The end


@pytest.mark.parametrize(
    ("words", "stop_s", "expected"), [((), 60.0, -signal.SIGTERM), (("stubborn=1",), 0.5, -signal.SIGKILL)]
)
def test_a_program_without_a_stop_command_is_terminated_then_killed(
    words: tuple[str, ...], stop_s: float, expected: int
) -> None:
    async def story(process: Program) -> None:
        pass

    assert with_program(a_spec(*words, stop_s=stop_s), story).code == expected


def test_its_whole_group_goes_with_it() -> None:
    async def whole() -> int:
        process = await start(a_spec("child=1", "stubborn=1", stop_s=0.2))
        child = int(said(process.log_tail(), "child"))
        watch = os.pidfd_open(child)
        await process.stop(9.0)
        return watch

    watch = asyncio.run(whole())
    assert has_ended(watch)


def has_ended(watch: int) -> bool:
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    ended = bool(poll.poll(60_000))
    os.close(watch)
    return ended


def test_a_stop_command_is_run_with_the_process_id_and_the_programs_environment(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    stop = ("sh", "-c", f'echo "$1 $2 $WORD" >{mark}; kill -INT $1', "sh", PID, PORT)

    async def whole() -> tuple[int, Exit, str]:
        process = await start(a_spec(stop_argv=stop, environment={"WORD": "here"}))
        assert process.stop_argv == ()
        end = await process.stop(5.0)
        assert await process.stop(5.0) == end
        return process.pid, end, f"{process.pid} {process.address.port} here\n"

    _, end, expected = asyncio.run(whole())
    assert end.code in (1, -signal.SIGINT)
    assert mark.read_text() == expected


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (("sh", "-c", "echo cannot do that >&2; exit 4"), "exit status 4: cannot do that"),
        (("sh", "-c", "exit 4"), "exit status 4: it said nothing"),
        (("no-such-program-here",), "No such file or directory"),
    ],
)
def test_a_stop_command_that_fails_is_told_and_the_program_is_terminated(stop: tuple[str, ...], words: str) -> None:
    notes: list[str] = []

    async def whole() -> Exit:
        process = await start(a_spec(stop_argv=stop, stop_s=200.0), Commands(os.environ, note=notes.append))
        return await process.stop(5.0)

    begun_s = time.monotonic()
    assert asyncio.run(whole()).code == -signal.SIGTERM
    assert time.monotonic() - begun_s < 150.0, "it was terminated at once"
    (note,) = notes
    assert note.startswith("m: its stop command (")
    assert words in note


def test_a_stop_command_that_does_nothing_is_followed_by_a_kill() -> None:
    async def story(process: Program) -> None:
        pass

    assert with_program(a_spec(stop_argv=("true", PID), stop_s=0.3), story).code == -signal.SIGKILL


def test_a_stop_command_that_never_ends_is_ended_and_told() -> None:
    notes: list[str] = []

    async def whole() -> Exit:
        commands = Commands(os.environ, note=notes.append, stop_command_s=0.2)
        process = await start(a_spec(stop_argv=("sleep", "600"), stop_s=0.1), commands)
        return await process.stop(5.0)

    assert asyncio.run(whole()).code == -signal.SIGKILL
    assert "does not end within 0.2 s" in notes[0]
    assert children() == []


def test_cancelling_a_start_leaves_nothing() -> None:
    async def whole() -> None:
        starting = asyncio.create_task(start(a_spec("busy=999", "child=1")))
        while not children():  # noqa: ASYNC110 - nobody tells of a child
            await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(whole())
    assert children() == []


def test_a_journal_hears_of_it_long_before_it_is_ready() -> None:
    events: list[tuple[str, int, tuple[str, ...]]] = []

    class Journal(FakeJournal):
        def record(self, pid: int, *, stop_argv: tuple[str, ...] = ()) -> None:
            events.append(("record", pid, stop_argv))

        def forget(self, pid: int) -> None:
            events.append(("forget", pid, ()))

    async def whole() -> None:
        with pytest.raises(EngineError):
            await start(a_spec("exit=1", stop_argv=("true",)), Commands(os.environ, journal=Journal()))

    asyncio.run(whole())
    (born, pid, stop), (gone, same, _) = events
    assert (born, gone, pid, stop) == ("record", "forget", same, ("true",))


WRAPPED = ("/bin/sh", "-c", '"$@"; true', "sh", sys.executable, str(PROGRAM), PORT)


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ((sys.executable, str(PROGRAM), PORT, "busy=999"), "loading"),
        ((sys.executable, str(PROGRAM), PORT), "ready"),
        (WRAPPED, "pid"),
        ((*WRAPPED, "child=1"), "child"),
    ],
    ids=["loading", "ready", "behind a shell", "its own child"],
)
def test_nothing_outlives_a_killed_parent(argv: tuple[str, ...], told: str) -> None:
    script = str(Path(__file__).with_name("parent_that_dies.py"))
    with subprocess.Popen([sys.executable, script, *argv], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        said_by = (line.split() for line in parent.stdout)
        pid = next(int(words[1]) for words in said_by if words and words[0] == told)
        watch = os.pidfd_open(pid)
        parent.kill()
        assert has_ended(watch), "it lives on"


def test_whoever_watches_over_a_program_goes_with_it() -> None:
    def session(leader: int) -> list[str]:
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                name, _, rest = stat.read_text().rpartition(")")
                words = rest.split()
                if words[3] == str(leader) and words[0] not in "ZX":
                    found.append(name.partition("(")[2])
        return found

    async def whole() -> None:
        process = await start(a_spec())
        assert len(session(process.pid)) == 2
        os.killpg(process.pid, signal.SIGTERM)
        await process.wait()
        while session(process.pid):  # noqa: ASYNC110 - the kernel ends a group one after the other
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(whole(), 120))


def test_life_is_the_same_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def story() -> tuple[int, int]:
        first, second = await start(a_spec("say=one")), await start(a_spec())
        assert (await get(first)).startswith("|/who")
        assert "one" in first.log_tail()
        os.kill(second.pid, signal.SIGKILL)
        return (await first.stop(5.0)).code, (await asyncio.wait_for(second.wait(), 60)).code

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(story()) == (-signal.SIGTERM, -signal.SIGKILL)
    assert children() == []


def test_the_fake_engine_is_such_a_program() -> None:
    async def story(process: Program) -> None:
        assert '"object":"list"' in await get(process, "/v1/models")

    assert with_program(a_spec(argv=FAKE), story).code == 0
