"""Engines on CPUs and memory of their own."""

from dataclasses import replace

import pytest

from bercail.core.allotment import AUTO, Allotment, Claim, allot
from bercail.core.bind import bound, within
from bercail.core.elsewhere import llama_server
from bercail.core.lessons import NO_LESSONS, Pace
from bercail.core.machine import Machine, NumaNode
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, NoFit, decide
from bercail.core.report import plan_line
from bercail.core.units import GIB, MIB
from fakes.models import a_machine, a_model


def two_nodes(free: int | None = 3 * GIB) -> Machine:
    """Two nodes of two cores of two CPUs: 0 and 4 are one core, 1 and 5, 2 and 6, 3 and 7."""
    near = NumaNode(id=0, cpus=(0, 1, 4, 5), available_bytes=6 * GIB)
    far = NumaNode(id=1, cpus=(2, 3, 6, 7), available_bytes=free)
    machine = a_machine(8 * GIB, cores=((0, 4), (1, 5), (2, 6), (3, 7)), nodes=(near, far), numa_nodes=2)
    return replace(machine, memory=replace(machine.memory, bandwidth_bytes_per_s=2e10))


def planned(machine: Machine, **wish: object) -> Fits:
    verdict = decide(machine, a_model(), EngineOptions(**wish))  # type: ignore[arg-type]
    assert isinstance(verdict, Fits), verdict.why
    return verdict


def reasons(plan: Fits) -> dict[str, tuple[str, str]]:
    return {row.setting: (row.value, row.because) for row in plan.reasons}


def test_threads_follow_the_cores_behind_the_cpus() -> None:
    plan = planned(two_nodes(), cores="0,2-3,7")
    assert plan.settings.cores == (0, 2, 3, 7)
    assert (plan.settings.threads, plan.settings.threads_batch) == (3, 3)  # 3 and 7 are one core
    assert reasons(plan)["cores"] == ("0,2-3,7", "as asked")
    assert reasons(plan)["numa"][0] == "any"


def test_a_node_means_its_cpus_and_its_memory() -> None:
    plan = planned(two_nodes(), numa=1)
    assert (plan.settings.cores, plan.settings.numa, plan.settings.threads) == ((2, 3, 6, 7), 1, 2)
    assert plan.devices[0].budget_bytes == 3 * GIB
    assert reasons(plan)["cores"] == ("2-3,6-7", "those of the node")
    assert reasons(plan)["numa"] == ("1", "as asked")
    assert within(two_nodes(), bound(two_nodes(), EngineOptions(numa=1))).memory.limited_by == "NUMA node 1"
    assert planned(two_nodes(None), numa=1).devices[0].budget_bytes == 8 * GIB
    assert planned(two_nodes(), numa=1, cores="3").settings.cores == (3,)


def test_the_line_of_a_plan_says_where_it_runs() -> None:
    assert "2 threads on CPUs 0-1, " in plan_line(planned(two_nodes(), cores="0-1"))
    assert "1 thread on CPU 3, " in plan_line(planned(two_nodes(), cores="3"))
    assert "4 threads, " in plan_line(planned(two_nodes()))


def test_without_a_wish_all_may_be_used() -> None:
    plan = planned(two_nodes())
    assert (plan.settings.cores, plan.settings.numa) == ((), None)
    assert reasons(plan)["cores"] == ("all", "all usable")
    assert plan.rates


def test_what_all_cores_reach_is_not_promised_of_a_few() -> None:
    assert planned(two_nodes(), cores="0-1").rates == ()
    assert planned(two_nodes(), cores="0-7").rates  # all of them
    pace = Pace(type="f16", weights_s=1e-9, mix_s=0, linear_s=1e-12, attention_s=0, spread=0.1, runs=4)
    verdict = decide(two_nodes(), a_model(), EngineOptions(cores="0"), lessons=NO_LESSONS.with_pace(pace))
    assert isinstance(verdict, Fits)
    assert verdict.prefill == ()


