"""Lines that are kept, lines that are lost, and how they are told."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core import news
from bercail.core.log import OURS, TIMES, Excerpt, Line, Rings, Telling, excerpt_text, format_time
from bercail.core.news_report import level_of, log_lines

SAID = st.lists(st.tuples(st.sampled_from([OURS, "a", "b"]), st.text(max_size=8)), max_size=40)


def anybody(source: str) -> bool:
    return True


@given(SAID, SAID)
def test_whoever_follows_gets_every_line_or_hears_how_many_are_lost(
    first: list[tuple[str, str]], then: list[tuple[str, str]]
) -> None:
    rings = Rings(kept_bytes=20)
    for source, text in first:
        rings.add(source, text)
    begun = rings.since({}, anybody)
    assert len(begun.lines) + begun.missed == len(first)
    for source, text in then:
        rings.add(source, text)
    more = rings.since(begun.place, anybody)
    assert len(more.lines) + more.missed == len(then)
    kept = [(line.source, line.text) for line in more.lines]
    for source in (OURS, "a", "b"):
        mine = [one for one in kept if one[0] == source]
        assert mine == [one for one in then if one[0] == source][len([o for o in then if o[0] == source]) - len(mine) :]
        assert sum(len(text) for _, text in mine) <= 20
    assert [line.number for line in more.lines] == sorted(line.number for line in more.lines)
    assert rings.since(more.place, anybody).lines == ()
    assert more.last == rings.last == len(first) + len(then)


def test_a_noisy_engine_drives_no_other_lines_out() -> None:
    rings = Rings(kept_bytes=10)
    rings.add(OURS, "ours")
    for _ in range(100):
        rings.add("a", "noise")
    assert [line.text for line in rings.since({}, OURS.__eq__).lines] == ["ours"]
    assert rings.since({}, "a".__eq__).missed == 98


def test_lines_name_their_source_unless_there_is_one_alone() -> None:
    lines = (Line(number=1, source=OURS, text="x"), Line(number=2, source="m", text="y"))
    assert excerpt_text(Excerpt(lines=lines, missed=2), bare=False) == "... 2 lines left out\nx\nm | y\n"
    assert excerpt_text(Excerpt(lines=lines[1:], missed=1), bare=True) == "... 1 line left out\ny\n"
    assert excerpt_text(Excerpt(), bare=True) == ""


NOON = datetime(2026, 1, 5, 12, 4, 9, 123456, tzinfo=timezone(timedelta(hours=1), "CET"))


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("", ""),
        ("ansic", "Mon Jan  5 12:04:09 2026"),
        ("unixdate", "Mon Jan  5 12:04:09 CET 2026"),
        ("rubydate", "Mon Jan 05 12:04:09 +0100 2026"),
        ("rfc822", "05 Jan 26 12:04 CET"),
        ("rfc822z", "05 Jan 26 12:04 +0100"),
        ("rfc850", "Monday, 05-Jan-26 12:04:09 CET"),
        ("rfc1123", "Mon, 05 Jan 2026 12:04:09 CET"),
        ("rfc1123z", "Mon, 05 Jan 2026 12:04:09 +0100"),
        ("rfc3339", "2026-01-05T12:04:09+01:00"),
        ("rfc3339nano", "2026-01-05T12:04:09.123456+01:00"),
        ("kitchen", "12:04PM"),
        ("stamp", "Jan  5 12:04:09"),
        ("stampmilli", "Jan  5 12:04:09.123"),
        ("stampmicro", "Jan  5 12:04:09.123456"),
        ("stampnano", "Jan  5 12:04:09.123456000"),
    ],
)
def test_the_time_is_told_in_the_ways_of_go(way: str, text: str) -> None:
    assert format_time(way, NOON) == text


def test_every_way_is_known_and_utc_is_z() -> None:
    assert all(format_time(way, NOON) for way in TIMES)
    assert format_time("rfc3339", NOON.astimezone(UTC)).endswith("Z")
    assert format_time("kitchen", NOON.replace(hour=0)) == "12:04AM"
    assert format_time("kitchen", NOON.replace(hour=13)) == "1:04PM"


@pytest.mark.parametrize(
    ("output", "ours", "echoes"),
    [("proxy", True, False), ("upstream", False, True), ("both", True, True), ("none", False, False)],
)
def test_what_is_told_on_the_terminal(output: str, ours: bool, echoes: bool) -> None:
    telling = Telling(output=output)
    assert (telling.passes("info"), telling.echoes) == (ours, echoes)
    assert telling.keeps("info")


def test_less_than_the_level_is_neither_told_nor_kept() -> None:
    telling = Telling(level="warn")
    assert [telling.passes(level) for level in ("debug", "info", "warn", "error")] == [False, False, True, True]
    assert not telling.keeps("info")


def test_steps_have_levels() -> None:
    assert level_of(news.LoadFailed(model_id="m", error="x")) == "error"
    assert level_of(news.Warned(text="x")) == "warn"
    assert level_of(news.Unloaded(model_id="m")) == "info"
    assert log_lines(news.Unloaded(model_id="m")) == ("unloaded m",)
