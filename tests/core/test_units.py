import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bercail.core.errors import UsageError
from bercail.core.units import (
    GIB,
    KIB,
    MIB,
    format_bandwidth,
    format_bytes,
    format_count,
    format_rate,
    format_seconds,
    format_tokens,
    parse_bytes,
    parse_seconds,
    parse_tokens,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512", 512), ("0", 0), ("512b", 512), ("64k", 64 * KIB), ("64 KiB", 64 * KIB), ("64kB", 64_000),
        ("1.5 GiB", 1536 * MIB), ("1.5g", 1536 * MIB), ("2GB", 2_000_000_000), ("1TB", 10**12), ("1t", 1024 * GIB),
        (" 3 MiB ", 3 * MIB), ("1_000", 1000), ("1,024 k", MIB), ("0.5k", 512),
    ],
)  # fmt: skip
def test_sizes_are_read_as_llama_cpp_and_docker_read_them(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "1e9", "1 G B", "12 parsecs", "0x10", "1,00", "1__000", "inf", "nan", "1.", ".5", "9" * 400]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bytes(text)
    assert repr(text) in caught.value.message
    assert "512 MiB" in caught.value.hint


@given(st.integers(0, 10**18))
@example(2**53 + 1)
def test_a_plain_number_of_bytes_or_tokens_loses_nothing(count: int) -> None:
    assert parse_bytes(str(count)) == count
    assert parse_tokens(f"{count:,}") == count


@given(st.integers(0, 2**60))
def test_formatted_sizes_read_back_within_what_was_rounded(count: int) -> None:
    # Three digits are shown, and the last byte is cut when they are read.
    assert abs(parse_bytes(format_bytes(count)) - count) <= count * 0.0051 + 1


@pytest.mark.parametrize(("text", "count"), [("4096", 4096), ("32k", 32768), ("1M", 1048576), ("1.5k", 1536)])
def test_k_of_tokens_is_1024_as_context_lengths_are_named(text: str, count: int) -> None:
    assert parse_tokens(text) == count


@pytest.mark.parametrize("text", ["32kb", "many", "-4k"])
def test_what_is_no_number_of_tokens_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="tokens"):
        parse_tokens(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30.0), ("250ms", 0.25), ("5m", 300.0), ("2 min", 120.0), ("1h", 3600.0), ("0.5s", 0.5)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["soon", "5d", "-1s", "1:30"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="duration"):
        parse_seconds(text)


@given(st.integers(0, 10**9))
def test_whole_seconds_read_back(seconds: int) -> None:
    assert parse_seconds(str(seconds)) == seconds
    assert parse_seconds(f"{seconds}ms") == seconds / 1000


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (512, "512 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (34 * MIB, "34.0 MiB"),
        (1300 * MIB, "1.27 GiB"), (10 * GIB, "10.0 GiB"), (3 * 1024 * GIB, "3.00 TiB"), (-2 * MIB, "-2.00 MiB"),
    ],
)  # fmt: skip
def test_sizes_take_the_largest_unit_that_leaves_one(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"), (512, "512"), (999, "999"), (1000, "1 K"), (260_000, "260 K"), (999_999, "1 M"),
        (8_030_261_312, "8.03 B"), (999_700_000, "1 B"), (671_026_419_200, "671 B"), (1_500_000_000_000, "1.5 T"),
    ],
)  # fmt: skip
def test_counts_read_as_people_name_model_sizes(count: int, text: str) -> None:
    assert format_count(count) == text


@given(st.integers(0, 9 * 10**14))
def test_counts_never_show_an_exponent(count: int) -> None:
    assert "e" not in format_count(count)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.74, "740 ms"), (0, "0 ms"), (1, "1.0 s"), (2.34, "2.3 s"), (119.9, "119.9 s"), (250, "4 min 10 s")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_other_quantities_carry_their_units() -> None:
    assert format_tokens(131072) == "131,072"
    assert format_rate(43.14) == "43.1 tokens/s"
    assert format_rate(1234.5) == "1,234 tokens/s"
    assert format_bandwidth(36.24e9) == "36.2 GB/s"