def test_hidden_topology_counts_cpus() -> None:
    assert planned(a_machine(), cores="0-2").settings.threads == 3


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"cores": "a-b"}, "is no list of CPUs such as 0-3,8, nor auto"),
        ({"cores": "auto", "numa": 2}, "--numa 2 is no node"),
        ({"cores": ""}, "is no list of CPUs"),
        ({"cores": "0,9,10"}, "CPU 9-10 is none of the usable ones (0-7)"),
        ({"numa": 2}, "--numa 2 is no node with usable CPUs and memory here (0, 1)"),
        ({"numa": 1, "cores": "0,2"}, "contradict each other: CPU 0 is of another node (2-3,6-7 are of this one)"),
    ],
)
def test_what_cannot_be_had_is_refused_in_words(wish: dict[str, object], words: str) -> None:
    verdict = decide(two_nodes(), a_model(), EngineOptions(**wish))  # type: ignore[arg-type]
    assert isinstance(verdict, NoFit)
    assert words in verdict.why


def test_without_known_nodes_none_can_be_named() -> None:
    verdict = decide(a_machine(), a_model(), EngineOptions(numa=0))
    assert isinstance(verdict, NoFit)
    assert "none is known" in verdict.why


def test_the_command_line_elsewhere_binds_as_well() -> None:
    flags = llama_server("m.gguf", None, planned(two_nodes(), numa=1).settings)
    assert flags[:4] == ("numactl", "--physcpubind=2-3,6-7", "--membind=1", "llama-server")
    flags = llama_server("m.gguf", None, planned(two_nodes(), cores="0-1").settings)
    assert flags[:4] == ("taskset", "--cpu-list", "0-1", "llama-server")


def halves(machine: Machine) -> tuple[Allotment, Allotment]:
    """The shares of two models that may be there at once."""
    found = allot(machine.cpu, [Claim(id=name, cores=AUTO) for name in "ab"], lambda one, other: True)
    return found["a"], found["b"]


def allotted(machine: Machine, share: Allotment, **wish: object) -> Fits | NoFit:
    return decide(machine, a_model(), EngineOptions(cores=AUTO, **wish), allotment=share)  # type: ignore[arg-type]


def test_a_share_is_kept_to_like_cores_that_were_named() -> None:
    plan = allotted(two_nodes(), halves(two_nodes())[1])
    assert isinstance(plan, Fits)
    named = planned(two_nodes(), numa=1)
    assert (plan.settings, plan.devices) == (named.settings, named.devices)
    assert reasons(plan)["cores"] == (
        "2-3,6-7", "auto: all of NUMA node 1; a may be in memory beside it and has others",
    )  # fmt: skip
    assert reasons(plan)["numa"] == ("1", "the node of these cores")


def test_auto_alone_is_everything_and_says_so() -> None:
    plan = planned(two_nodes(), cores="auto")
    assert (plan.settings.cores, plan.settings.threads) == ((), 4)
    assert reasons(plan)["cores"][1].startswith("all usable: no other model")
    node = planned(two_nodes(), cores="auto", numa=1)
    assert (node.settings.cores, node.settings.numa) == ((2, 3, 6, 7), 1)
    assert reasons(node)["numa"] == ("1", "as asked")


def test_a_node_that_nobody_asked_for_is_let_go_where_its_memory_is_not_enough() -> None:
    machine = two_nodes(free=100 * MIB)
    plan = allotted(machine, halves(machine)[1])
    assert isinstance(plan, Fits)
    assert (plan.settings.cores, plan.settings.numa) == ((2, 3, 6, 7), None)
    assert reasons(plan)["numa"] == ("any", "more than NUMA node 1 has, so from all of them")
    assert isinstance(allotted(machine, halves(machine)[1], numa=1), NoFit)


def test_what_gets_no_core_is_refused_in_words() -> None:
    verdict = allotted(two_nodes(), Allotment(refusal="cores auto: none is left"))
    assert isinstance(verdict, NoFit)
    assert (verdict.why, verdict.contradiction) == ("cores auto: none is left", True)


def test_what_is_left_of_caches_and_fast_cores_goes_with_the_cores() -> None:
    machine = a_machine(cores=((0, 4), (1, 5), (2,), (3,)), l3_groups=((0, 1, 2, 4), (3, 5)), fast_cpus=(0, 1, 4, 5))
    both = within(machine, bound(machine, EngineOptions(cores="0-2"))).cpu
    assert (both.l3_groups, both.fast_cpus, both.performance_cores) == (((0, 1, 2),), (0, 1), 2)
    fast = within(machine, bound(machine, EngineOptions(cores="0,5"))).cpu
    assert (fast.l3_groups, fast.fast_cpus, fast.performance_cores) == (((0,), (5,)), (), None)
