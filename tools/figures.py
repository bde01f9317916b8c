"""What a measurement found, printed and kept."""

import json
from collections.abc import Mapping
from pathlib import Path


def publish(found: Mapping[str, object], path: Path | None) -> None:
    """Print `found` as JSON, and write it to `path` if there is one."""
    text = json.dumps(found, indent=2, ensure_ascii=False, default=float)
    if path is not None:
        path.write_text(text + "\n", encoding="utf-8")
    print(text)
