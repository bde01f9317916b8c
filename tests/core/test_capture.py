"""A machine comes back as it was written, and what is no machine is refused with its place."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.capture import _READERS, machine_of
from bercail.core.catalogue import machine_named
from bercail.core.document import machine_document
from bercail.core.errors import UsageError
from bercail.core.link import Link
from bercail.core.machine import Cpu, Gpu, Machine, MemoryPool, NumaNode
from fakes.models import machines

HERE = machine_named("2x rtx-3090 + 64gib")
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)


def written(machine: Machine = HERE) -> Any:
    return json.loads(json.dumps(machine_document(machine)))


@given(machines())
def test_a_machine_comes_back_as_it_was_written(machine: Machine) -> None:
    both = replace(machine, gpus=HERE.gpus)
    assert machine_of(written(both)) == both


def test_every_field_has_its_reader() -> None:
    known = {
        f"{kind.__name__}.{item.name}"
        for kind in (Machine, Cpu, NumaNode, MemoryPool, Gpu, Link)
        for item in fields(kind)
    }
    assert known == set(_READERS)


def test_what_a_later_version_adds_is_ignored_and_named() -> None:
    document = written()
    document["tpus"] = []
    document["gpus"][1]["fans"] = 3
    assert machine_of(document).gpus == HERE.gpus
    assert machine_of(document).notes[-1].endswith("does not know: tpus, gpus[1].fans")


def test_what_may_be_left_out_has_its_default() -> None:
    document = written()
    for key in ("gpus", "notes"):
        del document[key]
    assert machine_of(document).gpus == ()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("cpu.physical_cores", "four", "cpu.physical_cores: a whole number is wanted, not 'four'"),
        ("cpu.physical_cores", True, "a whole number is wanted"),
        ("cpu.physical_cores", 0, "cpu.physical_cores: 0 of"),
        ("cpu.performance_cores", 10**6, "cpu.performance_cores: 1000000 of"),
        ("cpu.logical_cpus", 4, "cpu.logical_cpus: a list is wanted"),
        ("cpu.logical_cpus", [], "cpu.logical_cpus: there is none"),
        ("cpu.logical_cpus", [0, "1"], "cpu.logical_cpus[1]"),
        ("cpu", 5, "at cpu: an object is wanted"),
        ("memory.total_bytes", -1, "memory.total_bytes: -1 is out of range"),
        ("memory.available_bytes", 10**15, "memory.available_bytes: 1,000,000,000,000,000 of"),
        ("gpus.0.backend", "abacus", "gpus[0].backend: 'abacus' is none of cuda"),
        ("gpus.0.shared", "yes", "gpus[0].shared: true or false is wanted, not 'yes'"),
        ("gpus.1.available_bytes", 10**12, "gpus[1].available_bytes"),
        ("schema", "bercail.plan/1", "not a bercail.machine/1 document"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(path: str, value: object, words: str) -> None:
    document = written()
    *places, last = path.split(".")
    at = document
    for place in places:
        at = at[int(place)] if place.isdigit() else at[place]
    at[last] = value
    with pytest.raises(UsageError) as refused:
        machine_of(document)
    assert words in refused.value.message


def test_a_missing_value_is_refused_with_its_place() -> None:
    document = written()
    del document["memory"]["total_bytes"]
    with pytest.raises(UsageError, match=r"memory\.total_bytes: it is missing"):
        machine_of(document)


@given(st.sampled_from(["cpu", "memory", "gpus", "system", "notes"]), json_values)
def test_any_damage_is_refused_or_harmless(key: str, value: object) -> None:
    found: Machine | UsageError
    try:
        found = machine_of({**written(), key: value})
    except UsageError as error:
        found = error
    assert isinstance(found, Machine) or found.hint


@pytest.mark.parametrize("document", [None, [], "text", {}])
def test_other_documents_are_refused(document: object) -> None:
    with pytest.raises(UsageError, match=r"not a bercail\.machine/1 document"):
        machine_of(document)
