"""Samples are told in llama-swap's members, unknown as null."""

from dataclasses import replace
from typing import Any

import pytest

from bercail.core.errors import UsageError
from bercail.core.sample import CardSample, Sample, Traffic, moment, performance_document
from bercail.core.units import GIB, MIB

FIRST = Sample(
    at_s=1_800_000_000.0, busy=(), memory_bytes=8 * GIB, available_bytes=6 * GIB, swap_bytes=0, swap_free_bytes=0
)
SECOND = Sample(
    at_s=1_800_000_005.5, busy=(0.5, 1.0), memory_bytes=8 * GIB, available_bytes=2 * GIB, swap_bytes=2 * MIB,
    swap_free_bytes=MIB, load=(0.5, 1.0, 2.0), traffic=(Traffic(name="eth0", received_bytes=7, sent_bytes=8),),
    cards=(CardSample(number=1, name="AMD", busy=0.25, used_bytes=GIB, total_bytes=8 * GIB, celsius=50.5),
           CardSample(number=2, name="x", busy=None, used_bytes=None, total_bytes=None)),
)  # fmt: skip


def test_what_could_not_be_read_is_told_of_the_latest_sample() -> None:
    assert performance_document((replace(SECOND, unread=("a",)), SECOND), 0.0)["gpu_unread"] == []
    assert performance_document((SECOND, replace(SECOND, unread=("a",))), 0.0)["gpu_unread"] == ["a"]
    assert performance_document((), 0.0)["gpu_unread"] == []


def test_a_sample_is_told_in_percent_and_mebibytes() -> None:
    document: Any = performance_document((FIRST, SECOND), 0.0)
    first, second = document["sys_stats"]
    assert (first["cpu_util_per_core"], first["load_avg_1"], first["timestamp"]) == (
        [],
        None,
        "2027-01-15T08:00:00.000Z",
    )
    assert second == {
        "timestamp": "2027-01-15T08:00:05.500Z", "cpu_util_per_core": [50.0, 100.0], "mem_total_mb": 8192,
        "mem_used_mb": 6144, "mem_free_mb": 2048, "swap_total_mb": 2, "swap_used_mb": 1, "load_avg_1": 0.5,
        "load_avg_5": 1.0, "load_avg_15": 2.0, "net_io": [{"name": "eth0", "bytes_recv": 7, "bytes_sent": 8}],
    }  # fmt: skip
    one, other = document["gpu_stats"]
    assert (one["id"], one["gpu_util_pct"], one["mem_used_mb"], one["temp_c"], one["power_draw_w"]) == (
        1, 25.0, 1024, 50.5, None
    )  # fmt: skip
    assert (other["gpu_util_pct"], other["mem_used_mb"], other["mem_total_mb"]) == (None, None, None)


def test_those_after_a_moment_are_told_alone() -> None:
    after_s = moment("2027-01-15T09:00:02+01:00", "after")
    document: Any = performance_document((FIRST, SECOND), after_s)
    assert [row["timestamp"][-5:] for row in document["sys_stats"]] == [".500Z"]


@pytest.mark.parametrize("text", ["yesterday", "2027-01-15T08:00:00", "x" * 100])
def test_what_is_no_moment_is_refused_with_one_that_is(text: str) -> None:
    with pytest.raises(UsageError, match="is no moment") as caught:
        moment(text, "after")
    assert "2026-11-21T10:00:00Z" in caught.value.hint
