"""What stays in memory, where a test wants to know."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """The collector of cycles does not come by: what is gone now went because nobody holds it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
