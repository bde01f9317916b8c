import asyncio
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace

import pytest

from bercail.core import news
from bercail.core.engine import Make, Offer
from bercail.core.errors import (
    BercailError,
    BusyError,
    EngineError,
    NotFoundError,
    ReadError,
    RefusedError,
    StoppingError,
    StoreError,
)
from bercail.core.launch import MOST_CRASHES, Landed, TemplateVerdict
from bercail.core.loading import Wait
from bercail.core.model import Capability, Findings, Role
from bercail.core.need import Policy
from bercail.core.options import EngineOptions, ServerOptions, Settings
from bercail.core.plan import decide
from bercail.core.route import Phase
from bercail.core.units import MIB
from bercail.flows.lease import ResidentLease
from bercail.flows.prepare import prepare
from bercail.flows.resident import STOP_GRACE_S, Entry, bring_up
from bercail.flows.supervise import Supervisor
from fakes.house import Fakes, run, settle
from fakes.memory import uncollected
from fakes.models import a_found, a_machine, a_model, a_shape
from fakes.upstream import Scripted

ASKED_NOTHING = Settings(server=ServerOptions(health_interval=0))


@dataclass(slots=True, kw_only=True)
class Scene:
    """A supervisor over fakes whose engines nobody asks whether they are well, and everything it told."""

    fakes: Fakes = field(default_factory=lambda: Fakes(settings=ASKED_NOTHING))
    told: list[news.News] = field(default_factory=list)
    supervisor: Supervisor = field(init=False)

    def open(self, *names: str, cramped: bool = False, policy: Policy | None = None) -> "Scene":
        """With these models; ``cramped``: there is room for one of them only, and it has one slot."""
        found = self.fakes.add(*names)
        if cramped:
            self.fakes.prober.machine = a_machine(400 * MIB)
            self.fakes.engine.most_alive = 1
        findings = Findings(models=found, looked=("/m: looked",))
        self.supervisor = Supervisor(self.fakes.house(), findings, self.told.append, policy)
        return self

    async def wait(self, seconds: float) -> None:
        await settle()  # what was begun is begun before time passes
        await self.fakes.clock.advance(seconds)

    @property
    def started(self) -> list[str]:
        return [spec.model_id for spec in self.fakes.engine.starts]

    def ask(self, model_id: str) -> "asyncio.Task[ResidentLease]":
        return asyncio.create_task(self.supervisor.lease(model_id))

    def phase(self, model_id: str) -> Phase:
        return self.supervisor.find(model_id).phase

    def heard(self, kind: type[news.News]) -> list[news.News]:
        return [item for item in self.told if isinstance(item, kind)]


def play(
    story: Callable[[Scene], Coroutine[None, None, None]],
    *names: str,
    cramped: bool = False,
    policy: Policy | None = None,
) -> Scene:
    """Run a story with these models; the supervisor is closed at its end and must leave nothing behind."""

    async def whole() -> Scene:
        scene = Scene().open(*names, cramped=cramped, policy=policy)
        await story(scene)
        await scene.supervisor.close()
        assert not scene.fakes.engine.alive
        assert not scene.fakes.journal.running
        return scene

    return run(whole)


def give_back(task: "asyncio.Task[ResidentLease]") -> None:
    if task.exception() is None:
        task.result().release()


def fails(task: "asyncio.Task[ResidentLease]") -> BercailError:
    error = task.exception()
    assert isinstance(error, BercailError)
    return error


def test_the_first_lease_loads_and_later_ones_share_it() -> None:
    async def story(scene: Scene) -> None:
        assert scene.phase("a") is Phase.UNLOADED
        first = await scene.supervisor.lease("a")
        second = await scene.supervisor.lease("a")
        assert first.address == second.address == scene.fakes.engine.processes[0].address
        assert (first.model.phase, first.model.slots, first.model.slot_context_tokens) == (Phase.LOADED, 4, 8192)
        assert first.failure() is None
        assert len(scene.fakes.engine.starts) == 1
        assert scene.fakes.journal.running == {100}
        assert scene.fakes.journal.stops == {100: ("end", "it")}

    scene = play(story, "a")
    assert [type(item) for item in scene.told] == [
        news.ModelRead, news.Planned, news.Loading, news.Ready, news.Unloaded,
    ]  # fmt: skip
    assert scene.fakes.engine.processes[0].stopped_within_s == STOP_GRACE_S


def test_requests_that_come_while_it_loads_wait_for_the_same_start() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.gate = asyncio.Event()
        tasks = [scene.ask("a") for _ in range(3)]
        await settle()
        served = scene.supervisor.find("a")
        assert (served.phase, served.progress) == (Phase.LOADING, 0.5)
        assert not any(task.done() for task in tasks)
        scene.fakes.engine.gate.set()
        await asyncio.gather(*tasks)
        assert len(scene.fakes.engine.starts) == 1
        assert scene.supervisor.find("a").progress is None

    play(story, "a")


