import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field, replace

import pytest

from bercail.core import news
from bercail.core.access import Key, KeyWish, mint
from bercail.core.bandwidth import Reading, to_keep
from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Gateway, Loaded
from bercail.core.declared import Declared, ModelFile
from bercail.core.errors import (
    BercailError,
    BusyError,
    EngineError,
    ListenError,
    NotFoundError,
    ReadError,
    SettingsError,
    StoreError,
    UsageError,
)
from bercail.core.model import Findings, FoundModel
from bercail.core.options import ServerOptions, Settings
from bercail.core.route import Phase
from bercail.flows import Request, Source, up
from bercail.flows.reread import LOOK_S
from fakes.house import Fakes, run, settle
from fakes.models import a_found, a_model


@dataclass(slots=True, kw_only=True)
class Scene:
    """A server in a fake house, and everything it told."""

    fakes: Fakes = field(default_factory=Fakes)
    told: list[news.News] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    stop_now: asyncio.Event = field(default_factory=asyncio.Event)
    chosen: str | None = "a"

    async def choose(self, findings: Findings) -> FoundModel | None:
        return next((found for found in findings.models if found.id == self.chosen), None)

    def request(self, *paths: str) -> Request:
        return Request(paths=paths, choose=self.choose, tell=self.told.append, stop=self.stop, stop_now=self.stop_now)

    def start(self, *paths: str) -> "asyncio.Task[None]":
        return asyncio.create_task(up(self.fakes.house(), self.request(*paths)))

    def kinds(self) -> list[type[news.News]]:
        return [type(item) for item in self.told]

    def warnings(self) -> list[str]:
        return [item.text for item in self.told if isinstance(item, news.Warned)]


def play(story: Callable[[Scene], Coroutine[None, None, None]], *names: str) -> Scene:
    async def whole() -> Scene:
        scene = Scene()
        scene.fakes.add(*names)
        await story(scene)
        assert not scene.fakes.engine.alive
        assert not scene.fakes.journal.running
        return scene

    return run(whole)


async def serve_and_stop(scene: Scene) -> None:
    task = scene.start()
    await settle()
    scene.stop.set()
    await task


def test_every_step_is_told_in_its_order() -> None:
    scene = play(serve_and_stop, "a")
    assert scene.kinds() == [
        news.MachineProbed, news.ModelsFound, news.Listening, news.ModelRead, news.Planned, news.Loading, news.Ready,
        news.Stopping, news.Unloaded, news.Stopped,
    ]  # fmt: skip
    assert scene.fakes.door.closed_within_s == [30.0]
    assert scene.fakes.upstream.closed


def test_an_empty_name_is_refused_before_anything_is_looked_for() -> None:
    async def story(scene: Scene) -> None:
        with pytest.raises(UsageError, match="the name of a model is empty"):
            await scene.start("")

    assert play(story, "a").told == []


def test_a_server_is_in_the_register_as_long_as_it_serves() -> None:
    async def story(scene: Scene) -> None:
        request = replace(scene.request(), config="/c.yaml")
        task = asyncio.create_task(up(scene.fakes.house(), request))
        await settle()
        assert scene.fakes.register.announced == ("http://127.0.0.1:8123", "/c.yaml", "/state/activity.db")
        scene.stop.set()
        await task
        assert scene.fakes.register.announced is None

    assert play(story, "a").fakes.register.told == [("http://127.0.0.1:8123", "/c.yaml", "/state/activity.db")]


def test_a_server_that_records_nothing_announces_no_record() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.ledger.refusal = StoreError("full")
        await serve_and_stop(scene)

    assert play(story, "a").fakes.register.told == [("http://127.0.0.1:8123", "", "")]


def test_the_door_is_open_while_the_first_model_loads() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.gate = asyncio.Event()
        task = scene.start()
        await settle()
        host = scene.fakes.door.host
        assert host is not None
        assert host.find("a").phase is Phase.LOADING
        scene.fakes.engine.gate.set()
        await settle()
        assert host.find("a").phase is Phase.LOADED
        scene.stop.set()
        await task

    play(story, "a")


