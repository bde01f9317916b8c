"""The cores of a machine, shared out among the models that ask for some."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.allotment import AUTO, Allotment, Claim, allot, alone, listed, roaming
from bercail.core.cpulist import format_cpulist, parse_cpulist
from bercail.core.machine import Cpu, NumaNode
from fakes.models import a_machine


def a_cpu(*cores: tuple[int, ...], **changes: object) -> Cpu:
    usable = tuple(sorted(number for core in cores for number in core))
    cpu = replace(a_machine().cpu, cores=cores, logical_cpus=usable, physical_cores=len(cores))
    return replace(cpu, **changes)  # type: ignore[arg-type] # a test names them


def single(count: int, **changes: object) -> Cpu:
    """As many cores of one CPU."""
    return a_cpu(*((number,) for number in range(count)), **changes)


def caches(*sizes: int) -> tuple[tuple[int, ...], ...]:
    """Level-3 caches of so many CPUs each."""
    begins = [sum(sizes[:index]) for index in range(len(sizes))]
    return tuple(tuple(range(begin, begin + size)) for begin, size in zip(begins, sizes, strict=True))


def nodes(*sizes: int) -> tuple[NumaNode, ...]:
    return tuple(NumaNode(id=index, cpus=cpus) for index, cpus in enumerate(caches(*sizes)))


TWO_THREADS = a_cpu(*((number, number + 4) for number in range(4)))
CHIPLETS = single(32, l3_groups=caches(8, 8, 8, 8))
TWO_NODES = single(32, nodes=nodes(16, 16), l3_groups=caches(16, 16))
SUB_NODES = single(32, nodes=nodes(8, 8, 8, 8), l3_groups=caches(16, 16))
"""Each cache serves two nodes."""
HYBRID = a_cpu((0, 1), (2, 3), (4, 5), (6, 7), *((number,) for number in range(8, 16)), fast_cpus=tuple(range(8)))


def autos(names: str, numa: int | None = None) -> tuple[Claim, ...]:
    return tuple(Claim(id=name, cores=AUTO, numa=numa) for name in names)


def always(one: str, other: str) -> bool:
    return True


def pairs(*allowed: str) -> Callable[[str, str], bool]:
    """Those that may meet, as two letters each."""
    return lambda one, other: one + other in allowed or other + one in allowed


def shares(
    cpu: Cpu,
    claims: Sequence[Claim],
    beside: Callable[[str, str], bool] = always,
    before: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, str]:
    """Who gets which CPUs."""
    return {name: format_cpulist(share.cpus) for name, share in allot(cpu, claims, beside, before).items()}


@pytest.mark.parametrize(
    ("cpu", "names", "lists"),
    [
        (single(2), "ab", ["0", "1"]),
        (single(8), "abc", ["0-2", "3-4", "5-7"]),
        (TWO_THREADS, "ab", ["0-1,4-5", "2-3,6-7"]),
        (CHIPLETS, "ab", ["0-15", "16-31"]),
        (CHIPLETS, "abcd", ["0-7", "8-15", "16-23", "24-31"]),
        (CHIPLETS, "abc", ["0-7", "8-23", "24-31"]),  # whole caches
        (CHIPLETS, "abcde", ["0-3", "4-7", "8-15", "16-23", "24-31"]),  # and nobody is in two where that can be
        (TWO_NODES, "ab", ["0-15", "16-31"]),
        (TWO_NODES, "abc", ["0-7", "8-15", "16-31"]),
        (SUB_NODES, "abc", ["0-7", "8-15", "16-31"]),  # no share is of two caches
        (SUB_NODES, "abcdef", ["0-3", "4-7", "8-15", "16-19", "20-23", "24-31"]),
        (single(20, nodes=nodes(16, 4)), "ab", ["0-7", "8-15"]),  # half of the large one, not all of the small one
        (single(6, l3_groups=((0, 1), (2, 3))), "abc", ["0-1", "2-3", "4-5"]),  # those without a cache are near, too
        (HYBRID, "ab", ["0-7", "8-15"]),
        (HYBRID, "abc", ["0-3", "4-7", "8-15"]),
        (HYBRID, "abcd", ["0-3", "4-7", "8-11", "12-15"]),
        (HYBRID, "abcdefghijkl", ["0-1", "2-3", "4-5", "6-7", *map(str, range(8, 16))]),
    ],
)
def test_cores_are_shared_out_in_whole_caches_and_nodes(cpu: Cpu, names: str, lists: list[str]) -> None:
    assert list(shares(cpu, autos(names)).values()) == lists


def test_a_share_within_a_node_takes_its_memory_from_there() -> None:
    found = allot(TWO_NODES, autos("ab"), always)
    assert [share.node for share in found.values()] == [0, 1]
    assert found["a"].memory == "the node of these cores"
    wide = allot(single(32, nodes=nodes(8, 8, 8, 8)), autos("ab"), always)["a"]
    assert (wide.node, wide.memory) == (None, "these cores are of several nodes")
    assert wide.because == "auto: all of NUMA nodes 0-1; b may be in memory beside it and has others"
    one = allot(single(4, nodes=nodes(4)), autos("ab"), always)["a"]
    assert (one.node, one.memory) == (None, "no node was named")


@pytest.mark.parametrize(
    ("cpu", "claims", "because"),
    [
        (single(2), autos("ab"), "auto: 1 core; b may be in memory beside it and has others"),
        (CHIPLETS, autos("ab"), "auto: 16 cores, all of 2 L3 caches; b may be"),
        (CHIPLETS, autos("abcd"), "auto: 8 cores, all of 1 L3 cache; b, c, d may be in memory beside it and have"),
        (CHIPLETS, autos("abcdefgh"), "auto: 4 cores of one L3 cache; b, c, d and 4 more may be"),
        (TWO_NODES, autos("ab"), "auto: all of NUMA node 0; b may be"),
        (HYBRID, autos("ab"), "auto: 4 performance cores; b may be"),
        (HYBRID, autos("ba"), "auto: 8 efficiency cores; b may be"),
        (single(8, quota_cpus=2.0), autos("ab"), "has others; the CPU quota is 2"),
        (single(4), autos("a"), "all usable: no other model that is given cores may be in memory beside it"),
    ],
)
def test_a_share_says_what_it_is_and_why(cpu: Cpu, claims: tuple[Claim, ...], because: str) -> None:
    assert because in allot(cpu, claims, always)["a"].because


def test_the_only_model_may_use_all_and_is_kept_to_nothing() -> None:
    assert shares(TWO_NODES, autos("a")) == {"a": ""}
    assert allot(TWO_NODES, autos("a"), always)["a"] == alone(TWO_NODES)
    assert alone(TWO_NODES).node is None
    assert format_cpulist(alone(TWO_NODES, 1).cpus) == "16-31"


def test_what_others_name_is_left_out_with_the_threads_beside_it() -> None:
    named = (Claim(id="x", cores="1"), *autos("ab"))
    assert shares(TWO_THREADS, named) == {"a": "0,2,4,6", "b": "3,7"}
    assert shares(TWO_NODES, (Claim(id="x", numa=1), *autos("a"))) == {"a": "0-15"}
    assert shares(TWO_NODES, (Claim(id="x", cores="16-31"), *autos("ab"))) == {"a": "0-7", "b": "8-15"}
    assert shares(TWO_NODES, (Claim(id="x", numa=7), Claim(id="y", cores="??"), *autos("a"))) == {"a": ""}
    because = allot(TWO_NODES, (Claim(id="x", numa=1), *autos("a")), always)["a"].because
    assert because == "auto: all of NUMA node 0; x may be in memory beside it and has others"


def test_what_nobody_meets_takes_nothing_away() -> None:
    named = (Claim(id="x", cores="0"), *autos("ab"))
    assert shares(single(4), named, pairs("ab")) == {"a": "0-1", "b": "2-3"}


def test_a_node_that_is_named_is_shared_out_first() -> None:
    claims = (*autos("a"), *autos("pq", numa=1))
    assert shares(TWO_NODES, claims) == {"a": "0-15", "p": "16-23", "q": "24-31"}
    assert list(allot(TWO_NODES, claims, always)) == ["a", "p", "q"]


def test_those_that_never_meet_have_the_same_cores() -> None:
    assert shares(single(8), autos("abc"), pairs()) == {"a": "", "b": "", "c": ""}
    assert shares(single(8), autos("abc"), pairs("ab", "ac")) == {"a": "0-3", "b": "4-7", "c": "4-7"}
    assert shares(single(8), autos("abcd"), pairs("ab", "cd")) == {"a": "0-3", "b": "4-7", "c": "0-3", "d": "4-7"}


def test_whoever_meets_fewer_has_more() -> None:
    """h is always there; x and y are there together, z is never beside them."""
    found = shares(single(12), autos("hxyz"), pairs("hx", "hy", "hz", "xy"))
    assert found == {"h": "0-3", "x": "4-7", "y": "8-11", "z": "4-11"}
    hybrid = shares(HYBRID, autos("hxyz"), pairs("hx", "hy", "hz", "xy"))
    assert hybrid == {"h": "0-3", "x": "4-7", "y": "8-15", "z": "4-7"}  # wider, and not mixed


def test_more_models_than_cores_is_told_with_a_cure() -> None:
    found = allot(single(3), (Claim(id="x", cores="0"), *autos("abc")), always)
    assert [share.cpus for share in found.values()] == [(1,), (2,), ()]
    assert found["c"].refusal == (
        "cores auto: a, b, c need 3 shares, for they may be in memory side by side, and 2 cores are left beside x, so "
        "c gets none; put those that need not meet into a group of which one is in memory at a time, or give it cores "
        "by hand"
    )
    assert "1 core is left, so b" in allot(single(1), autos("ab"), always)["b"].refusal
    assert (
        "0 cores are left beside x, so a"
        in allot(single(1), (Claim(id="x", cores="0"), *autos("a")), always)["a"].refusal
    )


def test_a_cpu_quota_is_not_shared_out_twice() -> None:
    assert shares(single(8, quota_cpus=2.5), autos("ab")) == {"a": "0", "b": "1"}
    assert shares(single(8, quota_cpus=1.0), autos("abc")) == {"a": "0", "b": "1", "c": "2"}
    assert shares(single(8, quota_cpus=16.0), autos("ab")) == {"a": "0-3", "b": "4-7"}


def test_where_it_is_hidden_which_cpus_are_a_core_each_counts_as_one() -> None:
    assert shares(a_machine().cpu, autos("ab")) == {"a": "0-3", "b": "4-7"}


def test_whoever_can_keep_his_cores_does() -> None:
    before = {"a": (0, 1, 2, 3), "b": (4, 5, 6, 7)}
    assert shares(single(8), autos("bc"), before=before) == {"b": "4-7", "c": "0-3"}
    assert shares(single(8), autos("ba"), before=before) == {"b": "4-7", "a": "0-3"}
    grown = shares(single(8), autos("abcd"), before=before)
    assert (grown["a"], grown["b"]) == ("0-1", "4-5")


def test_those_that_are_kept_to_nothing_are_named_if_they_meet_a_share() -> None:
    claims = (*autos("ab"), Claim(id="free"), Claim(id="kept", cores="0"), Claim(id="node", numa=0))
    assert roaming(claims, always) == ("free",)
    assert roaming(claims, pairs("ab")) == ()


def test_many_names_are_cut_short() -> None:
    assert listed("abcd") == "a, b, c, d"
    assert listed("abcde") == "a, b, c and 2 more"


@st.composite
def cpus(draw: st.DrawFn) -> Cpu:
    """Any processor: threads, caches and nodes that need not fit each other, fast cores, a quota, or nothing known."""
    threads, count = draw(st.sampled_from([1, 2])), draw(st.integers(1, 24))
    cores = tuple(tuple(core + count * thread for thread in range(threads)) for core in range(count))
    cpu = a_cpu(*cores)

    def groups(most: int) -> list[tuple[int, ...]]:
        marks = draw(st.lists(st.integers(0, most), min_size=count, max_size=count))
        found: dict[int, list[int]] = {}
        for mark, core in zip(marks, cores, strict=True):
            found.setdefault(mark, []).extend(core)
        return [tuple(sorted(group)) for mark, group in sorted(found.items()) if mark]

    return replace(
        cpu,
        cores=cores if draw(st.booleans()) else (),
        l3_groups=tuple(groups(draw(st.integers(0, 6)))),
        nodes=tuple(NumaNode(id=index, cpus=group) for index, group in enumerate(groups(draw(st.integers(0, 4))))),
        fast_cpus=tuple(sorted(number for core in cores[: draw(st.integers(0, count))] for number in core)),
        quota_cpus=draw(st.one_of(st.none(), st.floats(0.1, 32))),
    )


@given(cpu=cpus(), data=st.data())
def test_whatever_the_machine_those_that_meet_have_cores_of_their_own(cpu: Cpu, data: st.DataObject) -> None:
    names = "abcdefgh"[: data.draw(st.integers(1, 8))]
    numbers = st.lists(st.sampled_from(cpu.logical_cpus), min_size=1, max_size=3)
    wishes = st.one_of(
        st.just((AUTO, None)),
        numbers.map(lambda some: (format_cpulist(some), None)),
        st.integers(0, 4).map(lambda node: (AUTO, node)),
        st.just((None, None)),
    )
    wish = {name: data.draw(wishes) for name in names}
    claims = [Claim(id=name, cores=cores, numa=numa) for name, (cores, numa) in wish.items()]
    met = {
        name for name in (one + other for one in names for other in names if one < other) if data.draw(st.booleans())
    }
    beside = pairs(*met)
    found = allot(cpu, claims, beside)
    assert set(found) == {claim.id for claim in claims if claim.is_auto}

    def used(name: str) -> set[int]:
        cores, _ = wish[name]
        if cores != AUTO:
            return set(parse_cpulist(cores) or ()) if cores else set()
        share = found[name]
        return set() if share.refusal else set(share.cpus or cpu.logical_cpus)

    for one, other in ((one, other) for one in names for other in names if one + other in met):
        assert not used(one) & used(other) or not {one, other} & set(found)
    whole = [set(core) for core in cpu.cores or ((number,) for number in cpu.logical_cpus)]
    for name, share in found.items():
        held = used(name)
        assert bool(share.refusal) == (not held)
        assert all(core <= held or not core & held for core in whole)
        assert held <= set(cpu.logical_cpus)
        if share.cpus:
            assert not cpu.fast_cpus or held <= set(cpu.fast_cpus) or not held & set(cpu.fast_cpus)
        if share.node is not None:
            assert held <= set(next(node.cpus for node in cpu.nodes if node.id == share.node))
    before = {name: share.cpus for name, share in found.items()}
    again = allot(cpu, claims, beside, before)
    assert {name: share.cpus for name, share in again.items()} == before


@given(cpu=cpus(), count=st.integers(1, 8))
def test_there_is_a_core_for_everybody_as_long_as_there_are_cores(cpu: Cpu, count: int) -> None:
    found = allot(cpu, autos("abcdefgh"[:count]), always)
    there = len(cpu.cores or cpu.logical_cpus)
    assert sum(not share.refusal for share in found.values()) == min(count, there)


def test_a_share_whose_node_is_too_small_takes_memory_from_all() -> None:
    share = Allotment(cpus=(1,), node=2).without_node()
    assert (share.cpus, share.node) == ((1,), None)
    assert share.memory == "more than NUMA node 2 has, so from all of them"