def test_a_lease_tells_how_long_its_model_was_loading_and_the_model_how_often() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.gate = asyncio.Event()
        first = scene.ask("a")
        await settle()
        await scene.fakes.clock.advance(3)
        second = scene.ask("a")
        await settle()
        assert (scene.supervisor.find("a").planned_bytes, scene.supervisor.find("a").held_bytes) == (None, None)
        await scene.fakes.clock.advance(2)
        scene.fakes.engine.gate.set()
        lease = await first
        lease.release()
        assert (lease.load_s, (await second).load_s) == (5.0, 2.0)
        second.result().release()
        await scene.fakes.clock.advance(9)
        third = await scene.supervisor.lease("a")
        assert third.load_s == 0.0
        assert (third.model.loads, third.model.swaps) == (1, 0)
        assert third.model.planned_bytes is not None
        assert third.model.held_bytes is not None
        assert 0 < third.model.held_bytes < third.model.planned_bytes
        assert third.model.held_gpu_bytes == 0
        third.release()
        other = scene.ask("b")
        await scene.wait(2)
        (await other).release()
        assert (scene.supervisor.find("a").loads, scene.supervisor.find("a").swaps) == (1, 1)
        await scene.supervisor.unload("b")
        assert (scene.supervisor.find("b").loads, scene.supervisor.find("b").swaps) == (1, 0)

    play(story, "a", "b", cramped=True)


def test_keys_take_turns_and_a_higher_priority_comes_first() -> None:
    async def story(scene: Scene) -> None:
        served: list[str] = []

        async def ask(name: str, key: str, priority: int) -> None:
            lease = await scene.supervisor.lease("a", key, priority)
            served.append(name)
            await scene.fakes.clock.sleep(5)
            lease.release()

        asks = [("x1", "x", 0), ("x2", "x", 0), ("x3", "x", 0), ("y1", "y", 0), ("z1", "z", 9)]
        tasks = []
        for one in asks:
            tasks.append(asyncio.create_task(ask(*one)))
            await settle()
        for _ in asks:
            await scene.wait(5)
        await asyncio.gather(*tasks)
        assert served == ["x1", "z1", "x2", "y1", "x3"]

    play(story, "a", cramped=True)


def test_models_that_fit_side_by_side_are_loaded_side_by_side() -> None:
    async def story(scene: Scene) -> None:
        first, second = await scene.supervisor.lease("a"), await scene.supervisor.lease("b")
        assert (first.model.id, second.model.id) == ("a", "b")
        assert first.address != second.address
        assert (scene.phase("a"), scene.phase("b")) == (Phase.LOADED, Phase.LOADED)
        with pytest.raises(NotFoundError, match="names no model and several are loaded"):
            scene.supervisor.find("")

    play(story, "a", "b")


def test_where_there_is_room_for_one_the_other_is_loaded_when_it_is_drained() -> None:
    async def story(scene: Scene) -> None:
        lease, other = await scene.supervisor.lease("a"), scene.ask("b")
        await settle()
        assert not other.done()
        lease.release()
        lease.release()
        await scene.wait(2)
        assert (await other).model.id == "b"
        assert scene.phase("a") is Phase.UNLOADED
        assert scene.started == ["a", "b"]

    scene = play(story, "a", "b", cramped=True)
    assert len(scene.heard(news.Unloaded)) == 2


def test_whoever_has_waited_as_long_as_allowed_gets_the_memory_that_others_would_go_on_using() -> None:
    async def story(scene: Scene) -> None:
        lease, other = await scene.supervisor.lease("a"), scene.ask("b")
        await scene.wait(61)
        late = scene.ask("a")
        await settle()
        assert not late.done()
        lease.release()
        got = await other
        assert got.model.id == "b"
        got.release()
        await scene.wait(61)
        assert (await late).model.id == "a"
        assert scene.started == ["a", "b", "a"]

    play(story, "a", "b", cramped=True)


def test_whoever_waits_may_ask_how_it_stands() -> None:
    async def story(scene: Scene) -> None:
        asks: list[Callable[[], Wait]] = []
        first = await scene.supervisor.lease("a", watch=asks.append)
        scene.fakes.engine.gate = asyncio.Event()
        second, third, other = (
            asyncio.create_task(scene.supervisor.lease(name, watch=asks.append)) for name in ("a", "a", "b")
        )
        await settle()
        assert asks[2]() == Wait(model="a", phase=Phase.LOADED, position=2)
        assert asks[3]() == Wait(model="b", phase=Phase.UNLOADED, position=1)
        first.release()
        for task in (second, third):
            (await task).release()
        await scene.wait(60)
        assert asks[3]() == Wait(model="b", phase=Phase.LOADING, position=1, progress=0.5)
        scene.fakes.engine.gate.set()
        granted = await other
        assert asks[3]() == Wait(model="b", phase=Phase.LOADED, position=1)
        granted.release()

    play(story, "a", "b", cramped=True)