def test_what_a_killed_server_left_is_told_first() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.journal.ended = ("process 7",)
        await serve_and_stop(scene)

    scene = play(story, "a")
    assert scene.told[0] == news.Reconciled(ended=("process 7",))


def test_with_no_model_it_serves_all_the_same() -> None:
    scene = play(serve_and_stop)
    assert scene.kinds() == [
        news.MachineProbed, news.ModelsFound, news.Listening, news.Stopping, news.Stopped,
    ]  # fmt: skip


def test_nothing_is_loaded_if_nothing_is_chosen_but_all_headers_are_read() -> None:
    async def story(scene: Scene) -> None:
        scene.chosen = None
        task = scene.start("/m")
        await settle()
        assert scene.fakes.engine.starts == []
        assert scene.fakes.door.host is not None
        assert [row.context_length for row in scene.fakes.door.host.models()] == [8192, 8192]
        scene.stop.set()
        await task

    async def with_path(scene: Scene) -> None:
        scene.fakes.reader.by_path["/m"] = scene.fakes.reader.findings
        await story(scene)

    scene = play(with_path, "a", "b")
    assert scene.fakes.reader.searches == [(("/m",), ())]


def test_a_start_that_loads_nothing_ends_with_what_may_be_asked_for_and_where() -> None:
    async def story(scene: Scene) -> None:
        scene.chosen = None
        scene.fakes.reader.refusals["/m/b.gguf"] = ReadError("no GGUF file", path="/m/b.gguf")
        task = scene.start()
        await settle()
        assert scene.told[-2:] == [
            news.LoadFailed(model_id="b", error="/m/b.gguf: no GGUF file"),
            news.Waiting(url="http://127.0.0.1:8123", models=3, failed=1),
        ]
        scene.stop.set()
        await task

    play(story, "a", "b", "c")


def test_an_only_model_that_fails_ends_the_server_with_its_words_after_everything_is_shut() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.outcomes = [EngineError("broken")]
        with pytest.raises(EngineError, match="broken"):
            await scene.start()
        assert scene.fakes.door.closed_within_s == [30.0]
        assert scene.fakes.upstream.closed

    scene = play(story, "a")
    assert scene.kinds()[-1] is news.LoadFailed, "nobody asked it to stop"


def test_one_of_several_that_fails_leaves_the_others_served() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.outcomes = [EngineError("broken")]
        task = scene.start()
        await settle()
        assert scene.fakes.door.host is not None
        assert [row.phase for row in scene.fakes.door.host.models()] == [Phase.FAILED, Phase.UNLOADED]
        lease = await scene.fakes.door.host.lease("b")
        lease.release()
        scene.stop.set()
        await task

    scene = play(story, "a", "b")
    assert scene.warnings() == ["a could not be loaded; the other models are served"]


@pytest.mark.parametrize(("readable", "kind"), [(False, ReadError), (True, NotFoundError)])
def test_a_place_that_was_named_and_holds_no_model_ends_it_with_the_reason(
    readable: bool, kind: type[BercailError]
) -> None:
    async def story(scene: Scene) -> None:
        if readable:
            scene.fakes.reader.models["/empty"] = a_model()
        with pytest.raises(kind) as caught:
            await scene.start("/empty")
        assert "/empty" in caught.value.message
        assert readable == ("absent" in caught.value.hint)
        assert scene.fakes.door.host is None

    play(story, "a")


def test_a_word_that_is_no_file_is_the_name_of_a_model() -> None:
    async def story(scene: Scene) -> None:
        scene.chosen = "b"
        task = scene.start("b")
        await settle()
        host = scene.fakes.door.host
        assert host is not None
        assert [(row.id, row.phase) for row in host.models()] == [("b", Phase.LOADED)]
        scene.stop.set()
        await task

    play(story, "a", "b")


