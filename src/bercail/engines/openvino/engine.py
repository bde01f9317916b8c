"""The engine of OpenVINO GenAI: its processes, and what its failures mean."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from bercail.core.budget import Part
from bercail.core.engine import EngineSettings, Make, Offer
from bercail.core.errors import EngineError
from bercail.core.launch import Exit, LaunchSpec, Progress, TemplateVerdict
from bercail.engines.leash import place_of
from bercail.engines.openvino import worker
from bercail.engines.openvino.parameters import Parameters
from bercail.engines.process import Command
from bercail.engines.running import USUAL_PATIENCE, Patience, RunningEngine, Start, launch
from bercail.engines.runtime import listen_at, log_path, nest, without_secrets

INSTALL = "pip install 'bercail[openvino]'"


class OpenVino:
    """The engine; implements ``ports.Engine``."""

    name = "openvino"

    def __init__(
        self, *, runtime_dir: Path | None = None, log_dir: Path | None = None, patience: Patience = USUAL_PATIENCE
    ) -> None:
        """Make the engine; nothing is started.

        Args:
            runtime_dir: where each engine gets a private folder for its socket; None is the system's place for such.
            log_dir: where each model's log is kept as well, bounded; None keeps only its end, in memory.
            patience: how long to wait for what.
        """
        self._log_dir = log_dir
        self._runtime_dir = runtime_dir
        self._patience = patience

    @property
    def build(self) -> str:
        """The release of the library, or empty if it is not installed."""
        return version("openvino-genai") if installed() else ""

    @property
    def offer(self) -> Offer:
        """The engine as people name it."""
        return Offer(name="openvino", id="openvino", make=Make.LIBRARY)

    async def start(self, spec: LaunchSpec, on_progress: Callable[[Progress], None]) -> RunningEngine:
        """A process that answered a health check; see ``ports.Engine``.

        Raises:
            EngineError: it did not become ready.
        """
        if not installed():
            raise _missing(spec.model_id, ())
        with nest(self._runtime_dir) as runtime:
            command = _command(spec, listen_at(runtime), log_path(self._log_dir, spec.model_id))
            start = Start(spec.model_id, on_progress, self._patience, partial(_explained, spec.model_id))
            return await launch(start, command, runtime)

    async def account(
        self, model_path: str, settings: EngineSettings, draft_path: str | None = None
    ) -> tuple[Part, ...]:
        """Nothing: it never says beforehand."""
        return ()

    async def try_template(self, template: str, timeout_s: float) -> TemplateVerdict:
        """Not tried: what a template refuses is an error of the request here, not of the process."""
        return TemplateVerdict(usable=True, why="not tried: the first chat will tell", lasting=False)


def installed() -> bool:
    """Whether the library is there; nothing is imported."""
    return importlib.util.find_spec("openvino_genai") is not None


def _command(spec: LaunchSpec, listen: str, log: Path | None) -> Command:
    try:
        parameters = Parameters.of(spec, listen)
    except ValueError as error:
        raise EngineError(f"{spec.model_id}: {error}", code="engine_lacks") from error
    return Command(
        argv=(sys.executable, "-P", "-m", worker.__name__),
        environment={
            **without_secrets(os.environ),
            **place_of(spec.settings.cores, spec.settings.numa),
            **spec.environment,
        },
        first_input=json.dumps(parameters.document()).encode() + b"\n",
        farewell=worker.FAREWELL,
        log_path=log,
    )


def _missing(model_id: str, log: tuple[str, ...]) -> EngineError:
    return EngineError(
        f"{model_id} could not be loaded: OpenVINO GenAI is not installed",
        hint=INSTALL,
        code="engine_not_installed",
        log_tail=log,
    )


_OTHER = "take --engine embedded, or convert it: `optimum-cli export openvino` makes a folder that OpenVINO reads"


def _complaint(ended: Exit) -> str:
    """What its reader has against the file, without where in its source it says so."""
    said = [line.strip() for line in ended.log_tail if line.strip() and not line.startswith("Check '")]
    return f": {said[-1][:200]}" if said else ""


def _explained(model_id: str, ended: Exit) -> EngineError:
    if ended.code == worker.MISSING_LIBRARY:
        return _missing(model_id, ended.log_tail)
    text = "\n".join(ended.log_tail)
    if "unordered_map::at" in text:
        sentence, code = "OpenVINO's reader misses a key in its header", "unsupported_model"
    elif "Unsupported model architecture" in text or "Unsupported GGML" in text or "gguf" in text.lower():
        sentence, code = f"OpenVINO cannot read it as GGUF{_complaint(ended)}", "unsupported_model"
    elif ended.code == -9 or "bad_alloc" in text or "Cannot allocate" in text:
        sentence, code = "there was not enough memory for it", "out_of_memory"
    else:
        last = next((line for line in reversed(ended.log_tail) if line.strip()), "it said nothing")
        sentence, code = f"{ended}; its last words: {last[:200]}", "engine_failed"
    hint = _OTHER if code == "unsupported_model" else "read the end of its log"
    return EngineError(f"{model_id} could not be loaded: {sentence}", hint=hint, code=code, log_tail=ended.log_tail)