def test_whoever_is_let_through_at_once_has_nothing_to_ask() -> None:
    async def story(scene: Scene) -> None:
        asks: list[Callable[[], Wait]] = []
        (await scene.supervisor.lease("a")).release()
        (await scene.supervisor.lease("a", watch=asks.append)).release()
        assert not asks

    play(story, "a")


def test_one_who_leaves_the_queue_leaves_nothing_behind() -> None:
    """A model that was about to go for it stays."""

    async def story(scene: Scene) -> None:
        lease, other = await scene.supervisor.lease("a"), scene.ask("b")
        await scene.wait(61)
        other.cancel()
        await settle()
        lease.release()
        got = await scene.supervisor.lease("a")
        assert got.model.id == "a"
        got.release()
        await settle()
        assert scene.started == ["a"]
        assert scene.phase("a") is Phase.LOADED

    play(story, "a", "b", cramped=True)


def test_one_who_leaves_while_it_loads_does_not_stop_the_load_and_holds_no_slot() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.gate = asyncio.Event()
        task = scene.ask("a")
        await settle()
        task.cancel()
        await settle()
        scene.fakes.engine.gate.set()
        await settle()
        assert scene.phase("a") is Phase.LOADED
        other = scene.ask("b")
        await scene.wait(20)
        assert (await other).model.id == "b", "a is free to go: nobody uses it"

    play(story, "a", "b", cramped=True)


def test_one_who_leaves_at_the_moment_of_the_grant_gives_it_back() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.gate = asyncio.Event()
        task = scene.ask("a")
        await settle()
        scene.fakes.engine.gate.set()
        while scene.phase("a") is not Phase.LOADED:  # noqa: ASYNC110 - turn by turn, so as to meet the moment
            await asyncio.sleep(0)
        task.cancel()  # it has been granted its lease, and has not yet heard of it
        await settle()
        assert task.cancelled()
        other = scene.ask("b")
        await scene.wait(20)
        assert (await other).model.id == "b"

    play(story, "a", "b", cramped=True)


def test_a_start_that_fails_tells_all_who_wait_the_same_and_the_next_request_tries_again() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.gate = asyncio.Event()
        scene.fakes.engine.outcomes = [EngineError("did not become ready", log_tail=("out of memory",))]
        tasks = [scene.ask("a") for _ in range(3)]
        await settle()
        scene.fakes.engine.gate.set()
        await settle()
        errors = [fails(task) for task in tasks]
        assert {str(error) for error in errors} == {"did not become ready"}
        served = scene.supervisor.find("a")
        assert (served.phase, served.error) == (Phase.FAILED, "did not become ready")
        assert (await scene.supervisor.lease("a")).model.phase is Phase.LOADED
        assert scene.supervisor.find("a").error == ""
        assert scene.fakes.clock.sleeps == []

    scene = play(story, "a")
    assert scene.heard(news.LoadFailed) == [news.LoadFailed(model_id="a", error="did not become ready")]


def test_a_defect_of_ours_is_told_to_those_who_wait() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.outcomes = [ZeroDivisionError("oops")]
        task = scene.ask("a")
        await settle()
        error = fails(task)
        assert error.code == "internal"
        assert "oops" in error.message
        assert (await scene.supervisor.lease("a")).model.phase is Phase.LOADED

    play(story, "a")


def test_a_start_that_fails_lets_those_through_who_wait_for_another_model() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.gate = asyncio.Event()
        scene.fakes.engine.outcomes = [EngineError("broken")]
        first, other = scene.ask("a"), scene.ask("b")
        await settle()
        scene.fakes.engine.gate.set()
        assert (await other).model.id == "b"
        assert fails(first).message == "broken"

    play(story, "a", "b")


@pytest.mark.parametrize("error", [ReadError("cut", path="/m/a.gguf"), RefusedError("too large", hint="take less")])
def test_what_cannot_be_loaded_is_refused_with_its_own_words(error: BercailError) -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.reader.refusals["/m/a.gguf"] = error
        with pytest.raises(type(error)) as caught:
            await scene.supervisor.lease("a")
        assert caught.value is error
        assert scene.fakes.engine.starts == []
        assert scene.supervisor.find("a").error == str(error)

    play(story, "a")


def test_a_crash_is_told_truthfully_and_healed_after_a_pause() -> None:
    async def story(scene: Scene) -> None:
        lease = await scene.supervisor.lease("a")
        scene.fakes.engine.processes[0].die()
        await settle()
        failure = lease.failure()
        assert failure is not None
        assert (failure.message, failure.code) == ("the engine died (killed by signal 9)", "engine_died")
        assert failure.log_tail == ("last words",)
        lease.release()  # of an engine that is gone: no effect on the next one
        assert scene.phase("a") is Phase.FAILED
        waiting = scene.ask("a")
        await settle()
        assert not waiting.done()
        await scene.wait(1)
        assert (await waiting).failure() is None
        assert scene.phase("a") is Phase.LOADED
        assert scene.fakes.journal.running == {101}

    scene = play(story, "a")
    assert scene.heard(news.EngineDied) == [
        news.EngineDied(
            model_id="a", error="the engine died (killed by signal 9)", log_tail=("last words",), retry_s=1.0
        )
    ]