def test_a_word_that_means_nothing_is_told_which_models_are_here() -> None:
    async def story(scene: Scene) -> None:
        with pytest.raises(NotFoundError, match="no model 'llama3', and no file of that name") as caught:
            await scene.start("llama3")
        assert caught.value.hint == "there are a, b (bercail models); or name a file"

    play(story, "a", "b")


def test_an_address_that_is_taken_ends_it_before_anything_is_loaded() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.door.refusal = ListenError("port 8123 is in use")
        with pytest.raises(ListenError):
            await scene.start()
        assert scene.fakes.engine.starts == []
        assert scene.told == [], "the machine was not even looked at"

    play(story, "a")


def test_an_address_that_is_taken_meanwhile_ends_it_without_a_shutdown_that_never_was_a_start() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.door.late_refusal = ListenError("port 8123 is in use")
        with pytest.raises(ListenError):
            await scene.start()
        assert scene.kinds() == [news.MachineProbed, news.ModelsFound]

    play(story, "a")


def test_a_stop_while_the_user_is_asked_opens_no_door() -> None:
    async def story(scene: Scene) -> None:
        scene.stop.set()
        await scene.start()
        assert scene.fakes.door.host is None
        assert not [item for item in scene.told if isinstance(item, news.Listening)]
        assert isinstance(scene.told[-1], news.Stopped)

    play(story, "a", "b")


def test_a_stop_while_it_loads_ends_the_load() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.engine.gate = asyncio.Event()
        task = scene.start()
        await settle()
        scene.stop.set()
        await task
        assert scene.fakes.engine.cancelled == 1

    scene = play(story, "a")
    assert news.Ready not in scene.kinds()
    assert scene.told[-1] == news.Stopped(cut=0)


def test_the_first_signal_lets_running_requests_finish() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.settings = Settings(server=ServerOptions(drain=7.0))
        scene.fakes.door.busy = asyncio.Event()
        task = scene.start()
        await settle()
        scene.stop.set()
        await settle()
        assert not task.done()
        assert scene.fakes.engine.alive, "the engine answers until its last client is done"
        scene.fakes.door.busy.set()
        await task
        assert scene.fakes.door.closed_within_s == [7.0]

    scene = play(story, "a")
    assert scene.told[-3:] == [
        news.Stopping(drain_s=7.0), news.Unloaded(model_id="a"), news.Stopped(cut=0)
    ]  # fmt: skip


def test_the_second_signal_cuts_them_and_says_how_many() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.door.busy, scene.fakes.door.cut = asyncio.Event(), 2
        task = scene.start()
        await settle()
        scene.stop.set()
        await settle()
        scene.stop_now.set()
        await task
        assert scene.fakes.door.closed_within_s == [30.0, 0]

    scene = play(story, "a")
    assert scene.told[-1] == news.Stopped(cut=2)


def test_requests_that_did_not_finish_in_time_are_counted() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.door.cut = 1
        await serve_and_stop(scene)

    assert play(story, "a").told[-1] == news.Stopped(cut=1)


def bandwidth(scene: Scene) -> float | None:
    probed = next(item for item in scene.told if isinstance(item, news.MachineProbed))
    return probed.machine.memory.bandwidth_bytes_per_s


def test_memory_bandwidth_is_measured_once_and_kept() -> None:
    async def story(scene: Scene) -> None:
        await serve_and_stop(scene)
        assert bandwidth(scene) == 30e9
        again = Scene(fakes=replace(Fakes(), cache=scene.fakes.cache, prober=scene.fakes.prober))
        await serve_and_stop(again)
        assert bandwidth(again) == 30e9
        assert scene.fakes.prober.measured == 1

    play(story)


@pytest.mark.parametrize("kept", [{"bytes_per_s": "fast"}, {}])
def test_what_was_kept_and_makes_no_sense_is_measured_again(kept: dict[str, object]) -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.cache.facts["bandwidth", "Test CPU"] = kept
        await serve_and_stop(scene)
        assert scene.fakes.cache.facts["bandwidth", "Test CPU"] == to_keep((Reading(bytes_per_s=30e9, busy=0.0),))

    assert bandwidth(play(story)) == 30e9


