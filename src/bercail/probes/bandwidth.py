"""Reading speed of main memory: threads that compare their own memory with the C library.

A foreign function runs without the interpreter's lock, so Python threads read side by side. Two functions take turns,
because which is the faster reader depends on the C library: ``memcmp`` reads two streams and was the quickest with
glibc (23 GB/s on two Cascade Lake vCPUs, ``memchr`` 20, ``memcpy`` 19), while musl's compares byte by byte.
"""

import ctypes
import mmap
import threading
from collections.abc import Callable
from dataclasses import dataclass

from bercail.core.units import MIB, Bytes, Seconds

METHODS = ("memcmp", "memchr")

_CHUNK: Bytes = 32 * MIB  # per call: short against a window, long against the interpreter's lock
_FILL_STEP: Bytes = 4 * MIB
_PRESENT, _ABSENT = 0x55, 0xAA


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much work a measurement is.

    Attributes:
        threads: readers.
        buffer_bytes: memory of all readers together; well beyond the caches.
        methods: reading functions, one window each.
        window_s: length of a window.
        fill_s: most time for filling; what is not filled by then is not read.
    """

    threads: int
    buffer_bytes: Bytes
    methods: tuple[str, ...] = METHODS * 2
    window_s: Seconds = 0.12
    fill_s: Seconds = 0.45


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What one window showed."""

    method: str
    bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All windows, and how much memory they went over."""

    windows: tuple[Window, ...]
    filled_bytes: Bytes


def measure(effort: Effort, clock: Callable[[], Seconds]) -> Result:
    """Let the readers run; every one of them is inside every window from its beginning to its end.

    Raises:
        MemoryError: the buffers could not be had.
        OSError: the C library lacks a function, or a buffer was refused.
        RuntimeError: a thread could not be started.
    """
    run = _Run(effort, clock)
    threads = [threading.Thread(target=run.read, name=f"bandwidth-{index}") for index in range(effort.threads)]
    started: list[threading.Thread] = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
    except RuntimeError:
        run.barrier.abort()
        raise
    finally:
        for thread in started:
            thread.join()
    if run.failures:
        raise run.failures[0]
    return Result(
        windows=tuple(
            Window(method=method, bytes_per_s=sum(rates))
            for method, rates in zip(effort.methods, run.rates, strict=True)
        ),
        filled_bytes=sum(run.filled),
    )


class _Run:
    """One measurement: what the readers share."""

    def __init__(self, effort: Effort, clock: Callable[[], Seconds]) -> None:
        self.barrier = threading.Barrier(effort.threads)
        self.rates: list[list[float]] = [[] for _ in effort.methods]
        self.filled: list[Bytes] = []
        self.failures: list[MemoryError | OSError | AttributeError] = []
        self._effort = effort
        self._clock = clock
        self._library = _c_library()

    def read(self) -> None:
        """The whole life of one reader."""
        try:
            share = max(self._effort.buffer_bytes // self._effort.threads, _FILL_STEP) // mmap.PAGESIZE * mmap.PAGESIZE
            with mmap.mmap(-1, share) as buffer:
                self._use(buffer, share)
        except threading.BrokenBarrierError:
            return  # another reader failed and has said why
        except (MemoryError, OSError, AttributeError) as error:
            self.failures.append(error)
            self.barrier.abort()

    def _use(self, buffer: mmap.mmap, share: Bytes) -> None:
        view = ctypes.c_char.from_buffer(buffer)
        try:
            address = ctypes.addressof(view)
            size = self._fill(address, share)
            self.filled.append(size)
            for method, rates in zip(self._effort.methods, self.rates, strict=True):
                step = self._step(method, address, size)
                self.barrier.wait()
                rates.append(self._window(step, size))
        finally:
            del view  # else the buffer cannot be closed

    def _fill(self, address: int, share: Bytes) -> Bytes:
        """Touch real pages by writing something else than zero, which the system might share between pages."""
        end = self._clock() + self._effort.fill_s
        done = 0
        while done < share and (done == 0 or self._clock() < end):
            step = min(_FILL_STEP, share - done)
            self._library.memset(ctypes.c_void_p(address + done), _PRESENT, ctypes.c_size_t(step))
            done += step
        return done

    def _step(self, method: str, address: int, size: Bytes) -> Callable[[Bytes, Bytes], object]:
        """A call that reads ``length`` bytes, told where it is in a pass over ``size`` bytes."""
        if method == "memchr":
            search = self._library.memchr
            return lambda done, length: search(ctypes.c_void_p(address + done), _ABSENT, ctypes.c_size_t(length))
        compare, half = self._library.memcmp, size // 2
        return lambda done, length: compare(
            ctypes.c_void_p(address + done // 2),
            ctypes.c_void_p(address + half + done // 2),
            ctypes.c_size_t(length // 2),
        )

    def _window(self, step: Callable[[Bytes, Bytes], object], size: Bytes) -> float:
        begin = now = self._clock()
        total = done = 0
        while now < begin + self._effort.window_s:
            length = min(_CHUNK, size - done)
            step(done, length)
            total += length
            done = (done + length) % size
            now = self._clock()
        return total / (now - begin)


def _c_library() -> ctypes.CDLL:
    # None is this very process, whose C library is loaded; Windows has no such thing, but a library by that name.
    try:
        return ctypes.CDLL(None)
    except TypeError:
        return ctypes.CDLL("msvcrt")