def test_a_lease_on_a_dead_engine_counts_nothing_when_it_is_given_back() -> None:
    async def story(scene: Scene) -> None:
        old = await scene.supervisor.lease("a")
        scene.fakes.engine.processes[0].die()
        await settle()
        await scene.wait(1)
        new, other = await scene.supervisor.lease("a"), scene.ask("b")
        await settle()
        old.release()
        await scene.wait(20)
        assert not other.done(), "the new engine still serves a request"
        new.release()
        await scene.wait(20)
        assert (await other).model.id == "b"

    play(story, "a", "b", cramped=True)


def test_a_crash_gives_its_memory_to_who_waits_for_another_model_and_those_who_wait_for_it_wait_on() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        other, same = scene.ask("b"), scene.ask("a")
        await settle()
        scene.fakes.engine.processes[0].die()
        got = await other
        assert got.model.id == "b"
        got.release()
        await scene.wait(61)
        assert (await same).model.id == "a"
        assert scene.started == ["a", "b", "a"]

    play(story, "a", "b", cramped=True)


def test_pauses_double_until_it_is_given_up_and_the_next_request_tries_afresh() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        for _ in range(MOST_CRASHES - 1):
            scene.fakes.engine.processes[-1].die()
            await settle()
            await scene.fakes.clock.advance(scene.fakes.clock.sleeps[-1])
        scene.fakes.engine.processes[-1].die()
        await settle()
        assert scene.fakes.clock.sleeps == [1, 2, 4, 8, 16]
        assert scene.phase("a") is Phase.FAILED
        assert len(scene.fakes.engine.starts) == MOST_CRASHES
        assert (await scene.supervisor.lease("a")).model.phase is Phase.LOADED
        scene.fakes.engine.processes[-1].die()
        await settle()
        assert scene.fakes.clock.sleeps[-1] == 1, "earlier crashes are forgotten"

    scene = play(story, "a")
    assert [item.retry_s for item in scene.told if isinstance(item, news.EngineDied)] == [1, 2, 4, 8, 16, None, 1]


def test_who_is_sent_away_while_an_engine_pauses_hears_why_and_when_to_come_again() -> None:
    """Neither the limit on waiting nor that of the line is passed off as the crash before it."""

    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        for pause_s in (1, 2):
            scene.fakes.engine.processes[-1].die()
            await scene.wait(pause_s)
        scene.fakes.engine.processes[-1].die()
        await settle()
        waits, beyond = scene.ask("a"), scene.ask("a")
        await settle()
        full = fails(beyond)
        assert isinstance(full, BusyError)
        assert full.status == 429
        assert full.message.startswith("1 requests of this key wait already, as many as may")
        await scene.wait(3)
        late = fails(waits)
        assert isinstance(late, BusyError)
        assert late.message.startswith("waited 3 s for a, the most that is allowed")
        assert late.message.endswith("; before that, the engine died (killed by signal 9)")
        assert late.retry_after_s is not None
        assert late.retry_after_s >= 2, "what is left of the pause, and a load"

    play(story, "a", policy=Policy(queue_per_key=1, wait_limit_s=3))


def test_a_refusal_does_not_hold_on_to_the_request_it_was_told_to() -> None:
    """Else every request that is sent away in a storm would stay until the collector of cycles comes by."""

    async def story(scene: Scene) -> None:
        lease, waits = await scene.supervisor.lease("a"), scene.ask("b")
        await settle()
        told = None
        try:
            await scene.supervisor.lease("b")
        except BusyError as error:
            told = weakref.ref(error)
        assert told is not None
        assert told() is None
        lease.release()
        await scene.wait(2)
        (await waits).release()

    with uncollected():
        play(story, "a", "b", cramped=True, policy=Policy(queue_per_key=1))


def test_an_engine_that_ran_steadily_starts_over_with_a_short_pause() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        for uptime_s in (0, 0, 61):
            await scene.fakes.clock.advance(uptime_s)
            scene.fakes.engine.processes[-1].die()
            await settle()
            await scene.fakes.clock.advance(scene.fakes.clock.sleeps[-1])
        assert scene.fakes.clock.sleeps == [1, 2, 1]

    play(story, "a")