def test_a_bandwidth_of_a_busy_minute_is_measured_again_and_the_best_counts() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.prober.busy = (0.5, 0.2, 0.0, 0.9)
        scene.fakes.cache.facts["bandwidth", "Test CPU"] = {"bytes_per_s": 7e9}  # of an earlier version
        seen = []
        for _ in range(4):
            again = Scene(fakes=replace(Fakes(), cache=scene.fakes.cache, prober=scene.fakes.prober))
            await serve_and_stop(again)
            memory = next(item for item in again.told if isinstance(item, news.MachineProbed)).machine.memory
            seen.append((memory.bandwidth_bytes_per_s, memory.bandwidth_doubt, len(again.warnings())))
        assert seen == [
            (15e9, "other programs took 50% of the CPUs", 1), (24e9, "other programs took 20% of the CPUs", 1),
            (30e9, "", 0), (30e9, "", 0),
        ]  # fmt: skip
        assert scene.fakes.prober.measured == 3

    play(story)


def test_a_doubtful_bandwidth_stays_where_there_is_too_little_memory_for_another() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.cache.facts["bandwidth", "Test CPU"] = {"bytes_per_s": 7e9}
        scene.fakes.prober.bandwidth = None
        await serve_and_stop(scene)

    scene = play(story)
    assert bandwidth(scene) == 7e9
    assert scene.warnings() == []


def test_a_bandwidth_that_cannot_be_measured_is_unknown_and_said_so() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.prober.bandwidth = None
        await serve_and_stop(scene)

    scene = play(story)
    assert bandwidth(scene) is None
    assert "bandwidth was not measured" in scene.warnings()[0]


def test_a_bandwidth_that_cannot_be_kept_is_used_and_said_so() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.cache.refusal = StoreError("disk full")
        await serve_and_stop(scene)

    scene = play(story)
    assert bandwidth(scene) == 30e9
    assert scene.warnings() == ["disk full"]


def test_a_model_with_a_bad_header_does_not_stop_the_others() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.reader.findings = Findings(models=(a_found("a"), a_found("gone")), looked=())
        task = scene.start()
        await settle()
        assert scene.fakes.door.host is not None
        served = scene.fakes.door.host.find("gone")
        assert (served.phase, served.error) == (Phase.FAILED, "/m/gone.gguf: no such file")
        scene.stop.set()
        await task

    play(story, "a")


@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("192.0.2.1", True), ("pc", True)]
)
def test_an_address_that_others_can_reach_is_warned_of(host: str, *, warned: bool) -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.settings = Settings(server=ServerOptions(host=host))
        await serve_and_stop(scene)

    assert [text for text in play(story, "a").warnings() if "whoever" in text] == (
        [f"whoever can reach {host} can use the models: no API key was made (bercail keys create NAME)"]
        if warned
        else []
    )


KEY = mint(KeyWish(name="me"), bytes(36), 0.0)[0]


@pytest.mark.parametrize(
    ("host", "require", "held", "words"),
    [
        ("192.0.2.1", "auto", {KEY.id: KEY}, ""),
        ("192.0.2.1", "never", {KEY.id: KEY}, "whoever can reach 192.0.2.1 can use the models: server.require_key is"),
        ("127.0.0.1", "never", {KEY.id: KEY}, "API keys are not looked at"),
        ("127.0.0.1", "never", None, ""),
        ("127.0.0.1", "auto", {}, "nobody can come in"),
        ("127.0.0.1", "always", None, "nobody can come in"),
        ("127.0.0.1", "always", {KEY.id: KEY}, ""),
    ],
)
def test_who_may_come_in_is_told_where_it_may_surprise(
    host: str, require: str, held: dict[str, Key] | None, words: str
) -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.settings = Settings(server=ServerOptions(host=host, require_key=require))
        scene.fakes.keyring.held = held
        await serve_and_stop(scene)

    warnings = play(story, "a").warnings()
    assert [words in text for text in warnings] == ([True] if words else [])


