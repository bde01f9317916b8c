"""What starting a worker takes: the library, its command, its environment."""

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from bercail.core.errors import EngineError
from bercail.engines.llama_cpp import flags, worker
from bercail.engines.process import Command
from bercail.engines.runtime import without_secrets

INSTALL = f"pip install 'xllamacpp=={flags.RELEASE}'"

_KEPT_OUT = ("LLAMA_", "AIP_")
"""They would change what the engine does."""


def check_library() -> None:
    """See that the engine is installed, without importing it.

    Raises:
        EngineError: it is not; the hint is the line that installs it.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise missing("", ())


def missing(model_id: str, log: tuple[str, ...]) -> EngineError:
    """The error for an engine that is not installed."""
    about = f"{model_id} could not be loaded: " if model_id else ""
    return EngineError(
        f"{about}the embedded engine is not installed", hint=INSTALL, code="engine_not_installed", log_tail=log
    )


def make_command(
    values: Mapping[str, flags.Parameter], environment: Mapping[str, str], *, log_path: Path | None = None
) -> Command:
    """The worker with its parameters, which go by standard input: a template can be too long for an argument."""
    return Command(
        # -P: a file of that name in the working directory must not pass for the library.
        argv=(sys.executable, "-P", "-m", worker.__name__),
        environment={**clean_environment(os.environ), **environment},
        first_input=json.dumps(dict(values)).encode() + b"\n",
        farewell=worker.FAREWELL,
        log_path=log_path,
    )


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of our environment an engine gets."""
    # An abort would run gdb over itself for a second.
    return {**without_secrets(environment, _KEPT_OUT), "GGML_NO_BACKTRACE": "1"}
