"""The model in the box: a few million parameters, trained by this project (tools/concierge), that know only Bercail."""

from pathlib import Path

from bercail.core.model import DEMO_ID


def demo_path() -> Path | None:
    """The GGUF file (q8_0), or None where this installation came without it."""
    path = Path(__file__).with_name(f"{DEMO_ID}.gguf")
    return path if path.is_file() else None