def test_a_restart_that_fails_pauses_longer() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        scene.fakes.engine.outcomes = [EngineError("still broken")]
        scene.fakes.engine.processes[0].die()
        await settle()
        await scene.wait(1)
        task = scene.ask("a")
        await scene.wait(1.9)
        assert not task.done()
        await scene.wait(0.2)
        assert (await task).model.phase is Phase.LOADED

    scene = play(story, "a")
    assert scene.heard(news.LoadFailed) == [news.LoadFailed(model_id="a", error="still broken")]


def test_requests_that_come_during_a_restart_wait_for_it() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        scene.fakes.engine.gate = asyncio.Event()
        scene.fakes.engine.processes[0].die()
        await settle()
        await scene.fakes.clock.advance(1)
        assert scene.phase("a") is Phase.LOADING
        same = scene.ask("a")
        await settle()
        scene.fakes.engine.gate.set()
        assert (await same).address.port == 101

    play(story, "a")


def test_a_restart_that_fails_gives_its_place_to_who_waits_for_another_model() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        scene.fakes.engine.outcomes = [EngineError("still broken")]
        scene.fakes.engine.gate = asyncio.Event()
        scene.fakes.engine.processes[0].die()
        await settle()
        await scene.wait(1)
        other = scene.ask("b")
        await settle()
        scene.fakes.engine.gate.set()
        assert (await other).model.id == "b"

    play(story, "a", "b", cramped=True)


def test_another_model_takes_the_place_of_one_that_pauses_after_a_crash() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        scene.fakes.engine.processes[0].die()
        await settle()
        assert (await scene.supervisor.lease("b")).model.id == "b"
        await scene.wait(100)
        assert scene.started == ["a", "b"]
        assert "engine died" in scene.supervisor.find("a").error

    play(story, "a", "b", cramped=True)


@pytest.mark.parametrize("turns", range(6))
def test_an_engine_that_dies_as_it_is_taken_out_is_not_started_again(turns: int) -> None:
    async def story(scene: Scene) -> None:
        lease, other = await scene.supervisor.lease("a"), scene.ask("b")
        await scene.wait(61)
        scene.fakes.engine.processes[0].die()
        for _ in range(turns):  # of the loop between its death and the end of its last user
            await asyncio.sleep(0)
        lease.release()
        assert (await other).model.id == "b"
        await scene.wait(100)
        assert scene.started == ["a", "b"]

    scene = play(story, "a", "b", cramped=True)
    assert all(item.retry_s is None for item in scene.told if isinstance(item, news.EngineDied))


def test_a_grant_that_its_engine_did_not_outlive_says_so() -> None:
    async def story(scene: Scene) -> None:
        (await scene.supervisor.lease("a")).release()
        task = scene.ask("a")
        scene.fakes.engine.processes[0].die()
        lease = await task
        await settle()
        assert lease.failure() is not None

    play(story, "a")


def test_closing_refuses_those_who_wait_and_all_who_come() -> None:
    async def story(scene: Scene) -> None:
        held = await scene.supervisor.lease("a")
        tasks = [scene.ask("b"), scene.ask("a")]
        await settle()
        await scene.supervisor.close()
        assert all(isinstance(fails(task), StoppingError) for task in tasks)
        with pytest.raises(StoppingError, match="going down"):
            await scene.supervisor.lease("a")
        held.release()

    play(story, "a", "b", cramped=True)


def test_closing_while_a_model_loads_ends_its_start() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.gate = asyncio.Event()
        task = scene.ask("a")
        await settle()
        await scene.supervisor.close()
        assert scene.fakes.engine.cancelled == 1
        assert isinstance(fails(task), StoppingError)

    play(story, "a")


def test_closing_while_a_model_is_taken_out_still_ends_its_engine() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.stop_gate = asyncio.Event()
        lease, other = await scene.supervisor.lease("a"), scene.ask("b")
        await settle()
        lease.release()
        await scene.wait(20)
        assert scene.fakes.engine.processes[0].stopped_within_s is not None
        scene.fakes.engine.stop_gate.set()
        await scene.supervisor.close()
        assert isinstance(fails(other), StoppingError)
        assert len(scene.fakes.engine.starts) == 1

    play(story, "a", "b", cramped=True)


def test_closing_during_a_pause_starts_nothing() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        scene.fakes.engine.processes[0].die()
        await settle()
        await scene.supervisor.close()
        await scene.fakes.clock.advance(100)
        assert len(scene.fakes.engine.starts) == 1

    play(story, "a")


def test_names_are_found_and_others_refused_with_those_there_are() -> None:
    async def story(scene: Scene) -> None:
        find = scene.supervisor.find
        assert find("b").id == "b"
        with pytest.raises(NotFoundError) as caught:
            find("c")
        assert (caught.value.message, caught.value.hint) == ("no model 'c'", "there are: a, b")
        with pytest.raises(NotFoundError) as caught:
            find("")
        assert caught.value.hint == "name one of: a, b"
        await scene.supervisor.lease("b")
        assert find("").id == "b", "no name is the loaded one"

    play(story, "a", "b")


