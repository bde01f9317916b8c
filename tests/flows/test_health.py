"""Engines that were ready are looked after: the ill are started anew, servers elsewhere are away until they answer."""

import asyncio
from dataclasses import replace

import pytest

from bercail.core import news
from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Peer
from bercail.core.declared import Declared
from bercail.core.errors import BusyError
from bercail.core.launch import MOST_CRASHES
from bercail.core.model import Findings
from bercail.core.options import ServerOptions, Settings
from bercail.core.pulse import MOST_MISSED, MOST_MISSED_AT_WORK, Pulse
from bercail.core.route import Phase
from bercail.flows.health import USED_LATELY_S
from bercail.flows.lease import ResidentLease
from bercail.flows.supervise import Supervisor
from fakes.house import FakeProcess, Fakes, run, settle

EVERY_S = 10.0
SILENT = Pulse(words="no answer to GET /health within 10 s", silent=True)
REFUSING = Pulse(words="it does not answer: Connection refused")
PEER = Peer(id="far", line=1, url="http://far:1", models=("m",))
PLAIN = Declared(id="plain", line=1, source=CommandSpec(model_id="plain", argv=("server",)))


class Scene:
    """A supervisor of one model of a file, one command and a server elsewhere."""

    def __init__(self, **options: float) -> None:
        self.fakes = Fakes(settings=Settings(server=replace(ServerOptions(), **options)))  # type: ignore[arg-type]
        self.told: list[news.News] = []
        self.fakes.configuration = Configuration(models=(PLAIN,), peers=(PEER,))
        findings = Findings(models=self.fakes.add("a"), looked=())
        self.supervisor = Supervisor(self.fakes.house(), findings, self.told.append)

    async def lease(self, name: str) -> ResidentLease:
        return await self.supervisor.lease(name)

    async def load(self, name: str) -> FakeProcess:
        (await self.lease(name)).release()
        await settle()  # a server elsewhere is looked at then
        return self.process(name)

    def process(self, name: str) -> FakeProcess:
        engine = self.fakes.engine if name == "a" else self.fakes.commands.engine
        return engine.processes[-1]

    async def pass_(self, times: int) -> None:
        """Let so many looks happen."""
        for _ in range(times):
            await settle()
            await self.fakes.clock.advance(EVERY_S)

    def died(self) -> list[news.EngineDied]:
        return [item for item in self.told if isinstance(item, news.EngineDied)]


def play(story: "asyncio.Future[None] | object", **options: float) -> Scene:
    async def whole() -> Scene:
        scene = Scene(**options)
        await story(scene)  # type: ignore[operator]
        await scene.supervisor.close()
        return scene

    return run(whole)


@pytest.mark.parametrize("name", ["a", "plain"])
def test_an_idle_engine_that_does_not_answer_three_times_is_ended_and_started_again(name: str) -> None:
    async def story(scene: Scene) -> None:
        first = await scene.load(name)
        first.pulses = [SILENT] * MOST_MISSED
        await scene.pass_(MOST_MISSED)
        assert first.stopped_within_s is not None
        assert scene.supervisor.find(name).error.startswith("the engine was ended: no answer to GET /health")
        await scene.fakes.clock.advance(1)
        assert scene.process(name) is not first
        assert scene.supervisor.find(name).phase is Phase.LOADED

    (died,) = play(story).died()
    assert (died.retry_s, died.log_tail) == (1.0, ("last words",))
    assert died.error.endswith("3 times in a row")


def test_one_good_answer_forgives_what_was_missed() -> None:
    async def story(scene: Scene) -> None:
        process = await scene.load("a")
        process.pulses = [SILENT, SILENT, Pulse(), SILENT, SILENT]
        await scene.pass_(6)
        assert process.asked == 6

    assert play(story).died() == []


def test_a_command_that_is_silent_while_it_works_is_left_alone() -> None:
    async def story(scene: Scene) -> None:
        lease = await scene.lease("plain")
        scene.process("plain").pulses = [SILENT] * 20
        await scene.pass_(15)
        assert lease.failure() is None
        lease.release()

    assert play(story).died() == []


def test_an_engine_of_ours_that_hangs_at_work_is_killed_and_its_requests_hear_why() -> None:
    async def story(scene: Scene) -> None:
        lease = await scene.lease("a")
        scene.process("a").pulses = [SILENT] * MOST_MISSED_AT_WORK
        await scene.pass_(MOST_MISSED_AT_WORK - 1)
        assert lease.failure() is None
        await scene.pass_(1)
        failure = lease.failure()
        assert failure is not None
        assert "9 times in a row" in failure.message
        assert scene.process("a").stopped_within_s == 0
        lease.release()

    (died,) = play(story).died()
    assert died.retry_s == 1.0