@pytest.mark.parametrize(
    ("host", "require", "words"),
    [
        ("192.0.2.1", "auto", ""),
        ("127.0.0.1", "always", ""),
        ("127.0.0.1", "never", "API keys are not looked at"),
    ],
)
def test_keys_of_a_configuration_count_where_it_may_surprise(host: str, require: str, words: str) -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.settings = Settings(server=ServerOptions(host=host, require_key=require))
        scene.fakes.configuration = Configuration(gateway=Gateway(api_keys=("word",)))
        await serve_and_stop(scene)

    warnings = play(story, "a").warnings()
    assert [words in text for text in warnings] == ([True] if words else [])


def test_the_door_takes_the_keys_of_a_configuration_also_where_models_are_named() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.configuration = replace(DECLARED, gateway=Gateway(api_keys=("word",)))
        scene.fakes.reader.by_path["/m/a.gguf"] = scene.fakes.reader.findings
        task = scene.start("/m/a.gguf")
        await settle()
        assert scene.fakes.door.keys == [("word",)]
        scene.stop.set()
        await task

    play(story, "a")


def test_keys_that_cannot_be_read_end_it_before_anything_is_opened() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.keyring.refusal = StoreError("the file of keys is damaged")
        with pytest.raises(StoreError, match="damaged"):
            await scene.start()
        assert scene.fakes.door.host is None

    play(story, "a")


def test_requests_are_recorded_from_the_opening_to_the_end() -> None:
    async def story(scene: Scene) -> None:
        task = scene.start()
        await settle()
        assert scene.fakes.ledger.is_open
        scene.stop.set()
        await task
        assert not scene.fakes.ledger.is_open

    play(story, "a")


def test_a_record_that_cannot_be_kept_is_told_and_costs_no_request() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.ledger.refusal = StoreError("the disk is full")
        await serve_and_stop(scene)
        assert scene.fakes.engine.starts

    assert "the disk is full; requests are served, but not recorded" in play(story, "a").warnings()


def test_a_named_file_that_cannot_be_read_ends_it_before_anything_is_opened() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.reader.by_path["/m/bad.gguf"] = Findings(models=(a_found("bad"),), looked=())
        with pytest.raises(ReadError):
            await scene.start("/m/bad.gguf")
        assert scene.fakes.door.host is None

    play(story)


DECLARED = Configuration(models=(Declared(id="m", line=1, source=CommandSpec(model_id="m", argv=("server",))),))


def test_what_a_configuration_declares_is_served_and_nothing_is_searched_or_asked() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.configuration = DECLARED
        task = scene.start()
        await settle()
        assert scene.fakes.door.host is not None
        assert [model.id for model in scene.fakes.door.host.models()] == ["m"]
        scene.stop.set()
        await task

    scene = play(story, "a")
    assert news.ModelsFound not in scene.kinds()


@pytest.mark.parametrize("declares", [True, False])
def test_a_configuration_to_be_served_that_declares_no_model_is_told_so(*, declares: bool) -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.configuration = DECLARED if declares else Configuration()
        source = Source(read=Loaded, look=lambda: 1)
        task = asyncio.create_task(up(scene.fakes.house(), replace(scene.request(), source=source)))
        await settle()
        scene.stop.set()
        await task

    scene = play(story, "a")
    assert any("DECLARES NO MODEL: what is found here" in text for text in scene.warnings()) != declares
    assert "DECLARES" not in "".join(play(serve_and_stop, "a").warnings()), "nobody named a configuration"


def test_models_that_are_named_come_before_those_that_are_declared() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.configuration = DECLARED
        scene.fakes.reader.by_path["/m/a.gguf"] = scene.fakes.reader.findings
        task = scene.start("/m/a.gguf")
        await settle()
        assert scene.fakes.door.host is not None
        assert [model.id for model in scene.fakes.door.host.models()] == ["a"]
        scene.stop.set()
        await task

    scene = play(story, "a")
    assert any("those that the configuration declares are not served" in text for text in scene.warnings())