def test_an_empty_name_is_the_only_model_there_is() -> None:
    async def story(scene: Scene) -> None:
        assert scene.supervisor.find("").id == "a"
        assert (await scene.supervisor.lease("")).model.id == "a"

    play(story, "a")


def test_without_models_it_says_where_it_looked_and_what_to_do() -> None:
    async def story(scene: Scene) -> None:
        assert scene.supervisor.models() == ()
        with pytest.raises(NotFoundError) as caught:
            await scene.supervisor.lease("a")
        assert (caught.value.code, caught.value.message) == ("no_models", "no model found; looked in /m: looked")
        assert "bercail up MODEL" in caught.value.hint

    play(story)


def test_listings_tell_what_headers_say_before_anything_is_loaded() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.reader.refusals["/m/bad.gguf"] = ReadError("cut", path="/m/bad.gguf")
        bare = scene.supervisor.find("a")
        assert (bare.context_length, bare.capabilities, bare.created) == (None, (), 1_700_000_000)
        await scene.supervisor.read_headers()
        rows = {row.id: row for row in scene.supervisor.models()}
        assert rows["a"].context_length == 8192
        assert rows["a"].parameter_count == 524_288
        assert rows["a"].slots is None
        assert rows["a"].phase is Phase.UNLOADED
        assert (rows["bad"].phase, rows["bad"].error) == (Phase.FAILED, "/m/bad.gguf: cut")
        assert scene.heard(news.LoadFailed) == [news.LoadFailed(model_id="bad", error="/m/bad.gguf: cut")]
        before = len(scene.fakes.reader.read_paths)
        await scene.supervisor.read_headers()
        assert len(scene.fakes.reader.read_paths) == before, "nothing is read twice"

    play(story, "a", "bad")


def test_a_model_is_served_under_the_name_it_was_found_by() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.reader.models["/m/a.gguf"] = a_model("other")
        await scene.supervisor.read_headers()
        assert scene.supervisor.find("a").context_length == 8192

    play(story, "a")


ALL = (Capability.CHAT, Capability.COMPLETION, Capability.TOOLS, Capability.VISION)


@pytest.mark.parametrize(
    ("changes", "loaded", "capabilities"),
    [
        ({}, False, (Capability.CHAT, Capability.COMPLETION, Capability.TOOLS)),
        ({"capabilities": (Capability.COMPLETION,)}, False, (Capability.CHAT, Capability.COMPLETION)),
        ({"capabilities": ALL, "projector": "/m/p", "projector_bytes": 1000}, True, ALL),
        ({"capabilities": ALL}, True, ALL[:3]),
        ({"role": Role.EMBED}, True, (Capability.EMBEDDINGS,)),
        ({"role": Role.RERANK}, False, (Capability.RERANK,)),
    ],
)  # fmt: skip
def test_capabilities_are_those_of_the_model_as_it_is_or_would_be_loaded(
    changes: dict[str, object], loaded: bool, capabilities: tuple[Capability, ...]
) -> None:
    async def story(scene: Scene) -> None:
        model = a_model("a", a_shape(causal=changes.get("role") is None))
        scene.fakes.reader.models["/m/a.gguf"] = replace(model, **changes)  # type: ignore[arg-type] # a table
        await (scene.supervisor.lease("a") if loaded else scene.supervisor.read_headers())
        assert scene.supervisor.find("a").capabilities == capabilities

    play(story, "a")


def test_a_model_whose_template_fails_is_served_without_chat_and_says_why() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.verdict = TemplateVerdict(usable=False, why="raises an error")
        served = (await scene.supervisor.lease("a")).model
        assert served.capabilities == (Capability.COMPLETION,)
        assert "raises an error" in served.chat_refusal

    play(story, "a")


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    async def whole() -> None:
        scene = Scene()
        scene.fakes.settings = Settings(engine=EngineOptions(context=9000))
        scene.open("a")
        with pytest.raises(RefusedError) as caught:
            await scene.supervisor.lease("a")
        assert "9,000" in caught.value.message
        assert "8,192 fits" in caught.value.hint
        await scene.supervisor.close()

    run(whole)


@pytest.mark.parametrize(
    ("embedding", "engine", "vector", "told"),
    [
        (True, "llama.cpp", 96, 96),
        (True, "llama.cpp", 0, None),
        (True, "openvino", 96, None),
        (False, "llama.cpp", 96, None),
    ],
)
def test_the_size_of_embeddings_is_told_where_the_engine_makes_no_other(
    embedding: bool, engine: str, vector: int, told: int | None
) -> None:
    async def whole() -> None:
        scene = Scene()
        scene.fakes.settings = Settings(engine=EngineOptions(embedding=embedding))
        scene.open("a")
        scene.fakes.reader.models["/m/a.gguf"] = a_model("a", a_shape(vector=vector))
        scene.fakes.engine.offer = Offer(name=engine, id="x", make=Make.EMBEDDED)
        assert scene.supervisor.find("a").vector_values is None
        lease = await scene.supervisor.lease("a")
        assert lease.model.vector_values == told
        lease.release()
        await scene.supervisor.close()

    run(whole)


