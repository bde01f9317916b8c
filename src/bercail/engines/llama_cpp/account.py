"""Asking the engine what a model would take, without loading it: the oracle's child, bounded in time."""

import asyncio
import json
import os
import sys
from dataclasses import asdict

from bercail.core.budget import Part
from bercail.core.engine import EngineSettings
from bercail.core.errors import EngineError
from bercail.engines.llama_cpp import oracle, worker
from bercail.engines.llama_cpp.child import clean_environment
from bercail.engines.process import ChildProcess, Command
from bercail.engines.runtime import end

PARTS = {"cache": "KV cache", "state": "recurrent state", "compute": "compute", "output": "output"}
"""The engine's words, and the plan's names for the same."""


async def account(
    model_path: str, settings: EngineSettings, timeout_s: float, draft_path: str | None = None
) -> tuple[Part, ...]:
    """What the engine would allocate for the model at `model_path` beside its weights, to a hundredth of a MiB.

    With `draft_path`, what it would allocate for the model there that guesses ahead is in the same parts.

    Raises:
        EngineError: it refuses the model or the settings, dies of them, or takes more than `timeout_s`.
    """
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def hear(line: str) -> None:
        if not answer.done() and line.startswith("{"):
            answer.set_result(line)

    command = Command(
        argv=(
            sys.executable,
            "-P",
            "-m",
            oracle.__name__,
            model_path,
            *_drafting(settings, draft_path),
        ),
        environment=clean_environment(os.environ),
        first_input=json.dumps(asdict(settings)).encode() + b"\n",
        farewell=worker.FAREWELL,
    )
    child = await ChildProcess.spawn(command, hear)
    ended = asyncio.ensure_future(child.wait())
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.wait((answer, ended), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise _refused((await child.wait()).log_tail)
        said = json.loads(answer.result())
        if "refused" in said:
            raise _refused(tuple(said["refused"]))
        return tuple(Part(name=name, bytes=round(said[part])) for part, name in PARTS.items())
    except TimeoutError as error:
        raise EngineError(
            f"the engine did not say within {timeout_s:g} s what it would take",
            hint="the disk or the machine is very busy; try again, or plan without --check",
            code="no_account",
        ) from error
    finally:
        ended.cancel()
        await asyncio.shield(end(child))


def _drafting(settings: EngineSettings, draft_path: str | None) -> tuple[str, ...]:
    if not settings.draft_tokens:
        return ()
    return ("--draft", draft_path) if draft_path else ("--drafting",)


def _refused(log: tuple[str, ...]) -> EngineError:
    return EngineError(
        "the engine cannot run this model with these settings, or cannot say what it would take",
        hint="try other settings",
        code="no_account",
        log_tail=log,
    )
