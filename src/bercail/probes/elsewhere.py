"""Systems without /proc: what the standard library gives."""

import ctypes
import os

from bercail.core.machine import MemoryPool
from bercail.core.units import Bytes


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of Windows; source: learn.microsoft.com, sysinfoapi.h."""

    _fields_ = [
        ("length", ctypes.c_ulong),
        ("load_percent", ctypes.c_ulong),
        ("total_bytes", ctypes.c_ulonglong),
        ("available_bytes", ctypes.c_ulonglong),
        ("page_file_total_bytes", ctypes.c_ulonglong),
        ("page_file_available_bytes", ctypes.c_ulonglong),
        ("virtual_total_bytes", ctypes.c_ulonglong),
        ("virtual_available_bytes", ctypes.c_ulonglong),
        ("virtual_extended_bytes", ctypes.c_ulonglong),
    ]


def count_usable_cpus() -> int:
    """Logical CPUs of the machine, at least 1."""
    return os.cpu_count() or 1


def read_memory_elsewhere(system: str) -> tuple[MemoryPool, tuple[str, ...]]:
    """Main memory without /proc, and what is unknown about it, in words."""
    found = _windows_memory() if system == "Windows" else None
    if found is not None:
        total, available = found
        return MemoryPool(total_bytes=total, available_bytes=available), ()
    installed = _installed()
    if installed is None:
        unknown = f"how much memory there is stays unknown on {system} and counts as none"
        return MemoryPool(total_bytes=0, available_bytes=0), (unknown,)
    assumed = f"{system} does not tell available memory in a way probed so far: half of what is installed is assumed"
    return MemoryPool(total_bytes=installed, available_bytes=installed // 2), (assumed,)


def _windows_memory() -> tuple[Bytes, Bytes] | None:
    library = getattr(ctypes, "windll", None)  # exists on Windows alone
    if library is None:
        return None
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    if not library.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.total_bytes), int(status.available_bytes)


def _installed() -> Bytes | None:
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return installed if installed > 0 else None