def test_the_same_findings_give_the_same_listing() -> None:
    found = (a_found("x", bytes=7), a_found("y"))
    fakes = Fakes()
    fakes.prober.machine = a_machine()
    supervisor = Supervisor(fakes.house(), Findings(models=found, looked=()), lambda item: None)
    assert [(row.id, row.file_bytes) for row in supervisor.models()] == [("x", 7), ("y", found[1].bytes)]


def landing(**changes: int) -> tuple[Landed, ...]:
    """What an engine says of a model that `Fakes` adds, with some parts larger by so many MiB."""
    plan = decide(a_machine(), a_model("a"), EngineOptions())
    told = ("weights", "KV cache", "compute", "output")
    return tuple(
        Landed(place="CPU", part=part.name, bytes=part.bytes + changes.get(part.name.replace(" ", "_"), 0) * MIB)
        for part in plan.devices[0].parts
        if part.name in told
    )


def test_a_load_teaches_the_next_plan() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.landed = landing(compute=3)
        lease = await scene.supervisor.lease("a")
        lease.release()
        other = await scene.supervisor.lease("b")
        other.release()

    scene = play(story, "a", "b")
    plans = [item.plan for item in scene.told if isinstance(item, news.Planned)]
    learned = [{part.name: part.bytes for part in plan.devices[0].parts}.get("learned", 0) for plan in plans]
    assert learned[0] == 0
    assert abs(learned[1] - 3 * MIB) <= 1
    assert (plans[0].lessons.loads, plans[1].lessons.loads) == (0, 1)


def test_a_load_that_takes_more_than_planned_is_ended() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.landed = landing(KV_cache=999)
        task = scene.ask("a")
        await settle()
        error = fails(task)
        assert isinstance(error, RefusedError)
        assert (error.code, scene.phase("a")) == ("spilled", Phase.FAILED)
        assert "cpu took " in error.message
        assert not scene.fakes.engine.alive
        scene.fakes.engine.landed = landing()
        await scene.supervisor.lease("a")

    scene = play(story, "a")
    assert [type(item) for item in scene.told][3:5] == [news.Unloaded, news.LoadFailed]


def test_a_load_that_takes_more_than_planned_may_be_allowed() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.landed = landing(KV_cache=999)
        await scene.supervisor.lease("a")

    scene = Scene()
    scene.fakes.settings = replace(scene.fakes.settings, engine=EngineOptions(allow_spill=True))

    async def whole() -> None:
        await story(scene.open("a"))
        await scene.supervisor.close()

    run(whole)
    warned = [item.text for item in scene.told if isinstance(item, news.Warned)]
    assert len(warned) == 1
    assert warned[0].endswith("allowed by allow_spill")


def test_lessons_that_cannot_be_kept_are_told() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.cache.refusal = StoreError("the disk is full")
        scene.fakes.engine.landed = landing()
        await scene.supervisor.lease("a")

    warned = [item.text for item in play(story, "a").told if isinstance(item, news.Warned)]
    assert "the disk is full" in warned


def test_what_an_engine_lacks_is_told_while_it_runs_the_model() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.offer = replace(scene.fakes.engine.offer, lacks=("logprobs", "tools"))
        before = scene.supervisor.find("a")
        assert (before.engine, before.lacks, before.batches) == (None, (), None)
        (await scene.ask("a")).release()
        loaded = scene.supervisor.find("a")
        assert (loaded.engine, loaded.lacks, loaded.format) == ("fake", ("logprobs", "tools"), "gguf")
        assert loaded.batches
        assert Capability.TOOLS not in loaded.capabilities

    play(story, "a")


def test_too_many_who_wait_are_told_when_to_come_again() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        waiting = [scene.ask("b") for _ in range(2)]
        await settle()
        with pytest.raises(BusyError, match="2 requests of this key wait already, as many as may") as caught:
            await scene.supervisor.lease("b")
        assert caught.value.status == 429
        assert caught.value.retry_after_s
        assert "number 3 in line" in caught.value.message
        for task in waiting:
            task.cancel()
        await settle()

    play(story, "a", "b", cramped=True, policy=Policy(queue_per_key=2))


def test_out_of_memory_at_a_load_is_told_and_tried_once_more() -> None:
    """From then on it is taken to need all that it was given, and more."""

    async def story(scene: Scene) -> None:
        scene.fakes.engine.outcomes = [EngineError("no memory", code="out_of_memory")]
        (await scene.supervisor.lease("a")).release()
        scene.fakes.engine.outcomes = [EngineError("no memory", code="out_of_memory") for _ in range(2)]
        other = scene.ask("b")
        await scene.wait(20)
        assert fails(other).message == "no memory"
        assert scene.phase("a") is Phase.UNLOADED

    scene = play(story, "a", "b")
    again = [item.text for item in scene.told if isinstance(item, news.Warned)]
    assert again == [f"{name} ran out of memory; with more room it is tried once more" for name in "ab"]