def test_a_configuration_is_read_anew_when_told_and_a_wrong_one_changes_nothing() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.configuration = DECLARED
        reload = asyncio.Event()
        answers: list[Configuration | BercailError] = [
            SettingsError("line 3: no"),
            Configuration(models=(Declared(id="n", line=1, source=CommandSpec(model_id="n", argv=("server",))),)),
        ]

        def read() -> Loaded:
            answer = answers.pop(0)
            if isinstance(answer, BercailError):
                raise answer
            return Loaded(configuration=answer)

        source = Source(read=read, look=lambda: 1)
        task = asyncio.create_task(up(scene.fakes.house(), replace(scene.request(), reload=reload, source=source)))
        await settle()
        host = scene.fakes.door.host
        assert host is not None
        for expected in ("m", "n"):
            reload.set()
            await settle()
            assert [model.id for model in host.models()] == [expected]
        scene.stop.set()
        await task

    scene = play(story, "a")
    assert "nothing was changed: line 3: no" in scene.warnings()


def test_settings_that_a_reload_does_not_take_are_told_until_they_are_as_they_were() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.configuration = DECLARED
        answers = [
            Loaded(settings=replace(scene.fakes.settings, server=server), configuration=DECLARED)
            for server in (ServerOptions(drain=5), ServerOptions(drain=5, port=9), scene.fakes.settings.server)
        ]
        source = Source(read=lambda: answers.pop(0), look=lambda: 1)
        task = asyncio.create_task(up(scene.fakes.house(), replace(scene.request(), source=source)))
        await settle()
        assert scene.fakes.door.host is not None
        told = [(await scene.fakes.door.host.reload()).later for _ in range(3)]
        assert told == [("server.drain",), ("server.port", "server.drain"), ()]
        scene.stop.set()
        await task

    play(story, "a")


def test_other_names_are_told_as_what_has_changed_since_the_reading_before() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.configuration = DECLARED
        (model,) = DECLARED.models
        named = replace(DECLARED, models=(replace(model, aliases=("gpt-5",)),))
        source = Source(read=lambda: Loaded(settings=scene.fakes.settings, configuration=named), look=lambda: 1)
        task = asyncio.create_task(up(scene.fakes.house(), replace(scene.request(), source=source)))
        await settle()
        host = scene.fakes.door.host
        assert host is not None
        assert [(await host.reload()).altered for _ in range(2)] == [("other names of m",), ()]
        assert host.find("gpt-5").id == "m"
        scene.stop.set()
        await task

    play(story, "a")


def test_how_many_may_wait_counts_from_the_reload_on() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.configuration = DECLARED
        narrow = Settings(server=ServerOptions(queue=1))
        source = Source(read=lambda: Loaded(settings=narrow, configuration=DECLARED), look=lambda: 1)
        task = asyncio.create_task(up(scene.fakes.house(), replace(scene.request(), source=source)))
        await settle()
        host = scene.fakes.door.host
        assert host is not None
        assert (await host.reload()).later == ()
        asking = [asyncio.create_task(host.lease("m")) for _ in range(30)]
        await settle()
        full = [one for one in asking if one.done() and isinstance(one.exception(), BusyError)]
        assert len(full) > 0
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        scene.stop.set()
        await task

    play(story, "a")


def test_a_watched_configuration_is_read_anew_when_its_file_changes() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.configuration = DECLARED
        fresh = Configuration(models=(Declared(id="n", line=1, source=CommandSpec(model_id="n", argv=("server",))),))
        looks: list[Hashable] = [1, 2]
        source = Source(
            read=lambda: Loaded(configuration=fresh),
            look=lambda: looks.pop(0) if looks[1:] else looks[0],
            seen=1,
            watched=True,
        )
        task = asyncio.create_task(up(scene.fakes.house(), replace(scene.request(), source=source)))
        served = []
        for _ in range(4):
            await settle()
            assert scene.fakes.door.host is not None
            served.append([model.id for model in scene.fakes.door.host.models()])
            await scene.fakes.clock.advance(LOOK_S)
        assert served == [["m"], ["m"], ["m"], ["n"]], "and not before it is at rest"
        scene.stop.set()
        await task

    play(story, "a")


