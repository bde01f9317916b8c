"""The machine at one moment, from a folder that stands for it."""

from pathlib import Path

import pytest

from bercail.core.sample import CardSample, Traffic
from bercail.core.units import GIB, MIB
from bercail.probes import SystemSampler
from bercail.probes.nvidia import Told
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
    card, other = SystemSampler(tmp_path).take().cards
    assert other == CardSample(number=0, name="Intel", busy=None, used_bytes=None, total_bytes=None)
    assert isinstance(card, CardSample)
    assert (card.number, card.name) == (1, "AMD")
    assert card.total_bytes is not None
    assert 7 * GIB < card.total_bytes <= 8 * GIB
    assert card.used_bytes is not None
    assert card.busy is not None
    assert 0 <= card.busy <= 1


@pytest.mark.parametrize(
    ("recorded", "energy", "celsius"),
    [
        ("b580/card1", "energy1_input", 54.0),
        ("a380-xe/card0", "energy2_input", 56.0),
        ("a380-i915/card1", "energy1_input", 55.0),
    ],
)
def test_cards_of_intel_tell_their_temperature_and_the_power_since_the_sample_before(
    shared: Path, tmp_path: Path, recorded: str, energy: str, celsius: float
) -> None:
    device = shared / "fixtures/machines/lact/intel" / recorded / "device"
    (watcher,) = (device / "hwmon").iterdir()
    sensors = tmp_path / "sys/class/drm/card1/device/hwmon/hwmon0"
    sensors.mkdir(parents=True)
    (sensors.parents[1] / "vendor").write_text("0x8086\n")
    for name in ("temp1_input", "temp2_input", "energy1_input", "energy2_input"):
        if (watcher / name).exists():
            (sensors / name).write_text((watcher / name).read_text().replace("\0", ""))
    moments = iter((10.0, 14.0, 15.0))
    sampler = SystemSampler(tmp_path, wall=lambda: next(moments))
    sample = sampler.take()
    (card,) = sample.cards
    assert (card.name, card.celsius, card.power_w, card.total_bytes) == ("Intel", celsius, None, None)
    assert sample.unread == ("Intel's drivers tell neither load nor memory of a card in /sys",)
    now = int((sensors / energy).read_text())
    (sensors / energy).write_text(str(now + 80_000_000))
    assert sampler.take().cards[0].power_w == 20.0
    assert sampler.take().cards[0].power_w is None, "a counter that stands still tells no power"


def test_the_energy_of_the_chip_counts_where_that_of_the_card_stands_at_nothing(tmp_path: Path) -> None:
    place = tmp_path / "sys/class/drm/card0/device"
    write(place, vendor="0x8086")
    write(place / "hwmon/hwmon3", energy1_input="0", energy2_input="1000000")
    moments = iter((1.0, 2.0))
    sampler = SystemSampler(tmp_path, wall=lambda: next(moments))
    sampler.take()
    write(place / "hwmon/hwmon3", energy2_input="3000000")
    assert sampler.take().cards[0].power_w == 2.0


def test_cards_of_nvidia_follow_the_others_by_number_and_their_silence_is_told_where_there_are_any(
    tmp_path: Path,
) -> None:
    write(tmp_path / "sys/class/drm/card0/device", vendor="0x8086")
    card = CardSample(number=0, name="H", busy=1.0, used_bytes=1, total_bytes=2)
    silent = "nvidia-smi does not answer within 4 s"
    told = iter((Told(cards=(card,)), Told(unread=silent), Told(unread=silent)))
    sampler = SystemSampler(tmp_path, nvidia=lambda: next(told))
    assert [(one.number, one.name) for one in sampler.take().cards] == [(0, "Intel"), (1, "H")]
    assert silent not in sampler.take().unread, "there is no such card"
    write(tmp_path / "sys/class/drm/card1/device", vendor="0x10de\n")
    assert silent in sampler.take().unread


def test_what_a_system_does_not_tell_is_left_out(tmp_path: Path) -> None:
    sample = SystemSampler(tmp_path).take()
    assert (sample.busy, sample.load, sample.traffic, sample.cards) == ((), (), (), ())
    assert parse_loadavg("a b c") == parse_loadavg("1 2") == ()
    assert parse_net_dev("") == {}
