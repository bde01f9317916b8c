"""Limits that control groups put on this process: version 1, version 2, and both mounted together.

Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, cgroups(7), cgroup_namespaces(7).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bercail.core.cpulist import parse_cpulist, parse_number
from bercail.core.units import Bytes
from bercail.probes.tree import Tree

# Version 1 writes "no limit" as the largest multiple of a page below 2^63.
_NO_LIMIT: Bytes = 1 << 60
_CONTROLLERS = frozenset(("cpu", "cpuset", "memory"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mounted hierarchy of control groups.

    Attributes:
        version: 1 or 2.
        controllers: what it controls, of those that matter here; empty in version 2, where any may be on.
        root: the group at its top, as seen from our cgroup namespace (may begin with ``/..``).
        point: where it is mounted.
        plain_names: file names lack the controller's prefix (a lone cpuset mounted the old way).
    """

    version: int
    controllers: frozenset[str]
    root: str
    point: str
    plain_names: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """One group's limit: its folder, the limit, and what may still be taken below it."""

    group: str
    limit_bytes: Bytes
    room_bytes: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Everything control groups say about this process.

    Attributes:
        quota_cpus: lowest quota of our group and all above it, in CPUs; None is no limit.
        cpus: the CPUs of our cpuset, or None if unknown.
        memory_nodes: the NUMA nodes of our cpuset, or None if unknown.
        memory: every memory limit of our group and those above it.
        notes: what could not be resolved, in words.
    """

    quota_cpus: float | None
    cpus: tuple[int, ...] | None
    memory_nodes: tuple[int, ...] | None
    memory: tuple[MemoryLimit, ...]
    notes: tuple[str, ...] = ()


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Hierarchies of control groups in the text of /proc/self/mountinfo."""
    found: list[Mount] = []
    for line in text.splitlines():
        front, dash, back = line.partition(" - ")
        left, right = front.split(" "), back.split()
        if dash and len(left) >= 6 and len(right) >= 2:
            found.extend(_mount(right[0], right[-1], root=_unescape(left[3]), point=_unescape(left[4])))
    return tuple(found)


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """The same from /proc/mounts, which does not tell the group at the top: ``/`` is assumed."""
    found: list[Mount] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4:
            found.extend(_mount(words[2], words[3], root="/", point=_unescape(words[1])))
    return tuple(found)


