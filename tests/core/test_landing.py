"""A load beside its plan: what it teaches, and what must not pass in silence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.catalogue import machine_named
from bercail.core.landing import Outcome, compare, taught
from bercail.core.launch import Landed
from bercail.core.lessons import NO_LESSONS, Lesson, Lessons, lessons_document, lessons_of
from bercail.core.machine import Machine
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.core.report import plan_sections
from bercail.core.units import MIB
from fakes.models import a_machine, a_model, a_shape, a_tensor


def planned(machine: Machine | None = None, lessons: Lessons = NO_LESSONS, **wish: object) -> Fits:
    model = a_model(shape=a_shape(layers=8), tensors=tuple(a_tensor(f"blk.{n}.ffn_up.weight", 4096) for n in range(8)))
    verdict = decide(machine or a_machine(), model, EngineOptions(**wish), lessons=lessons)  # type: ignore[arg-type]
    assert isinstance(verdict, Fits), verdict.why
    return verdict


def as_planned(plan: Fits, device: int = 0, place: str = "CPU") -> list[Landed]:
    told = ("weights", "KV cache", "recurrent state", "compute", "output")
    return [Landed(place=place, part=p.name, bytes=p.bytes) for p in plan.devices[device].parts if p.name in told]


def outcome(plan: Fits, landed: list[Landed]) -> Outcome:
    found = compare(plan, landed)
    assert found is not None
    return found


def changed(landed: list[Landed], place: str, part: str, by: int) -> list[Landed]:
    return [
        replace(item, bytes=item.bytes + by) if (item.place, item.part) == (place, part) else item for item in landed
    ]


def test_a_load_as_planned_surprises_nobody() -> None:
    plan = planned()
    found = outcome(plan, as_planned(plan))
    assert found.surprises == ()
    assert found.off == 0
    assert taught(plan, found, NO_LESSONS, "llama") == Lessons(
        loads=1, rows=(Lesson(kind="cpu", architecture="llama", ratio=1.0),)
    )


def test_an_engine_that_tells_nothing_teaches_nothing() -> None:
    assert compare(planned(), ()) is None


def test_working_memory_beyond_the_plan_is_planned_for_the_next_time() -> None:
    plan = planned()
    compute = next(part.bytes for part in plan.devices[0].parts if part.name == "compute")
    found = outcome(plan, changed(as_planned(plan), "CPU", "compute", compute // 2))
    assert found.surprises == ()  # the margin holds it
    lessons = taught(plan, found, NO_LESSONS, "llama")
    again = planned(lessons=lessons)
    learned = next(part.bytes for part in again.devices[0].parts if part.name == "learned")
    assert abs(learned - compute // 2) <= 1
    second = outcome(again, changed(as_planned(again), "CPU", "compute", compute // 2))
    assert second.off == 0
    assert taught(again, second, lessons, "llama").rows == lessons.rows  # the formula is judged, not the lesson
    other = taught(again, second, lessons, "gemma3").rows
    assert {row.architecture for row in other} == {"llama", "gemma3"}


def test_less_than_planned_makes_no_plan_smaller() -> None:
    lessons = Lessons(loads=3, worst=0.2, rows=(Lesson(kind="cpu", architecture="llama", ratio=0.5),))
    assert planned(lessons=lessons).devices == planned().devices


def test_the_bound_says_what_it_is_known_from() -> None:
    def bound(lessons: Lessons) -> tuple[str, ...]:
        return plan_sections(planned(lessons=lessons))[0].rows[-1]

    assert bound(NO_LESSONS)[1:] == ("error bound", "0.4%", "by the engine's accounts; nothing was loaded here yet")
    assert bound(Lessons(loads=1, worst=0.021))[2:] == ("2.1%", "by 1 load here")
    assert bound(Lessons(loads=2, worst=0.0))[2:] == ("0.0%", "by 2 loads here")


def test_more_than_planned_and_its_margin_is_told() -> None:
    plan = planned()
    found = outcome(plan, changed(as_planned(plan), "CPU", "KV cache", 512 * MIB))
    assert len(found.surprises) == 1
    assert found.surprises[0].startswith("cpu took ")
    assert "were planned" in found.surprises[0]
    assert found.off > 1


@pytest.mark.parametrize("place", ["CPU_REPACK", "AMX"])
def test_mapped_weights_count_as_in_the_file_and_rearranged_ones_beyond_them(place: str) -> None:
    plan = replace(planned(), copied_bytes=4 * MIB)
    rest = [item for item in as_planned(plan) if item.part != "weights"]
    mapping = Landed(place="CPU_Mapped", part="weights", bytes=1)  # the width of a mapping says little
    copies = Landed(place=place, part="weights", bytes=4 * MIB)
    assert outcome(plan, [*rest, mapping, copies]).off == 0
    more = outcome(plan, [*rest, mapping, replace(copies, bytes=6 * MIB)])
    row = next(row for row in more.rows if row.part == "weights")
    assert row.took - row.planned == 2 * MIB


@pytest.mark.parametrize("place", ["CPU_REPACK", "AMX"])
def test_weights_that_are_read_count_as_they_are_told(place: str) -> None:
    plan = planned(mmap=False)
    weights = next(item for item in as_planned(plan) if item.part == "weights")
    rest = [item for item in as_planned(plan) if item.part != "weights"]
    parts = [replace(weights, bytes=weights.bytes - MIB), Landed(place=place, part="weights", bytes=MIB)]
    assert outcome(plan, [*rest, *parts]).off == 0


@pytest.fixture
def on_two_cards() -> Fits:
    plan = planned(machine_named("2x rtx-3060-12gb"), split="layer")
    assert [device.name for device in plan.devices] == ["cpu", "cuda0", "cuda1"]
    return plan


def everywhere(plan: Fits) -> list[Landed]:
    hosts = as_planned(plan, place="CUDA_Host")
    return [*hosts, *as_planned(plan, 1, "CUDA0"), *as_planned(plan, 2, "CUDA1")]


def test_a_load_on_cards_as_planned(on_two_cards: Fits) -> None:
    found = outcome(on_two_cards, everywhere(on_two_cards))
    assert found.surprises == ()
    kinds = {row.kind for row in taught(on_two_cards, found, NO_LESSONS, "llama").rows}
    assert kinds == {"cpu", "cuda"}


def test_apples_gpus_go_by_another_name_in_engines() -> None:
    plan = planned(machine_named("m4-max-64gb"))
    assert [device.name for device in plan.devices] == ["cpu", "metal0"]
    assert outcome(plan, [*as_planned(plan), *as_planned(plan, 1, "MTL0")]).surprises == ()


def test_a_file_that_is_mapped_for_a_gpu_takes_what_was_planned() -> None:
    plan = planned(machine_named("m4-max-64gb"))
    landed = [item for item in as_planned(plan, 1, "MTL0_Private") if item.part != "weights"]
    mapping = Landed(place="MTL0_Mapped", part="weights", bytes=9 * MIB)
    assert outcome(plan, [*as_planned(plan), *landed, mapping]).surprises == ()
    beside = Landed(place="MTL1_Mapped", part="weights", bytes=9 * MIB)
    assert outcome(plan, [*as_planned(plan), *landed, mapping, beside]).surprises == (
        "9.00 MiB of weights landed on metal1, where nothing was planned",
    )


def test_of_slices_only_the_largest_is_told() -> None:
    plan = planned(machine_named("2x rtx-3060-12gb"), split="tensor")
    together = "Meta(CUDA0,CUDA1)"
    sizes = {item.part: item.bytes for item in as_planned(plan, 1, together)}
    for item in as_planned(plan, 2, together):
        sizes[item.part] = max(item.bytes, sizes.get(item.part, 0))
    landed = [Landed(place=together, part=part, bytes=size) for part, size in sizes.items()]
    hosts = as_planned(plan, place="CUDA_Host")
    assert outcome(plan, [*hosts, *landed]).surprises == ()
    less = [replace(item, bytes=item.bytes // 4) for item in landed]
    assert any("of weights did not land on cuda0" in words for words in outcome(plan, [*hosts, *less]).surprises)


def test_what_spills_into_main_memory_is_told(on_two_cards: Fits) -> None:
    moved = 4 * MIB
    landed = changed(everywhere(on_two_cards), "CUDA1", "weights", -moved)
    landed.append(Landed(place="CPU", part="weights", bytes=moved))
    assert outcome(on_two_cards, landed).surprises == ("4.00 MiB of weights did not land on cuda1 as planned",)


def test_what_lands_on_a_card_that_was_left_out_is_told() -> None:
    plan = planned(machine_named("2x rtx-3060-12gb"), split="none")
    landed = [*as_planned(plan, place="CPU"), *as_planned(plan, 1, "CUDA0")]
    landed += [Landed(place="CUDA1", part="KV cache", bytes=MIB), Landed(place="CUDA1", part="compute", bytes=MIB)]
    assert outcome(plan, landed).surprises == ("1.00 MiB of KV cache landed on cuda1, where nothing was planned",)


@given(
    st.builds(
        Lessons,
        loads=st.integers(0, 9),
        worst=st.floats(0, 1),
        rows=st.lists(
            st.builds(Lesson, kind=st.sampled_from(["cpu", "cuda"]), architecture=st.text(), ratio=st.floats(0, 9))
        ).map(tuple),
    )
)
def test_lessons_come_back_as_they_were_kept(lessons: Lessons) -> None:
    assert lessons_of(lessons_document(lessons)) == lessons


@pytest.mark.parametrize(
    "document",
    [
        None, {}, {"loads": "1", "worst": 0, "rows": []}, {"loads": 1, "worst": None, "rows": []},
        {"loads": 1, "worst": 0, "rows": "no"},
    ],
)  # fmt: skip
def test_what_is_no_lesson_teaches_nothing(document: dict[str, object] | None) -> None:
    assert lessons_of(document) == NO_LESSONS


PACE = {
    "type": "q8_0", "weights_s": 1e-9, "mix_s": 1e-9, "linear_s": 1e-9, "attention_s": 1e-9, "spread": 0.2, "runs": 4,
}  # fmt: skip


def test_a_pace_comes_back_and_what_is_none_is_left_out() -> None:
    document = {"loads": 1, "worst": 0.0, "rows": [], "paces": [PACE]}
    lessons = lessons_of(document)
    assert lessons_of(lessons_document(lessons)) == lessons
    assert lessons.pace("q8_0", repack=True) is not None
    assert lessons.pace("q4_0", repack=True) is None
    together = lessons_of({**document, "paces": [PACE | {"joint_s": 1e-9}]})
    assert lessons_of(lessons_document(together)) == together != lessons
    assert together.with_pace(lessons.paces[0]) == together
    assert lessons.with_pace(together.paces[0]) == together
    broken: list[object] = ["x", {}, PACE | {"runs": "4"}, PACE | {"spread": None}, PACE | {"mix_s": -1.0}]
    assert lessons_of({**document, "paces": broken}).paces == ()
    assert lessons_of({**document, "paces": "x"}).paces == ()


def test_only_lessons_of_the_kind_and_architecture_count() -> None:
    rows = tuple(Lesson(kind=kind, architecture=name, ratio=2.0) for kind, name in (("cuda", "llama"), ("cpu", "x")))
    lessons = Lessons(loads=1, rows=rows)
    assert lessons.more("cpu", "llama", 100) == 0
    assert lessons.more("cpu", "x", 100) == 100


@pytest.mark.parametrize("row", ["x", {}, {"kind": "cpu", "architecture": "llama"}, {"kind": 1}])
def test_a_row_that_is_none_is_left_out(row: object) -> None:
    assert lessons_of({"loads": 2, "worst": 0.5, "rows": [row]}) == Lessons(loads=2, worst=0.5)
