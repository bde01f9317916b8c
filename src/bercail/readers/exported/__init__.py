"""Folders that other tools exported a model to: ONNX Runtime GenAI's and OpenVINO's."""

import os
from collections.abc import Callable
from pathlib import Path

from bercail.core.model import Format, Model
from bercail.readers.exported import genai, openvino_ir

_READERS: tuple[tuple[str, Format, Callable[[Path], Model]], ...] = (
    (genai.SIGN, Format.ONNX, genai.read),
    (openvino_ir.SIGN, Format.OPENVINO, openvino_ir.read),
)
SIGNS = tuple(sign for sign, _, _ in _READERS)
"""Files by which such a folder is known."""

__all__ = ["SIGNS", "format_of", "read", "weigh"]


def format_of(folder: Path) -> Format | None:
    """What the folder holds, by the file that all of its kind have; None if it is no such folder."""
    return next((kind for sign, kind, _ in _READERS if os.path.isfile(folder / sign)), None)  # noqa: PTH113 - False where it cannot be seen


def read(folder: Path) -> Model:
    """The model in ``folder``.

    Raises:
        ReadError: it is incomplete, or its descriptions contradict themselves.
    """
    form = format_of(folder)
    return next(reader for _, kind, reader in _READERS if kind is form)(folder)


def weigh(folder: Path) -> int:
    """Bytes of all that lies in ``folder``, itself alone."""
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # it vanished, or leads nowhere: reading the model says so if it is needed
            continue
    return total
