"""The machine of the last hour, as it was sampled."""

import asyncio
from contextlib import suppress

from bercail.core.sample import Sample
from bercail.web.performance import Performance
from fakes.bench import Bench


class FakeSampler:
    """A machine that is a second older each time."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self) -> Sample:
        self.taken += 1
        return Sample(
            at_s=1_800_000_000.0 + self.taken, busy=(0.5,), memory_bytes=1, available_bytes=1, swap_bytes=0,
            swap_free_bytes=0,
        )  # fmt: skip


def sampled(times: int, every_s: float = 1200.0) -> Bench:
    """A gateway whose machine was sampled so often."""
    rests: list[float] = []

    async def rest(delay_s: float) -> None:
        rests.append(delay_s)
        if len(rests) == times:
            raise asyncio.CancelledError

    performance = Performance(FakeSampler(), every_s, rest)
    with suppress(asyncio.CancelledError):
        asyncio.run(performance.watch())
    assert rests == [every_s] * times
    bench = Bench()
    bench.app.take_performance(performance)
    return bench


def seconds(bench: Bench, path: str = "/api/performance") -> list[str]:
    return [row["timestamp"][17:19] for row in bench.get(path).json["sys_stats"]]


def test_the_samples_of_the_last_hour_are_told() -> None:
    assert seconds(sampled(2)) == ["01", "02"]
    assert seconds(sampled(5)) == ["03", "04", "05"], "an hour holds three of 1200 s"


def test_those_after_a_moment_are_told_alone_and_what_is_none_is_refused() -> None:
    bench = sampled(3)
    assert seconds(bench, "/api/performance?after=2027-01-15T08:00:02Z") == ["03"]
    assert seconds(bench, "/api/performance?after=2027-01-15T09:00:02+01:00") == ["03"], "a sign that nobody escaped"
    client = bench.get("/api/performance?after=yesterday")
    assert (client.status, client.error["code"], client.error["param"]) == (400, "bad_moment", "after")


def test_without_samples_it_says_so_as_llama_swap_does() -> None:
    client = Bench().get("/api/performance")
    assert (client.status, client.json) == (503, {"enabled": False})
    assert Bench().get("/api/performance", "POST").status == 404


def test_nothing_is_sampled_where_that_is_switched_off() -> None:
    rests: list[float] = []

    async def rest(delay_s: float) -> None:
        rests.append(delay_s)

    asyncio.run(Performance(None, 1.0, rest).watch())
    assert rests == []
