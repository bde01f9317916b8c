"""The machine at one moment, from a folder that stands for it."""

from pathlib import Path

from bercail.core.sample import CardSample, Traffic
from bercail.core.units import GIB, MIB
from bercail.probes import SystemSampler
from bercail.probes.procfs import parse_loadavg, parse_net_dev

NET = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets
    lo: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0
  eth0:123 4 0 0 0 0 0 0 456 7 0 0 0 0 0 0
  bad: 1 2
"""


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        place = root / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def test_cpus_are_told_by_what_they_did_since_the_sample_before(tmp_path: Path) -> None:
    write(
        tmp_path, proc__stat="cpu0 0 0 0 100 0 0 0 0\ncpu1 50 0 0 50 0 0 0 0\n", proc__loadavg="0.50 1.00 2.00 1/2 3\n",
        proc__meminfo="MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\nSwapTotal: 2048 kB\nSwapFree: 1024 kB\n",
    )  # fmt: skip
    write(tmp_path / "proc/net", dev=NET)
    sampler = SystemSampler(tmp_path, wall=lambda: 7.0)
    first = sampler.take()
    assert (first.at_s, first.busy, first.load) == (7.0, (), (0.5, 1.0, 2.0))
    assert (first.memory_bytes, first.available_bytes) == (8 * GIB, 6 * GIB)
    assert (first.swap_bytes, first.swap_free_bytes) == (2 * MIB, MIB)
    assert first.traffic == (Traffic(name="eth0", received_bytes=123, sent_bytes=456),)
    write(tmp_path, proc__stat="cpu0 25 0 0 175 0 0 0 0\ncpu1 50 0 0 50 0 0 0 0\ncpu2 1 1 1 1 1 1 1 1\n")
    assert sampler.take().busy == (0.25, 0.0), "a CPU that came meanwhile did nothing before"


def test_cards_of_amd_are_told_from_sysfs(shared: Path, tmp_path: Path) -> None:
    drm = tmp_path / "sys/class/drm"
    drm.mkdir(parents=True)
    (drm / "card1").symlink_to(shared / "fixtures/machines/lact/amd/vega56/card0")
    (drm / "card0").symlink_to(shared / "fixtures/machines/lact/intel/tigerlake/card0")
    (drm / "card1-DP-1").mkdir()
    (card,) = SystemSampler(tmp_path).take().cards
    assert isinstance(card, CardSample)
    assert (card.number, card.name) == (1, "AMD")
    assert card.total_bytes is not None
    assert 7 * GIB < card.total_bytes <= 8 * GIB
    assert card.used_bytes is not None
    assert card.busy is not None
    assert 0 <= card.busy <= 1


def test_what_a_system_does_not_tell_is_left_out(tmp_path: Path) -> None:
    sample = SystemSampler(tmp_path).take()
    assert (sample.busy, sample.load, sample.traffic, sample.cards) == ((), (), (), ())
    assert parse_loadavg("a b c") == parse_loadavg("1 2") == ()
    assert parse_net_dev("") == {}
