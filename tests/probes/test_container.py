from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.units import GIB, MIB
from bercail.probes.container import (
    cpus_of_quota,
    locate,
    parse_cgroup,
    parse_cpu_max,
    parse_limit,
    parse_mountinfo,
    parse_mounts,
    parse_stat,
    read_limits,
)
from bercail.probes.tree import Tree

V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def machine(root: Path, files: Mapping[str, str]) -> Tree:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return Tree(root)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("max 100000\n", None), ("250000 100000\n", 2.5), ("50000", 0.5), ("", None), ("1 0", None), ("x y", None)],
)
def test_cpu_max_is_a_number_of_cpus(text: str, cpus: float | None) -> None:
    assert parse_cpu_max(text) == cpus


def test_a_quota_of_minus_one_is_no_limit() -> None:
    assert cpus_of_quota("-1\n", "100000\n") is None


@pytest.mark.parametrize(
    ("text", "limit"), [("max\n", None), ("9223372036854771712\n", None), ("1073741824\n", GIB), ("", None)]
)
def test_no_limit_on_memory_is_none(text: str, limit: int | None) -> None:
    assert parse_limit(text) == limit


@given(st.text())
def test_no_text_breaks_a_parser_of_control_groups(text: str) -> None:
    for parse in (parse_cpu_max, parse_limit, parse_stat, parse_cgroup, parse_mountinfo, parse_mounts):
        assert parse(text) == parse(text)
    assert cpus_of_quota(text, text) is None or text.strip()


@given(st.text(), st.text())
def test_every_group_is_located_somewhere(path: str, root: str) -> None:
    below, visible = locate(path, root)
    assert not below.startswith("/")
    assert visible in (True, False)


@pytest.mark.parametrize(
    ("path", "root", "where"),
    [
        ("/", "/", ("", True)),
        ("/a/b", "/", ("a/b", True)),
        ("/docker/1", "/docker/1", ("", True)),
        ("/docker/1/x", "/docker/1", ("x", True)),
        ("/docker/12", "/docker/1", ("", False)),
        ("/", "/../..", ("", False)),
        ("/../..", "/", ("", False)),
        ("/../x", "/..", ("x", True)),
    ],
)
def test_a_group_is_found_below_the_top_of_its_mount(path: str, root: str, where: tuple[str, bool]) -> None:
    assert locate(path, root) == where


def test_escaped_mount_points_are_unescaped() -> None:
    (mount,) = parse_mountinfo("31 23 0:28 / /a\\040b rw - cgroup2 none rw\n")
    assert mount.point == "/a b"


def test_the_lowest_quota_above_us_counts(tmp_path: Path) -> None:
    tree = machine(
        tmp_path,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": "0::/a/b/c\n",
            "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            "sys/fs/cgroup/a/b/c/cpu.max": "400000 100000\n",
        },
    )
    assert read_limits(tree).quota_cpus == 1.5


def test_memory_limits_of_all_groups_are_told_and_their_file_cache_is_free(tmp_path: Path) -> None:
    tree = machine(
        tmp_path,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/a/memory.high": f"{3 * GIB}\n",
            "sys/fs/cgroup/a/memory.current": f"{2 * GIB}\n",
            "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {GIB}\nactive_file {512 * MIB}\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
        },
    )
    (limit,) = read_limits(tree).memory
    assert limit.group == "/sys/fs/cgroup/a"
    assert limit.limit_bytes == 3 * GIB
    assert limit.room_bytes == 3 * GIB - 512 * MIB


def test_a_group_over_its_limit_has_no_room_rather_than_less_than_none(tmp_path: Path) -> None:
    tree = machine(
        tmp_path,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": "0::/a\n",
            "sys/fs/cgroup/a/memory.high": f"{GIB}\n",
            "sys/fs/cgroup/a/memory.current": f"{2 * GIB}\n",
        },
    )
    assert read_limits(tree).memory[0].room_bytes == 0


def test_hybrid_mounts_give_the_limits_of_version_1(tmp_path: Path) -> None:
    cgroup = "4:memory:/m\n3:cpuset:/s\n2:cpu,cpuacct:/c\n1:name=systemd:/m\n0::/\n"
    tree = machine(
        tmp_path,
        {
            "proc/self/mountinfo": HYBRID_MOUNTS,
            "proc/self/cgroup": cgroup,
            "sys/fs/cgroup/unified/cgroup.controllers": "",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us": "765000\n",
            "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpuset/s/cpuset.effective_cpus": "2-3\n",
            "sys/fs/cgroup/cpuset/s/cpuset.effective_mems": "1\n",
            "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/m/memory.usage_in_bytes": f"{3 * GIB}\n",
            "sys/fs/cgroup/memory/m/memory.stat": f"hierarchical_memory_limit {8 * GIB}\ntotal_inactive_file {GIB}\n",
        },
    )
    limits = read_limits(tree)
    assert limits.quota_cpus == 7.65
    assert limits.cpus == (2, 3)
    assert limits.memory_nodes == (1,)
    assert [limit.room_bytes for limit in limits.memory] == [6 * GIB]
    assert limits.notes == ()


def test_a_container_of_version_1_sees_its_group_at_the_top_of_the_mount(tmp_path: Path) -> None:
    mount = "35 31 0:32 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    tree = machine(
        tmp_path,
        {
            "proc/self/mountinfo": mount,
            "proc/self/cgroup": "4:memory:/docker/1\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
        },
    )
    limits = read_limits(tree)
    assert [(limit.group, limit.room_bytes) for limit in limits.memory] == [("/sys/fs/cgroup/memory", GIB)]
    assert limits.notes == ()


@pytest.mark.parametrize("path", ["/../..", "/gone/missing"])
def test_a_group_out_of_sight_leaves_the_limits_in_sight_and_a_note(tmp_path: Path, path: str) -> None:
    tree = machine(
        tmp_path,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": f"0::{path}\n",
            "sys/fs/cgroup/cpu.max": "200000 100000\n",
        },
    )
    limits = read_limits(tree)
    assert limits.quota_cpus == 2.0
    assert len(limits.notes) == 1
    assert path in limits.notes[0]


def test_the_cpuset_of_the_nearest_group_that_has_one_counts(tmp_path: Path) -> None:
    tree = machine(
        tmp_path,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/cpuset.cpus.effective": "0-7\n",
            "sys/fs/cgroup/a/cpuset.cpus.effective": "4-5\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        },
    )
    assert read_limits(tree).cpus == (4, 5)


def test_without_control_groups_nothing_limits(tmp_path: Path) -> None:
    limits = read_limits(Tree(tmp_path))
    assert (limits.quota_cpus, limits.cpus, limits.memory, limits.notes) == (None, None, (), ())


@pytest.mark.shared
def test_the_recorded_control_group_limits_cpu_and_memory(shared: Path, tmp_path: Path) -> None:
    recorded = shared / "fixtures/machines/telegraf/cgroup_v2"
    files = {f"sys/fs/cgroup/job/{file.name}": file.read_text() for file in recorded.iterdir()}
    tree = machine(tmp_path, {**files, "proc/self/mountinfo": V2_MOUNT, "proc/self/cgroup": "0::/job\n"})
    limits = read_limits(tree)
    stat = parse_stat((recorded / "memory.stat").read_text())
    used = 13071106048 - stat["inactive_file"] - stat["active_file"]
    assert limits.quota_cpus == 48.0
    assert limits.cpus == tuple(range(96))
    assert [(limit.limit_bytes, limit.room_bytes) for limit in limits.memory] == [(96 * GIB, 96 * GIB - used)]
