"""Engines that are another project's library in a worker of ours: their processes, and what their failures mean."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bercail.core.budget import Part
from bercail.core.engine import EngineSettings, Make, Offer
from bercail.core.errors import EngineError
from bercail.core.launch import Exit, LaunchSpec, Progress, TemplateVerdict
from bercail.core.model import Format
from bercail.engines.leash import place_of
from bercail.engines.process import Command
from bercail.engines.running import USUAL_PATIENCE, Patience, RunningEngine, Start, launch
from bercail.engines.runtime import listen_at, log_path, nest, without_secrets
from bercail.engines.serving import FAREWELL, MISSING_LIBRARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One library.

    Attributes:
        name: of the engine and of the extra that it comes with.
        title: for people.
        module: what its worker imports.
        distribution: what is installed.
        worker: module that runs as the child.
        reads: formats of models.
        lacks: what of requests it refuses.
        batches: requests that run at once share its steps; otherwise they take turns.
        parameters: for a launch and a place to listen; raises ValueError, with words, for what it has not.
        complaint: why it could not read the model before it ended so; empty if that was not the reason.
        remedy: what to do with a model that it cannot read.
    """

    name: str
    title: str
    module: str
    distribution: str
    worker: str
    reads: tuple[Format, ...]
    lacks: tuple[str, ...]
    parameters: Callable[[LaunchSpec, str], Mapping[str, Any]]
    complaint: Callable[[Exit], str]
    remedy: str
    batches: bool = True


class LibraryEngine:
    """The engine around a library; implements ``ports.Engine``."""

    def __init__(
        self,
        kind: Kind,
        *,
        runtime_dir: Path | None = None,
        log_dir: Path | None = None,
        patience: Patience = USUAL_PATIENCE,
        hear: Callable[[str, str], None] = lambda model_id, line: None,
    ) -> None:
        """Make the engine; nothing is started.

        Args:
            kind: which library.
            runtime_dir: where each engine gets a private folder for its socket; None is the system's place for such.
            log_dir: where each model's log is kept as well, bounded; None keeps only its end, in memory.
            patience: how long to wait for what.
            hear: gets each line of each model's log.
        """
        self._kind = kind
        self._log_dir = log_dir
        self._runtime_dir = runtime_dir
        self._patience = patience
        self._hear = hear

    @property
    def name(self) -> str:
        """The library's."""
        return self._kind.name

    @property
    def build(self) -> str:
        """The release of the library, or empty if it is not installed."""
        return version(self._kind.distribution) if self.installed() else ""

    @property
    def offer(self) -> Offer:
        """The engine as people name it."""
        kind = self._kind
        return Offer(
            name=kind.name,
            id=kind.name,
            make=Make.LIBRARY,
            reads=kind.reads,
            lacks=kind.lacks,
            batches=kind.batches,
        )

    async def look(self) -> Offer:
        """Its offer: our workers run it on the CPU."""
        return self.offer

    def installed(self) -> bool:
        """Whether the library is there; nothing is imported."""
        return importlib.util.find_spec(self._kind.module) is not None

    async def start(self, spec: LaunchSpec, on_progress: Callable[[Progress], None]) -> RunningEngine:
        """A process that answered a health check; see ``ports.Engine``.

        Raises:
            EngineError: it did not become ready.
        """
        if not self.installed():
            raise self._missing(spec.model_id, ())
        with nest(self._runtime_dir) as runtime:
            command = self._command(spec, listen_at(runtime), log_path(self._log_dir, spec.model_id))
            start = Start(spec.model_id, on_progress, self._patience, partial(self._explained, spec.model_id))
            return await launch(start, command, runtime)

    async def account(
        self, model_path: str, settings: EngineSettings, draft_path: str | None = None
    ) -> tuple[Part, ...]:
        """Nothing: it never says beforehand."""
        return ()

    async def try_template(self, template: str, timeout_s: float) -> TemplateVerdict:
        """Not tried: what a template refuses is an error of the request here, not of the process."""
        return TemplateVerdict(usable=True, why="not tried: the first chat will tell", lasting=False)

    def _command(self, spec: LaunchSpec, listen: str, log: Path | None) -> Command:
        try:
            parameters = self._kind.parameters(spec, listen)
        except ValueError as error:
            raise EngineError(f"{spec.model_id}: {error}", code="engine_lacks") from error
        return Command(
            argv=(sys.executable, "-P", "-m", self._kind.worker),
            environment={
                **without_secrets(os.environ),
                **place_of(spec.settings.cores, spec.settings.numa),
                **spec.environment,
            },
            first_input=json.dumps(parameters).encode() + b"\n",
            farewell=FAREWELL,
            log_path=log,
            hear=partial(self._hear, spec.model_id),
        )

    def _missing(self, model_id: str, log: tuple[str, ...]) -> EngineError:
        return EngineError(
            f"{model_id} could not be loaded: {self._kind.title} is not installed",
            hint=f"pip install 'bercail[{self._kind.name}]'",
            code="engine_not_installed",
            log_tail=log,
        )

    def _explained(self, model_id: str, ended: Exit) -> EngineError:
        if ended.code == MISSING_LIBRARY:
            return self._missing(model_id, ended.log_tail)
        hint = "read the end of its log"
        if ended.code == -9 or any(word in line for line in ended.log_tail for word in _NO_MEMORY):
            sentence, code = "there was not enough memory for it", "out_of_memory"
        elif complaint := self._kind.complaint(ended):
            sentence, code, hint = complaint, "unsupported_model", self._kind.remedy
        else:
            last = next((line for line in reversed(ended.log_tail) if line.strip()), "it said nothing")
            sentence, code = f"{ended}; its last words: {last[:200]}", "engine_failed"
        return EngineError(f"{model_id} could not be loaded: {sentence}", hint=hint, code=code, log_tail=ended.log_tail)


_NO_MEMORY = ("bad_alloc", "Cannot allocate", "Failed to allocate memory", "not enough memory")