def parse_cgroup(text: str) -> dict[str, str]:
    """Our group's path by controller from /proc/self/cgroup; the path in version 2 is under an empty name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[2].startswith("/"):
            for controller in parts[1].split(",") if parts[1] else ("",):
                found.setdefault(controller, parts[2])
    return found


def parse_cpu_max(text: str) -> float | None:
    """CPUs allowed by the text of ``cpu.max`` (quota and period in microseconds); None is no limit."""
    words = text.split()
    if not words or words[0] == "max":
        return None
    return cpus_of_quota(words[0], words[1] if len(words) > 1 else "100000")


def cpus_of_quota(quota_us: str, period_us: str) -> float | None:
    """CPUs from a quota and its period in microseconds; None is no limit (-1) or nonsense."""
    quota, period = parse_number(quota_us), parse_number(period_us)
    return quota / period if quota and period else None


def parse_limit(text: str) -> Bytes | None:
    """Bytes of a memory limit; None is no limit (``max``, or version 1's huge number)."""
    number = parse_number(text)
    return None if number is None or number >= _NO_LIMIT else number


def parse_stat(text: str) -> dict[str, int]:
    """Lines of ``name number``, as in ``memory.stat``."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        number = parse_number(words[1]) if len(words) == 2 else None
        if number is not None:
            found[words[0]] = number
    return found


def locate(path: str, root: str) -> tuple[str, bool]:
    """Where group ``path`` lies below ``root``, a mount's top: the relative path, and whether that is certain.

    Both are seen from our cgroup namespace, so either may begin with ``/..``. A group that cannot be below the top, or
    whose way down has no names here, is taken to be the top: its limits are then the only ones in sight.
    """
    path_up, path_down = _steps(path)
    root_up, root_down = _steps(root)
    if path_up != root_up or path_down[: len(root_down)] != root_down:
        return "", False
    return "/".join(path_down[len(root_down) :]), True


def read_limits(tree: Tree) -> Limits:
    """The limits on this process."""
    notes: list[str] = []
    groups = _read_groups(tree, notes)
    cpuset = groups.get("cpuset", ())
    quotas = [quota for group in groups.get("cpu", ()) if (quota := _read_quota(tree, group)) is not None]
    memory = [limit for group in groups.get("memory", ()) if (limit := _read_memory(tree, group)) is not None]
    return Limits(
        quota_cpus=min(quotas, default=None),
        cpus=_nearest(tree, cpuset, ("cpuset.cpus.effective", "effective_cpus", "cpus")),
        memory_nodes=_nearest(tree, cpuset, ("cpuset.mems.effective", "effective_mems", "mems")),
        memory=tuple(memory),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    folder: str
    mount: Mount


def _read_groups(tree: Tree, notes: list[str]) -> dict[str, list[_Group]]:
    """Our group and those above it, nearest first, by controller."""
    mounts = parse_mountinfo(tree.read("/proc/self/mountinfo") or "")
    mounts = mounts or parse_mounts(tree.read("/proc/self/mounts") or tree.read("/proc/mounts") or "")
    paths = parse_cgroup(tree.read("/proc/self/cgroup") or "")
    alone = (tree.read("/proc/self/cpuset") or "").strip()
    found: dict[str, list[_Group]] = {}
    taken: set[tuple[int, str]] = set()
    for mount in mounts:
        for controller in sorted(mount.controllers or _CONTROLLERS):
            path = paths.get(controller if mount.version == 1 else "")
            if path is None and controller == "cpuset" and tree.has_folder(mount.point + alone):
                path = alone or None
            # The same hierarchy may be mounted twice; the first is the one everybody uses.
            if path is None or (mount.version, controller) in taken:
                continue
            taken.add((mount.version, controller))
            for folder in _folders(tree, mount, path, notes):
                found.setdefault(controller, []).append(_Group(folder=folder, mount=mount))
    return found


def _folders(tree: Tree, mount: Mount, path: str, notes: list[str]) -> Iterator[str]:
    below, certain = locate(path, mount.root)
    steps = [step for step in below.split("/") if step]
    while steps and not tree.has_folder("/".join((mount.point, *steps))):
        steps.pop()
        certain = False
    note = f"control group {path} is not visible below {mount.point}; its own limits may be lower than those found"
    if not certain and note not in notes:
        notes.append(note)
    for depth in range(len(steps), -1, -1):
        yield "/".join((mount.point.rstrip("/"), *steps[:depth])) or "/"


def _read_quota(tree: Tree, group: _Group) -> float | None:
    if group.mount.version == 2:
        return parse_cpu_max(tree.read(f"{group.folder}/cpu.max") or "")
    quota = tree.read(f"{group.folder}/cpu.cfs_quota_us") or ""
    return cpus_of_quota(quota, tree.read(f"{group.folder}/cpu.cfs_period_us") or "")


def _read_memory(tree: Tree, group: _Group) -> MemoryLimit | None:
    def number(name: str) -> Bytes | None:
        return parse_limit(tree.read(f"{group.folder}/{name}") or "")

    stat = parse_stat(tree.read(f"{group.folder}/memory.stat") or "")
    if group.mount.version == 2:
        limits = [number("memory.max"), number("memory.high")]
        used = number("memory.current")
        cache = stat.get("inactive_file", 0) + stat.get("active_file", 0)
    else:
        # The hierarchical limit also tells of groups above that a container cannot see.
        limits = [number("memory.limit_in_bytes"), parse_limit(str(stat.get("hierarchical_memory_limit", "")))]
        used = number("memory.usage_in_bytes")
        cache = stat.get("total_inactive_file", 0) + stat.get("total_active_file", 0)
    lowest = min((limit for limit in limits if limit is not None), default=None)
    if lowest is None:
        return None
    taken = max(0, (used or 0) - cache)
    return MemoryLimit(group=group.folder, limit_bytes=lowest, room_bytes=max(0, lowest - taken))


def _nearest(tree: Tree, groups: list[_Group] | tuple[()], names: tuple[str, ...]) -> tuple[int, ...] | None:
    """The first list that is there: an effective list has all above it worked in."""
    for group in groups:
        for name in _cpuset_names(group.mount, names):
            found = parse_cpulist(tree.read(f"{group.folder}/{name}") or "")
            if found:
                return found
    return None


def _cpuset_names(mount: Mount, names: tuple[str, ...]) -> tuple[str, ...]:
    modern, *old = names
    if mount.version == 2:
        return (modern,)
    return tuple(old) if mount.plain_names else tuple(f"cpuset.{name}" for name in old)


def _mount(kind: str, options: str, *, root: str, point: str) -> Iterator[Mount]:
    words = frozenset(options.split(","))
    if kind == "cgroup2":
        yield Mount(version=2, controllers=frozenset(), root=root, point=point)
    elif kind == "cgroup" and words & _CONTROLLERS:
        plain = "noprefix" in words
        yield Mount(version=1, controllers=words & _CONTROLLERS, root=root, point=point, plain_names=plain)


def _steps(path: str) -> tuple[int, list[str]]:
    steps = [step for step in path.split("/") if step]
    up = 0
    while up < len(steps) and steps[up] == "..":
        up += 1
    return up, steps[up:]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
