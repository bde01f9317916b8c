"""Trying a chat template with the engine's own renderer, in a child that cannot hurt us."""

import asyncio
from pathlib import Path

from bercail.core.engine import EngineSettings
from bercail.core.errors import EngineError
from bercail.core.launch import Address, Exit, LaunchSpec, TemplateVerdict
from bercail.core.units import GIB
from bercail.engines.llama_cpp import flags, template, tiny, worker
from bercail.engines.llama_cpp.child import make_command
from bercail.engines.process import ChildProcess, Command
from bercail.engines.runtime import ask, end, ended_soon, listen_at, parse_address
from bercail.engines.upstream import HttpUpstream
from bercail.engines.words import Ready, parse_line

_MEMORY_BYTES = GIB
_TOO_LONG = "rendering a few words with it takes more than"


async def try_template(template_text: str, timeout_s: float, runtime: Path) -> TemplateVerdict:
    """The verdict on ``template_text``, after ``timeout_s`` at most; ``runtime`` is an empty folder.

    The child loads a model of 45 KB with that template, as the engine tries a template when it loads: whatever would
    go wrong with the real model goes wrong here, within a limit of time and memory.

    Raises:
        EngineError: no child can be started at all.
    """
    path = runtime / "trial.gguf"
    try:
        tiny.write_llama(path)
    except OSError as error:
        raise EngineError(
            f"a chat template cannot be tried: {error.strerror or error}: {runtime}", hint="free space there"
        ) from error
    values = {**flags.render(_trial_spec(path, template_text), listen_at(runtime)), worker.MEMORY_LIMIT: _MEMORY_BYTES}
    return await _try(make_command(values, {}), timeout_s)


def _trial_spec(path: Path, template_text: str) -> LaunchSpec:
    settings = EngineSettings(
        context_tokens=256, slots=1, kv_unified=False, batch_tokens=32, ubatch_tokens=32, kv_type_k="f16",
        kv_type_v="f16", flash_attention=False, threads=1, threads_batch=1, mmap=False, repack=False, warmup=False,
    )  # fmt: skip
    # An empty one would mean the engine's own.
    return LaunchSpec(
        model_id="trial", model_path=str(path), weights_bytes=0, settings=settings, chat_template=template_text or " "
    )


async def _try(command: Command, timeout_s: float) -> TemplateVerdict:
    loop = asyncio.get_running_loop()
    listening: asyncio.Future[str] = loop.create_future()

    def hear(line: str) -> None:
        said = parse_line(line)
        if isinstance(said, Ready) and said.address and not listening.done():
            listening.set_result(said.address)

    child = await ChildProcess.spawn(command, hear)
    try:
        async with asyncio.timeout(timeout_s):
            return await _judge(child, listening)
    except TimeoutError:
        return TemplateVerdict(usable=False, why=f"{_TOO_LONG} {timeout_s:g} s", lasting=False)
    finally:
        await asyncio.shield(end(child))


async def _judge(child: ChildProcess, listening: "asyncio.Future[str]") -> TemplateVerdict:
    ended = asyncio.ensure_future(child.wait())
    waiting: list[asyncio.Future[str] | asyncio.Future[Exit]] = [listening, ended]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
    if not listening.done():
        end = await child.wait()
        return template.judge_failure(end.log_tail, end.code)
    upstream = HttpUpstream()
    try:
        return await _render_all(upstream, parse_address(listening.result()))
    except EngineError as error:
        if await ended_soon(child):
            end = await child.wait()
            return template.judge_failure(end.log_tail, end.code)
        return TemplateVerdict(usable=False, why=error.message)
    finally:
        await upstream.close()


async def _render_all(upstream: HttpUpstream, address: Address) -> TemplateVerdict:
    fine: dict[str, bool] = {}
    for trial in template.TRIALS:
        complaint = template.judge_answer(trial, *await ask(upstream, address, "POST", "/apply-template", trial.body))
        if complaint and trial.required:
            return TemplateVerdict(usable=False, why=complaint)
        fine[trial.name] = not complaint
    _, props = await ask(upstream, address, "GET", "/props", b"")
    return TemplateVerdict(usable=True, tools=fine["tools"] and template.handles_tools(props))
