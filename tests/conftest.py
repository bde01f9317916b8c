"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Machines are slow at times, and no test depends on speed. A commit is judged by the same examples wherever it is
# tested; new ones are looked for by `nox -s explore`.
settings.register_profile("bercail", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("explore", settings.get_profile("bercail"), derandomize=False, max_examples=1000)
settings.load_profile("bercail")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The material beside the checkout; tests that need it skip where it is absent."""
    place = Path(os.environ.get("BERCAIL_SHARED", ROOT.parent / "shared"))
    if not (place / "models").is_dir():
        pytest.skip(f"no test material at {place} (set BERCAIL_SHARED)")
    return place