def test_how_many_may_wait_is_a_setting() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.settings = Settings(server=ServerOptions(queue_per_key=1))
        scene.fakes.engine.gate = asyncio.Event()
        task = scene.start()
        await settle()
        host = scene.fakes.door.host
        assert host is not None
        with pytest.raises(BusyError, match="1 requests of this key wait already"):
            await host.lease("a")
        scene.fakes.engine.gate.set()
        await settle()
        scene.stop.set()
        await task

    play(story, "a")


def test_steps_are_kept_in_the_log_and_told_as_far_as_a_configuration_asks() -> None:
    async def quiet(scene: Scene) -> None:
        scene.fakes.configuration = Configuration(gateway=Gateway(log_level="error"))
        await serve_and_stop(scene)

    async def silent(scene: Scene) -> None:
        scene.fakes.configuration = Configuration(gateway=Gateway(log_output="none"))
        await serve_and_stop(scene)

    def kept(scene: Scene) -> list[str]:
        return [line.text for line in scene.fakes.log.since({}, lambda _: True).lines]

    scene = play(quiet, "a")
    assert (scene.told, kept(scene)) == ([], [])
    scene = play(silent, "a")
    assert scene.told == []
    assert "gateway  listening on http://127.0.0.1:8123" in kept(scene)
    assert any(line.startswith("ready    a after") for line in kept(scene))
    scene = play(serve_and_stop, "a")
    assert scene.told


def test_that_texts_are_kept_is_told_loudly() -> None:
    async def open_book(scene: Scene) -> None:
        scene.fakes.settings = replace(Settings(), server=ServerOptions(capture=1 << 24))
        await serve_and_stop(scene)

    (warning,) = [text for text in play(open_book).warnings() if "TEXTS" in text]
    assert "16.0 MiB" in warning
    assert "/api/captures" in warning


def test_texts_that_a_configuration_asks_for_are_told_by_its_key() -> None:
    async def open_book(scene: Scene) -> None:
        scene.fakes.configuration = Configuration(gateway=Gateway(capture_mb=3))
        await serve_and_stop(scene)

    (warning,) = [text for text in play(open_book, "a").warnings() if "TEXTS" in text]
    assert "(3.00 MiB, captureBuffer)" in warning


def test_texts_that_are_kept_as_files_are_told_with_their_folder() -> None:
    async def open_book(scene: Scene) -> None:
        scene.fakes.settings = replace(Settings(), server=ServerOptions(capture=1 << 24, capture_folder="/srv/texts"))
        await serve_and_stop(scene)

    (warning,) = [text for text in play(open_book, "a").warnings() if "TEXTS" in text]
    assert "and as files of 1.00 GiB in /srv/texts" in warning


@pytest.mark.parametrize("anew", [True, False])
def test_a_configuration_of_which_nothing_can_be_loaded_is_served_with_a_loud_word(*, anew: bool) -> None:
    async def story(scene: Scene) -> None:
        models = tuple(Declared(id=name, line=1, source=ModelFile(path=f"/none/{name}.gguf")) for name in "mn")
        scene.fakes.configuration = Configuration(models=models)
        source = Source(read=Loaded, look=lambda: 1) if anew else None
        task = asyncio.create_task(up(scene.fakes.house(), replace(scene.request(), source=source)))
        await settle()
        assert scene.fakes.door.host is not None
        assert {model.phase for model in scene.fakes.door.host.models()} == {Phase.FAILED}
        scene.stop.set()
        await task

    warning = play(story).warnings()[-1]
    assert warning.startswith("NONE OF 2 MODELS CAN BE LOADED, so every request will fail: m: ")
    assert warning.endswith("have the configuration read anew") is anew
