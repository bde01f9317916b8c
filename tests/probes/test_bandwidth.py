import threading
from itertools import count

import pytest

from bercail.core.units import MIB
from bercail.probes.bandwidth import Effort, measure


def small(threads: int, methods: tuple[str, ...] = ("memcmp", "memchr")) -> Effort:
    return Effort(threads=threads, buffer_bytes=8 * MIB, methods=methods, window_s=0.05, fill_s=10)


def test_every_method_gets_its_window_and_all_memory_is_filled() -> None:
    ticks = count()
    result = measure(small(2), lambda: next(ticks) * 0.001)
    assert [window.method for window in result.windows] == ["memcmp", "memchr"]
    assert all(window.bytes_per_s > 0 for window in result.windows)
    assert result.filled_bytes == 8 * MIB


def test_a_failing_reader_ends_the_measurement_instead_of_hanging_the_others() -> None:
    ticks, guard = count(), threading.Lock()

    def clock() -> float:
        with guard:
            now = next(ticks)
        if now == 3:
            raise OSError("made up")
        return now * 0.001

    before = threading.active_count()
    with pytest.raises(OSError, match="made up"):
        measure(small(2), clock)
    assert threading.active_count() == before


def test_buffers_that_cannot_be_had_are_an_error_and_not_a_hang() -> None:
    with pytest.raises((MemoryError, OSError)):
        measure(Effort(threads=1, buffer_bytes=1 << 60), lambda: 0.0)