def test_an_engine_that_falls_ill_again_and_again_is_given_up() -> None:
    async def story(scene: Scene) -> None:
        await scene.load("a")
        for _ in range(MOST_CRASHES):
            scene.process("a").pulses = [SILENT] * MOST_MISSED
            await scene.pass_(MOST_MISSED)
            await settle()
            await scene.fakes.clock.advance(60)
        assert scene.supervisor.find("a").phase is Phase.FAILED

    scene = play(story)
    assert [died.retry_s for died in scene.died()] == [1.0, 2.0, 4.0, 8.0, 16.0, None]


def test_an_engine_that_was_unloaded_is_not_asked_any_more() -> None:
    async def story(scene: Scene) -> None:
        process = await scene.load("a")
        await scene.pass_(1)
        await scene.supervisor.unload("a")
        await scene.pass_(3)
        assert process.asked == 1

    play(story)


def test_an_engine_that_is_on_its_way_out_is_not_ended_twice() -> None:
    async def story(scene: Scene) -> None:
        process = await scene.load("a")
        process.pulses = [SILENT] * MOST_MISSED
        await scene.pass_(MOST_MISSED - 1)
        scene.fakes.engine.stop_gate = asyncio.Event()
        leaving = asyncio.create_task(scene.supervisor.unload("a"))
        await settle()
        await scene.pass_(1)
        scene.fakes.engine.stop_gate.set()
        await leaving

    assert play(story).died() == []


def test_nothing_is_asked_where_the_interval_is_0() -> None:
    async def story(scene: Scene) -> None:
        process = await scene.load("a")
        await scene.pass_(5)
        assert process.asked == 0

    play(story, health_interval=0.0)


def test_a_server_elsewhere_that_does_not_answer_is_away_until_it_does() -> None:
    async def story(scene: Scene) -> None:
        process = await scene.load("far/m")
        process.pulses = [SILENT] * (MOST_MISSED + 2)
        await scene.pass_(MOST_MISSED - 1)
        (await scene.lease("far/m")).release()
        await scene.pass_(1)
        with pytest.raises(BusyError, match=r"far/m cannot be reached at .*: no answer") as caught:
            await scene.lease("m")
        assert (caught.value.status, caught.value.retry_after_s) == (503, EVERY_S)
        found = scene.supervisor.find("m")
        assert (found.phase, found.error) == (Phase.FAILED, caught.value.message)
        await scene.pass_(2)
        assert scene.supervisor.find("m").phase is Phase.FAILED
        await scene.pass_(1)
        (await scene.lease("m")).release()

    scene = play(story)
    texts = [item.text for item in scene.told if isinstance(item, news.Warned)]
    assert texts[0].endswith("requests for it get 503 until it answers")
    assert texts[1:] == ["far/m answers again"]


@pytest.mark.parametrize(
    ("pulses", "phases"),
    [
        ([REFUSING, REFUSING, Pulse()], "failed failed loaded"),
        ([Pulse(), REFUSING, REFUSING], "loaded loaded loaded"),
        ([SILENT, SILENT, REFUSING], "loaded loaded failed"),
    ],
)
def test_a_server_elsewhere_that_refuses_before_it_has_ever_answered_is_away_at_once(
    pulses: list[Pulse], phases: str
) -> None:
    async def story(scene: Scene) -> None:
        (await scene.lease("far/m")).release()
        scene.process("far/m").pulses = list(pulses)
        found = []
        for _ in pulses:
            await settle()
            found.append(scene.supervisor.find("far/m").phase.value)
            await scene.fakes.clock.advance(EVERY_S)
        assert " ".join(found) == phases

    play(story)


def test_a_server_elsewhere_that_nobody_asks_is_left_alone() -> None:
    async def story(scene: Scene) -> None:
        process = await scene.load("far/m")
        await scene.fakes.clock.advance(USED_LATELY_S)
        asked = process.asked
        await scene.pass_(5)
        assert process.asked == asked

    play(story)


def test_a_server_elsewhere_that_is_let_go_of_is_not_away_when_it_is_asked_for_again() -> None:
    async def story(scene: Scene) -> None:
        process = await scene.load("far/m")
        process.pulses = [SILENT] * MOST_MISSED
        await scene.pass_(MOST_MISSED)
        with pytest.raises(BusyError):
            await scene.lease("far/m")
        await scene.supervisor.unload("far/m")
        lease = await scene.lease("far/m")
        assert lease.model.id == "far/m"
        lease.release()

    play(story)
