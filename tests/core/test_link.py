"""A card on too few lanes is told, and what is split in slices over it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from bercail.core.capture import machine_of
from bercail.core.catalogue import machine_named
from bercail.core.document import machine_document
from bercail.core.link import Link, too_slow_for_slices
from bercail.core.machine import Machine
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.core.report import machine_lines
from fakes.models import a_model

WIDE = Link(address="0000:01:00.0", maker="NVIDIA", lanes=16, max_lanes=16, max_gt_per_s=16.0)
RISER = replace(WIDE, address="0000:02:00.0", lanes=1, max_gt_per_s=8.0)
WIRED = replace(WIDE, address="0000:03:00.0", lanes=4, max_lanes=4, max_gt_per_s=None)


@pytest.mark.parametrize(
    ("link", "text"),
    [
        (WIDE, "NVIDIA card at 0000:01:00.0: PCIe 4.0 x16"),
        (RISER, "NVIDIA card at 0000:02:00.0: PCIe 3.0, ONLY 1 OF 16 LANES in use: see how it sits in its slot, its "
                "riser, and what shares its lanes"),
        (WIRED, "NVIDIA card at 0000:03:00.0: PCIe x4"),
        (replace(WIDE, max_lanes=None), "NVIDIA card at 0000:01:00.0: PCIe 4.0 x16"),
    ],
)  # fmt: skip
def test_a_link_is_told_with_what_is_wrong_with_it(link: Link, text: str) -> None:
    assert link.text == text


def test_slices_go_over_every_link_so_one_narrow_one_is_enough() -> None:
    assert too_slow_for_slices((WIDE,)) == too_slow_for_slices(()) == ""
    assert too_slow_for_slices((WIDE, RISER, WIRED)).endswith("narrow: 0000:02:00.0 (x1), 0000:03:00.0 (x4)")


def planned(machine: Machine, **wish: Any) -> list[str]:
    verdict = decide(machine, a_model(), EngineOptions(slots=1, **wish))
    assert isinstance(verdict, Fits), verdict.why
    return [f"{reason.value}: {reason.because}" for reason in verdict.reasons if reason.setting == "links"]


def test_a_plan_in_slices_over_a_narrow_link_says_so_and_one_in_layers_does_not() -> None:
    machine = replace(machine_named("2x rtx-3090 + 64gib"), links=(WIDE, RISER))
    (told,) = planned(machine, split="tensor")
    assert told.startswith("SLOW: every layer's results go over the links of all cards")
    assert told.endswith("0000:02:00.0 (x1); --split layer may be faster")
    assert planned(machine, split="layer") == []
    assert planned(replace(machine, links=(WIDE, WIDE)), split="tensor") == []


def test_links_are_told_with_the_machine_and_read_back_from_its_document() -> None:
    machine = replace(machine_named("2x rtx-3090 + 64gib"), links=(WIDE, RISER))
    lines = machine_lines(machine)
    assert WIDE.text in lines
    assert RISER.text in lines
    assert machine_of(json.loads(json.dumps(machine_document(machine)))).links == (WIDE, RISER)
