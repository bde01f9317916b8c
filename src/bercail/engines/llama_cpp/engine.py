"""llama.cpp, in the box or made elsewhere: its processes, and what they are asked before they count as ready."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from bercail.core.budget import Part
from bercail.core.build import Target
from bercail.core.engine import EngineSettings, Offer
from bercail.core.errors import EngineError
from bercail.core.launch import Exit, Landed, LaunchSpec, Progress, TemplateVerdict
from bercail.engines.llama_cpp import output, worker
from bercail.engines.llama_cpp.account import account
from bercail.engines.llama_cpp.child import check_library, missing
from bercail.engines.llama_cpp.hosts import Embedded, Host
from bercail.engines.llama_cpp.trial import try_template
from bercail.engines.running import USUAL_PATIENCE, Patience, RunningEngine, Start, launch
from bercail.engines.runtime import log_path, make_runtime, nest, remove

_ACCOUNT_S = 60.0


class LlamaCpp:
    """The engine; implements ``ports.Engine``."""

    def __init__(
        self,
        host: Host | None = None,
        *,
        runtime_dir: Path | None = None,
        log_dir: Path | None = None,
        patience: Patience = USUAL_PATIENCE,
        hear: Callable[[str, str], None] = lambda model_id, line: None,
    ) -> None:
        """Make the engine; nothing is started.

        Args:
            host: starts its processes; None is our worker with the library in the box.
            runtime_dir: where each engine gets a private folder for its socket; None is the system's place for such.
            log_dir: where each model's log is kept as well, bounded; None keeps only its end, in memory.
            patience: how long to wait for what.
            hear: gets each line of each model's log.
        """
        self._host = host or Embedded()
        self._runtime_dir = runtime_dir
        self._log_dir = log_dir
        self._patience = patience
        self._hear = hear

    @property
    def offer(self) -> Offer:
        """The engine as people name it."""
        return self._host.offer

    @property
    def name(self) -> str:
        """``llama.cpp``."""
        return self._host.offer.name

    @property
    def build(self) -> str:
        """Its build: what it has taught is kept under this name."""
        return self._host.build

    async def look(self) -> Offer:
        """Its offer with the GPUs that it sees right now."""
        return await self._host.look()

    async def start(self, spec: LaunchSpec, on_progress: Callable[[Progress], None]) -> RunningEngine:
        """A process that answered a health check.

        Must be awaited from the main thread's event loop; see ``ChildProcess.spawn``. Cancelling kills the child.

        Raises:
            EngineError: it did not become ready; carries the last lines of its log.
        """
        self._host.check()
        with nest(self._runtime_dir) as runtime:
            command, listens_at = await self._host.command(spec, runtime, log_path(self._log_dir, spec.model_id))
            command = replace(command, hear=partial(self._hear, spec.model_id))
            explained = partial(_explained, spec.model_id, self.offer)
            start = Start(spec.model_id, on_progress, self._patience, explained, listens_at)
            landed: list[Landed] = []
            return await launch(start, command, runtime, landed, partial(_overhear, landed))

    async def try_template(self, template: str, timeout_s: float) -> TemplateVerdict:
        """Render sample conversations with the engine's own renderer, in a child that is killed after ``timeout_s``.

        Raises:
            EngineError: the engine is not installed, or no child can be started at all.
        """
        check_library()
        runtime = make_runtime(self._runtime_dir)
        try:
            return await try_template(template, timeout_s, runtime)
        finally:
            remove(runtime)

    async def account(
        self, model_path: str, settings: EngineSettings, draft_path: str | None = None
    ) -> tuple[Part, ...]:
        """What it would allocate for the model beside its weights, asked of the library itself on the header alone.

        Raises:
            EngineError: it is not installed, refuses the model or the settings, or does not answer in time.
        """
        check_library()
        return await account(model_path, settings, _ACCOUNT_S, draft_path)


def _overhear(landed: list[Landed], line: str) -> None:
    """Take one line of the engine's log."""
    if found := output.parse_landing(line):
        landed.append(found)


_INSTEAD = "; Vulkan drives these cards as well: `bercail engine build --backend vulkan`, then --engine vulkan"


def _explained(model_id: str, offer: Offer, end: Exit) -> EngineError:
    """Why it did not become ready; where SYCL does not, with what else would."""
    if end.code == worker.MISSING_LIBRARY:
        return missing(model_id, end.log_tail)
    found = output.diagnose(end.log_tail, end.code)
    return EngineError(
        f"{model_id} could not be loaded: {found.sentence}",
        hint=found.hint + (_INSTEAD if offer.target == Target.SYCL else ""),
        code=found.code,
        log_tail=end.log_tail,
    )
