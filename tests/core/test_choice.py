"""Which engine runs a model: as asked, as measured, or by rule."""

from dataclasses import replace

import pytest

from bercail.core.build import Target, recipe_for
from bercail.core.choice import choose, compared, newer_instructions
from bercail.core.engine import EMBEDDED, Make, Offer
from bercail.core.machine import Machine
from fakes.models import a_machine


def a_new_machine() -> Machine:
    return a_machine(instruction_sets=("amx_int8", "avx2", "avx512_vnni", "fma"))


def an_offer(make: Make, identity: str = "", **changes: str) -> Offer:
    processor = recipe_for(a_new_machine(), Target.CPU, portable=False).processor if make is Make.NATIVE else ""
    offer = Offer(name="llama.cpp", id=identity or f"b1-cpu-{make}-1", make=make, processor=processor)
    return replace(offer, **changes)  # type: ignore[arg-type]


NATIVE, PORTABLE = an_offer(Make.NATIVE), an_offer(Make.PORTABLE)
FOUND = an_offer(Make.FOUND, "/usr/bin/llama-server")
ALL = (EMBEDDED, PORTABLE, NATIVE, FOUND)


def test_a_build_for_this_processor_is_taken_where_it_can_do_more() -> None:
    choice = choose(ALL, a_new_machine())
    assert choice is not None
    assert choice.offer is NATIVE
    assert choice.because == "built for this processor: uses amx_int8, avx512_vnni"
    portable = choose((EMBEDDED, PORTABLE), a_new_machine(), "auto")
    assert portable is not None
    assert portable.offer is PORTABLE


def test_without_anything_newer_the_one_in_the_box_does() -> None:
    choice = choose(ALL, a_machine())
    assert choice is not None
    assert (choice.offer, newer_instructions(a_machine())) == (EMBEDDED, ())
    assert "nothing that it does not use" in choice.because
    strange = replace(a_machine(), cpu=replace(a_machine().cpu, architecture="riscv64"))
    assert newer_instructions(strange) == ()


def test_what_is_left_unused_is_told() -> None:
    choice = choose((EMBEDDED, FOUND), a_new_machine())
    assert choice is not None
    assert choice.offer is EMBEDDED
    assert "leaves amx_int8, avx512_vnni unused: see `bercail engine build`" in choice.because


@pytest.mark.parametrize("changes", [{"processor": "another"}, {"target": "cuda"}])
def test_a_build_for_something_else_is_not_chosen(changes: dict[str, str]) -> None:
    choice = choose((EMBEDDED, replace(NATIVE, **changes)), a_new_machine())  # type: ignore[arg-type]
    assert choice is not None
    assert choice.offer is EMBEDDED


@pytest.mark.parametrize(
    ("asked", "offer"),
    [("embedded", EMBEDDED), ("native", NATIVE), ("portable", PORTABLE), (NATIVE.id, NATIVE), ("cpu-port", PORTABLE),
     ("/usr/bin/llama-server", FOUND), ("found", FOUND)],
)  # fmt: skip
def test_what_is_asked_for_is_taken(asked: str, offer: Offer) -> None:
    choice = choose(ALL, a_machine(), asked)
    assert choice is not None
    assert (choice.offer, choice.because) == (offer, "as asked")


@pytest.mark.parametrize("asked", ["cuda", "cpu", "b1"])
def test_what_is_not_there_or_not_one_is_none(asked: str) -> None:
    assert choose(ALL, a_machine(), asked) is None


def test_a_library_is_compared_but_taken_by_name_only() -> None:
    library = an_offer(Make.LIBRARY, "openvino")
    fastest = choose((EMBEDDED, library), a_machine(), None, {"embedded": 2.0, "openvino": 1.0})
    assert fastest is not None
    assert fastest.offer is EMBEDDED
    named = choose((EMBEDDED, library), a_machine(), "openvino")
    assert named is not None
    assert named.offer is library
    assert compared((EMBEDDED, library, FOUND), a_machine()) == (EMBEDDED, library)


def test_what_was_measured_decides() -> None:
    choice = choose(ALL, a_new_machine(), None, {"embedded": 2.0, NATIVE.id: 3.0})
    assert choice is not None
    assert choice.offer is EMBEDDED
    assert choice.because == "measured: 2.0 s for a usual request, 3.0 s with another"
    alone = choose(ALL, a_new_machine(), None, {"embedded": 2.0})
    assert alone is not None
    assert alone.offer is NATIVE
