"""Engines on CPUs and memory of their own."""

from dataclasses import replace

import pytest

from bercail.core.bind import bound, within
from bercail.core.elsewhere import llama_server
from bercail.core.lessons import NO_LESSONS, Pace
from bercail.core.machine import Machine, NumaNode
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, NoFit, decide
from bercail.core.units import GIB
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
        ({"cores": "a-b"}, "is no list of CPUs"),
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