def test_what_a_load_took_is_that_of_its_own_plan_also_if_its_model_is_declared_anew_meanwhile() -> None:
    fakes = Fakes(settings=ASKED_NOTHING)
    fakes.engine.landed = landing()

    async def story() -> None:
        house, (found,) = fakes.house(), fakes.add("a")
        entry = Entry(id="a", found=found, prepared=await prepare(house, found, lambda _: None))
        fakes.engine.gate = asyncio.Event()
        load = asyncio.create_task(bring_up(house, entry, lambda _: None))
        await settle()
        planned, entry.prepared = entry.need().bytes, None
        fakes.engine.gate.set()
        resident = await load
        assert resident.taken == planned
        assert planned
        await resident.process.stop(0)

    run(story)


def test_who_joins_those_that_wait_has_nothing_planned_anew() -> None:
    """An engine that pauses after a crash may be asked for by hundreds meanwhile."""

    async def story(scene: Scene) -> None:
        await scene.supervisor.lease("a")
        scene.fakes.engine.processes[-1].die()
        await settle()
        waiting = []
        for _ in range(3):
            waiting.append(scene.ask("a"))
            await settle()
        assert len(scene.heard(news.ModelRead)) == 2
        await scene.wait(1)
        for task in waiting:
            give_back(task)

    play(story, "a")


def test_a_load_that_landed_as_planned_ends_the_caution_after_one_that_ran_out_of_memory() -> None:
    """A kill of whatever kind looks like want of memory; it must not keep all others out for ever."""

    async def story(scene: Scene) -> None:
        scene.fakes.engine.landed = landing()
        scene.fakes.engine.outcomes = [EngineError("killed", code="out_of_memory")]
        first, second = await scene.supervisor.lease("a"), scene.ask("b")
        await settle()
        assert (await second).model.id == "b"
        assert first.model.id == "a"

    play(story, "a", "b")


def test_what_one_plan_finds_out_many_requests_use() -> None:
    async def story(scene: Scene) -> None:
        await asyncio.gather(*(scene.ask("a") for _ in range(4)))
        assert len(scene.heard(news.ModelRead)) == 1

    play(story, "a")


def test_a_grant_to_one_who_has_just_left_goes_to_the_next() -> None:
    async def story(scene: Scene) -> None:
        lease, second = await scene.supervisor.lease("a"), scene.ask("a")
        await settle()
        second.cancel()
        lease.release()
        await settle()
        assert (await scene.supervisor.lease("a")).model.id == "a"

    play(story, "a", cramped=True)


def test_an_engine_that_is_let_go_of_while_its_contexts_come_back_is_ended() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.shelf.place = "/contexts/"
        scene.fakes.shelf.has = lambda name: True  # type: ignore[method-assign] # a context of every slot
        scene.fakes.upstream.answers = [Scripted(before_headers=asyncio.Event())]
        task = scene.ask("a")
        await settle()
        assert scene.fakes.engine.alive
        await scene.supervisor.unload("a")
        assert not scene.fakes.engine.alive
        assert not scene.fakes.journal.running
        assert "unloaded by request" in fails(task).message

    play(story, "a")


def test_a_model_is_told_to_be_ready_when_it_can_be_asked() -> None:
    async def story(scene: Scene) -> None:
        gate = asyncio.Event()
        scene.fakes.shelf.place = "/contexts/"
        scene.fakes.shelf.has = lambda name: True  # type: ignore[method-assign] # a context of every slot
        scene.fakes.upstream.answers = [Scripted(before_headers=gate, pieces=[b'{"n_restored":9}'])]
        task = scene.ask("a")
        await settle()
        assert scene.fakes.engine.alive
        assert not scene.heard(news.Ready)
        gate.set()
        while not scene.heard(news.Ready):  # noqa: ASYNC110 - each turn of the loop is looked at
            await asyncio.sleep(0)
        assert scene.phase("a") is Phase.LOADED
        await task

    play(story, "a")


@pytest.mark.parametrize("later", range(16))
def test_a_start_that_succeeds_at_the_last_moment_is_ended_all_the_same(later: int) -> None:
    """However many turns of the loop lie between its success and the wish that it were gone."""

    async def story(scene: Scene) -> None:
        scene.fakes.engine.gate = asyncio.Event()
        task = scene.ask("a")
        await settle()
        task.add_done_callback(give_back)
        scene.fakes.engine.gate.set()
        for _ in range(later):
            await asyncio.sleep(0)
        await scene.supervisor.unload("a")
        assert task.done()
        assert not scene.fakes.engine.alive

    play(story, "a")
