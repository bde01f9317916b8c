"""NVIDIA's cards as its own program tells of them, and what is said where it does not."""

import csv
from pathlib import Path

import pytest

from bercail.core.sample import CardSample
from bercail.core.units import MIB
from bercail.probes.nvidia import AGAIN_S, FIELDS, NvidiaSmi, find_smi, parse_smi


def recorded(shared: Path, name: str) -> list[str]:
    """The lines that were recorded of a card at rest and at work, cut down to the columns that are asked for."""
    (path,) = (shared / "fixtures/machines/nvidia_gpu_exporter").glob(f"*{name}*.txt")
    lines = path.read_text().splitlines()
    heads = [place for place, line in enumerate(lines) if line.startswith("timestamp, driver_version")]
    made = []
    for place in heads:
        names, values = csv.reader(lines[place : place + 2], skipinitialspace=True)
        row = dict(zip((name.partition(" [")[0] for name in names), values, strict=True))
        units = {"%", "MiB", "W"}
        made.append(", ".join(" ".join(word for word in row[name].split(" ") if word not in units) for name in FIELDS))
    return made


@pytest.mark.parametrize(
    ("name", "total_mib", "busy"),
    [("h200", 143771, True), ("h100-80gb", 81559, True), ("h100-mig", 81559, False), ("l40s", 46068, True)],
)
def test_recorded_cards_are_read_at_rest_and_at_work(shared: Path, name: str, total_mib: int, busy: bool) -> None:
    rest, work = (parse_smi(line)[0] for line in recorded(shared, name)[:2])
    assert rest.name.startswith("NVIDIA ")
    assert (rest.total_bytes, rest.number) == (total_mib * MIB, 0)
    assert (work.busy is not None) is busy, "a card that is cut into slices tells no load"
    assert rest.used_bytes is not None
    assert work.used_bytes is not None
    assert rest.used_bytes < work.used_bytes < total_mib * MIB
    assert None not in (rest.celsius, rest.power_w)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0, A, 7, 1, 2, 50, 70.5", (0.07, MIB, 2 * MIB, 50.0, 70.5)),
        ("0, A, [N/A], [N/A], [N/A], [N/A], [N/A]", (None,) * 5),
        ("0, A, [Unknown Error], [Not Supported], , -, N/A", (None,) * 5),
    ],
)
def test_what_it_does_not_know_is_unknown(line: str, told: tuple[float | None, ...]) -> None:
    busy, used, total, celsius, power = told
    assert parse_smi(line) == (
        CardSample(
            number=0, name="A", busy=busy, used_bytes=None if used is None else int(used),
            total_bytes=None if total is None else int(total), celsius=celsius, power_w=power,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "No devices were found", "0, A, 1", "x, A, 1, 1, 1, 1, 1", "\0,"])
def test_what_is_no_answer_holds_no_card(text: str) -> None:
    assert parse_smi(text) == ()


def program(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "nvidia-smi"
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)
    return str(path)


def test_it_is_asked_for_every_card(tmp_path: Path) -> None:
    smi = NvidiaSmi(
        program(tmp_path, 'echo "$@" > "$0.asked"', "echo 0, A, 7, 1, 2, 50, 70", "echo 1, B, 7, 1, 2, 50, 70")
    )
    assert [card.name for card in smi.read().cards] == ["A", "B"]
    asked = (tmp_path / "nvidia-smi.asked").read_text()
    assert asked == f"--query-gpu={','.join(FIELDS)} --format=csv,noheader,nounits\n"


def test_a_failure_is_told_and_it_is_left_alone_for_a_while(tmp_path: Path) -> None:
    now_s = 0.0
    smi = NvidiaSmi(
        program(tmp_path, "echo asked >> $0.log", "echo cannot talk to the driver", "exit 9"), clock=lambda: now_s
    )
    for _ in range(2):
        assert smi.read().unread == "nvidia-smi failed with status 9: cannot talk to the driver"
    now_s = AGAIN_S
    smi.read()
    assert (tmp_path / "nvidia-smi.log").read_text() == "asked\n" * 2


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    assert "does not answer within 0.2 s" in NvidiaSmi(program(tmp_path, "exec sleep 60"), answer_s=0.2).read().unread


def test_one_that_is_not_there_or_no_program_is_told(tmp_path: Path) -> None:
    assert "nvidia-smi is not there" in NvidiaSmi(None).read().unread
    assert "cannot be started" in NvidiaSmi(str(tmp_path)).read().unread


def test_it_is_looked_for_among_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_smi() in (None, "/usr/lib/wsl/lib/nvidia-smi")
    path = program(tmp_path)
    assert find_smi() == path
