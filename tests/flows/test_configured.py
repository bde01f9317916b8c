"""A configuration as it is served: files, commands, servers elsewhere, names, rules, what is read anew."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace

import pytest

from bercail.core import news
from bercail.core.command import CommandSpec
from bercail.core.configuration import (
    SESSION_HEADERS,
    Configuration,
    Gateway,
    Peer,
    Profile,
    Selector,
    SideRule,
    Strategy,
)
from bercail.core.declared import Capabilities, Declared, Filters, Keep, ModelFile, Timeouts
from bercail.core.errors import (
    BusyError,
    EngineError,
    NotFoundError,
    ReadError,
    RefusedError,
    StoppingError,
    UsageError,
)
from bercail.core.groups import Group, Groups
from bercail.core.machine import NumaNode
from bercail.core.model import Capability, Findings
from bercail.core.options import EngineOptions, Settings
from bercail.core.route import Phase
from bercail.core.tree import Note, NoteKind
from bercail.flows.supervise import Supervisor
from fakes.house import Fakes, run, settle
from fakes.models import a_machine

MIB = 1024 * 1024
PATH = "a"
ALL_OF_IT = [Capability.CHAT, Capability.COMPLETION, Capability.VISION]


def a_command(name: str, *argv: str, **changes: object) -> Declared:
    source = CommandSpec(model_id=name, argv=argv or (f"{name}-server",))
    return replace(Declared(id=name, line=1, source=source), **changes)  # type: ignore[arg-type] # a test names them


def a_file(name: str, path: str = PATH, wishes: dict[str, object] | None = None, **changes: object) -> Declared:
    declared = Declared(id=name, line=1, source=ModelFile(path=path, wishes=wishes or {}))
    return replace(declared, **changes)  # type: ignore[arg-type] # a test names them


class Scene:
    """A supervisor of a configuration."""

    def __init__(self, *models: Declared, **more: object) -> None:
        self.fakes = Fakes()
        self.fakes.add("a", "b")
        self.configuration = Configuration(models=models, **more)  # type: ignore[arg-type] # a test names them
        self.fakes.configuration = self.configuration
        self.told: list[news.News] = []
        self.supervisor = Supervisor(self.fakes.house(), Findings(models=(), looked=()), self.told.append)

    def texts(self) -> list[str]:
        return [item.text for item in self.told if isinstance(item, news.Warned)]

    def ask(self, name: str) -> "asyncio.Task[object]":
        return asyncio.create_task(self.supervisor.lease(name))


def play(story: Callable[[Scene], Coroutine[None, None, None]], *models: Declared, **more: object) -> Scene:
    async def whole() -> Scene:
        scene = Scene(*models, **more)
        await story(scene)
        await scene.supervisor.close()
        assert not scene.fakes.engine.alive
        assert not scene.fakes.commands.engine.alive
        return scene

    return run(whole)


def test_a_file_is_served_under_its_declared_name_with_its_own_wishes() -> None:
    async def story(scene: Scene) -> None:
        lease = await scene.supervisor.lease("nickname")
        assert lease.model.id == "fast"
        assert (lease.model.slots, lease.model.slot_context_tokens) == (2, 1024)
        assert [model.id for model in scene.supervisor.models()] == ["fast"]

    play(story, a_file("fast", wishes={"context": 1024, "slots": 2}, aliases=("nickname",)))


def test_a_name_that_nobody_has_is_answered_by_the_model_whose_alias_matches_it() -> None:
    async def story(scene: Scene) -> None:
        for name, model in (
            ("claude-opus-4", "big"), ("claude-haiku-4", "small"), ("claude-x", "other"), ("night", "small"),
        ):  # fmt: skip
            assert scene.supervisor.find(name).id == model
        lease = await scene.supervisor.lease("claude-haiku-4")
        assert lease.model.id == "small"
        lease.release()
        for unknown in ("gpt-4", "Claude-opus"):
            with pytest.raises(NotFoundError):
                scene.supervisor.find(unknown)
        scene.supervisor.switch("night")
        assert scene.supervisor.find("gpt-4").id == "big"
        listed = {row.id: dict(row.also) for row in scene.supervisor.models()}
        assert listed == {"big": {"gpt-4": "profile"}, "small": {"night": "alias"}, "other": {"claude-x": "alias"}}

    play(
        story,
        a_file("big", aliases=("claude-*",)),
        a_file("small", aliases=("claude-haiku-*", "night")),
        a_file("other", aliases=("claude-x",)),
        gateway=Gateway(aliases_listed=True),
        profiles=(Profile(id="night", line=1, pins={"gpt-4": "big"}),),
    )


def test_the_general_wishes_hold_where_a_model_has_none() -> None:
    async def whole() -> None:
        fakes = Fakes(settings=Settings(engine=EngineOptions(context=2048)))
        fakes.add("a")
        fakes.configuration = Configuration(models=(a_file("fast"),))
        supervisor = Supervisor(fakes.house(), Findings(models=(), looked=()), lambda _: None)
        assert (await supervisor.lease("fast")).model.slot_context_tokens == 2048
        await supervisor.close()

    run(whole)


@pytest.mark.parametrize(
    ("general", "wishes", "usable"),
    [
        ({}, {"context": 512}, 512),
        ({"context": 1024}, {}, 1024),
        ({"context": 1024}, {"context": 2048}, 2048),
        ({}, {}, 8192),
    ],
)
def test_a_model_tells_the_context_it_is_to_be_started_with_before_and_after_it_is_loaded(
    general: dict[str, object], wishes: dict[str, object], usable: int
) -> None:
    async def whole() -> None:
        fakes = Fakes(settings=Settings(engine=EngineOptions(**general)))  # type: ignore[arg-type] # a table
        fakes.add("a")
        fakes.configuration = Configuration(models=(a_file("a", wishes=wishes),))
        supervisor = Supervisor(fakes.house(), Findings(models=(), looked=()), lambda _: None)
        assert supervisor.find("a").usable_context_tokens is None
        await supervisor.read_headers()
        assert supervisor.find("a").usable_context_tokens == usable
        assert (await supervisor.lease("a")).model.usable_context_tokens == usable
        await supervisor.close()

    run(whole)


def test_a_context_beyond_the_models_own_is_not_promised_and_told_at_the_start() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.read_headers()
        seen = scene.supervisor.find("a")
        assert seen.usable_context_tokens == 8192
        assert seen.phase is Phase.FAILED
        assert seen.error == "context 100,000 is more than the 8,192 tokens the model was trained for"
        assert news.LoadFailed(model_id="a", error=seen.error) in scene.told, "before anybody asks for it"
        with pytest.raises(RefusedError) as caught:
            await scene.supervisor.lease("a")
        assert caught.value.code == "cannot_be_had"

    play(story, a_file("a", wishes={"context": 100_000}))


@pytest.mark.parametrize(
    ("general", "wishes", "capabilities"),
    [
        ({}, {"embedding": True}, [Capability.EMBEDDINGS]),
        ({}, {"purpose": "embedding"}, [Capability.EMBEDDINGS]),
        ({"embedding": True}, {}, [Capability.EMBEDDINGS]),
        ({"embedding": True}, {"embedding": False}, ALL_OF_IT),
        ({}, {"vision": False}, [Capability.CHAT, Capability.COMPLETION]),
        ({}, {}, ALL_OF_IT),
    ],
)
def test_a_model_offers_what_it_is_to_be_started_for_before_and_after_it_is_loaded(
    general: dict[str, object], wishes: dict[str, object], capabilities: list[Capability]
) -> None:
    async def whole() -> None:
        fakes = Fakes(settings=Settings(engine=EngineOptions(**general)))  # type: ignore[arg-type] # a table
        fakes.add("a")
        seeing = {"capabilities": tuple(ALL_OF_IT), "projector": "/m/p", "projector_bytes": 1000}
        fakes.reader.models["/m/a.gguf"] = replace(fakes.reader.models["/m/a.gguf"], **seeing)  # type: ignore[arg-type]
        fakes.configuration = Configuration(models=(a_file("a", wishes=wishes),))
        supervisor = Supervisor(fakes.house(), Findings(models=(), looked=()), lambda _: None)
        await supervisor.read_headers()
        assert list(supervisor.find("a").capabilities) == capabilities
        assert list((await supervisor.lease("a")).model.capabilities) == capabilities
        await supervisor.close()

    run(whole)


def test_a_command_is_run_and_its_server_asked_plainly() -> None:
    declared = replace(
        a_command("images", "sd-server", "--port", "5801"), name="Images", description="draws", unlisted=True,
        capabilities=Capabilities(context_tokens=77), metadata={"a": 1}, ttl_s=30.0,
    )  # fmt: skip

    async def story(scene: Scene) -> None:
        lease = await scene.supervisor.lease("images")
        assert scene.fakes.commands.starts == [declared.source]
        model = lease.model
        assert (model.phase, model.engine, model.plain, model.unlisted) == (Phase.LOADED, "command", True, True)
        assert (model.name, model.description, model.context_length, model.metadata) == (
            "Images",
            "draws",
            77,
            {"a": 1},
        )
        assert (model.started_by, model.ttl_s) == ("sd-server --port 5801", 30.0)
        assert model.address.startswith("http://127.0.0.1:")
        assert (lease.rewrite(b"{}"), lease.sent_name) == (b"{}", "")
        assert scene.supervisor.find("images").requests == 1

    scene = play(story, declared)
    (ready,) = [item for item in scene.told if isinstance(item, news.CommandReady)]
    assert ready.model_id == "images"


def test_a_llama_server_is_told_what_ours_is_told() -> None:
    async def story(scene: Scene) -> None:
        assert not scene.supervisor.find("m").plain

    play(story, a_command("m", "/usr/bin/llama-server", "-m", "x.gguf"))


def test_bodies_are_changed_by_the_name_that_was_asked_for() -> None:
    filters = Filters(by_name={"m:high": {"effort": "high"}})

    async def story(scene: Scene) -> None:
        high, plain = await scene.supervisor.lease("m:high"), await scene.supervisor.lease("m")
        assert high.rewrite(b'{"model":"m:high"}') == b'{"model":"m:high","effort":"high"}'
        assert plain.rewrite(b'{"model":"m"}') == b'{"model":"m"}'

    play(story, a_command("m", filters=filters, aliases=("m:high",)))


def test_without_a_source_nothing_is_read_anew() -> None:
    async def story(scene: Scene) -> None:
        with pytest.raises(UsageError, match="no configuration is served"):
            await scene.supervisor.reload()

    play(story)


def test_servers_elsewhere_are_served_by_both_of_their_names() -> None:
    peer = Peer(id="box", line=1, url="https://box.example", models=("big",))

    async def story(scene: Scene) -> None:
        assert (await scene.supervisor.lease("box/big")).model.id == "box/big"
        assert scene.supervisor.find("box/big").aliases == ("big",)
        lease = await scene.supervisor.lease("big")
        assert lease.rewrite(b'{"model":"big"}') == b'{"model":"big"}'
        assert lease.sent_name == "big"
        (spec,) = scene.fakes.commands.starts
        assert (spec.argv, spec.url) == ((), "https://box.example")

    play(story, peers=(peer,))


def test_a_name_that_two_servers_elsewhere_have_is_neithers_own() -> None:
    peers = tuple(Peer(id=name, line=1, url="https://box.example", models=("big",)) for name in ("a", "b"))

    async def story(scene: Scene) -> None:
        assert [model.aliases for model in scene.supervisor.models() if model.id.endswith("/big")] == [(), ()]

    play(story, peers=peers)


def test_a_rule_says_who_leaves_for_whom() -> None:
    rule = Groups(groups=(Group(name="g", members=("x", "y"), exclusive=False),))

    async def story(scene: Scene) -> None:
        (await scene.supervisor.lease("x")).release()
        (await scene.supervisor.lease("z")).release()
        other = scene.ask("y")
        await settle()
        await scene.fakes.clock.advance(20)
        await other
        phases = {name: scene.supervisor.find(name).phase for name in "xyz"}
        assert phases == {"x": Phase.UNLOADED, "y": Phase.LOADED, "z": Phase.LOADED}

    play(story, *(a_command(name) for name in "xyz"), rule=rule)


def test_a_name_that_is_not_listed_is_not_told_to_whoever_asks_for_another() -> None:
    async def story(scene: Scene) -> None:
        with pytest.raises(NotFoundError) as refused:
            scene.supervisor.find("secre")
        assert refused.value.hint == "there are: x, any"
        assert scene.supervisor.find("secret").id == "secret"

    hidden = Selector(id="own", line=1, strategy=Strategy.PIN, targets=("x",), unlisted=True)
    play(
        story, a_command("x"), a_command("secret", unlisted=True),
        selectors=(hidden, replace(hidden, id="any", unlisted=False)),
    )  # fmt: skip


def test_models_elsewhere_and_those_here_leave_each_other_alone() -> None:
    peer = Peer(id="box", line=1, url="https://box.example", models=("big",))

    async def story(scene: Scene) -> None:
        for name in ("x", "box/big", "x", "box/big"):
            (await scene.supervisor.lease(name)).release()
        assert [scene.supervisor.find(name).phase for name in ("x", "box/big")] == [Phase.LOADED, Phase.LOADED]
        assert [spec.model_id for spec in scene.fakes.commands.starts] == ["x", "box/big"]

    play(story, a_command("x"), peers=(peer,), rule=Groups(groups=()))


def test_a_selector_stands_for_the_one_that_is_warm() -> None:
    selector = Selector(id="any", line=1, strategy=Strategy.WARM, targets=("x", "y"))

    async def story(scene: Scene) -> None:
        (await scene.supervisor.lease("y")).release()
        assert scene.supervisor.find("any").id == "y"
        assert (await scene.supervisor.lease("any")).model.id == "y"
        with pytest.raises(NotFoundError) as caught:
            scene.supervisor.find("none")
        assert caught.value.hint == "there are: x, y, any"

    play(story, a_command("x"), a_command("y"), selectors=(selector,))


def test_a_selector_is_listed_with_the_model_that_it_means_at_this_moment() -> None:
    warm = Selector(id="any", line=1, strategy=Strategy.WARM, targets=("x", "alias"))
    hidden = Selector(id="none", line=1, strategy=Strategy.PIN, targets=("x",), unlisted=True)

    async def story(scene: Scene) -> None:
        def meaning() -> dict[str, list[str]]:
            return {model.id: [one.id for one in model.selectors] for model in scene.supervisor.models()}

        assert meaning() == {"x": ["any"], "y": []}
        (await scene.supervisor.lease("y")).release()
        assert meaning() == {"x": [], "y": ["any"]}

    play(story, a_command("x"), a_command("y", aliases=("alias",)), selectors=(warm, hidden))


def test_those_that_are_to_be_there_come_by_themselves() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.welcome()
        await settle()
        phases = {name: scene.supervisor.find(name).phase for name in ("first", "pin", "bad", "rest")}
        assert phases == {
            "first": Phase.LOADED, "pin": Phase.LOADED, "bad": Phase.FAILED, "rest": Phase.UNLOADED,
        }  # fmt: skip

    scene = play(
        story, a_command("first"), a_file("pin", keep=Keep.PINNED), a_file("bad", "/none.gguf"), a_command("rest"),
        preload=("first", "bad"),
    )  # fmt: skip
    (failed,) = [item for item in scene.told if isinstance(item, news.LoadFailed)]
    assert (failed.model_id, "/none.gguf: no such file" in failed.error) == ("bad", True), "once, and as all that fail"


def test_what_is_in_memory_already_is_not_planned_again_when_the_file_is_read_anew() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.welcome()
        await settle()
        await scene.supervisor.adopt(scene.configuration)
        assert [type(item) for item in scene.told].count(news.ModelRead) == 1

    play(story, a_file("pin", keep=Keep.PINNED))


def test_what_was_read_otherwise_is_told_at_the_start() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.welcome()
        assert scene.texts() == ["line 7: an unknown key"]

    play(story, a_command("m"), notes=(Note(line=7, kind=NoteKind.IGNORED, text="an unknown key"),))


def test_what_cannot_be_read_says_so_to_who_asks_for_it() -> None:
    async def story(scene: Scene) -> None:
        with pytest.raises(ReadError, match="no such file"):
            await scene.supervisor.lease("bad")

    play(story, a_file("bad", "/none.gguf"))


def test_a_model_that_idles_too_long_goes() -> None:
    async def story(scene: Scene) -> None:
        (await scene.supervisor.lease("m")).release()
        await scene.fakes.clock.advance(29)
        assert scene.supervisor.find("m").phase is Phase.LOADED
        await scene.fakes.clock.advance(2)
        assert scene.supervisor.find("m").phase is Phase.UNLOADED

    play(story, a_command("m", ttl_s=30.0))


def test_load_and_unload_by_hand() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.load("m")
        assert scene.supervisor.find("m").phase is Phase.LOADED
        lease = await scene.supervisor.lease("m")
        leaving = asyncio.create_task(scene.supervisor.unload("m"))
        await settle()
        assert not leaving.done(), "it finishes what it serves"
        lease.release()
        await leaving
        assert scene.supervisor.find("m").phase is Phase.UNLOADED
        await scene.supervisor.unload("m")

    play(story, a_command("m"))


def test_a_start_that_nobody_wants_any_more_is_ended() -> None:
    async def story(scene: Scene) -> None:
        engine = scene.fakes.commands.engine
        engine.gate = asyncio.Event()
        loading = asyncio.create_task(scene.supervisor.load("m"))
        await settle()
        await scene.supervisor.unload("m")
        assert engine.cancelled == 1
        assert scene.supervisor.find("m").phase is Phase.UNLOADED
        engine.gate = None
        with pytest.raises(BusyError, match="m was let go of before it was ready"):
            await loading
        await scene.supervisor.load("m")

    play(story, a_command("m"))


def test_an_unload_by_hand_is_over_though_somebody_has_the_model_loaded_again_at_once() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.load("m")
        gate = scene.fakes.commands.engine.stop_gate = asyncio.Event()
        leaving = asyncio.create_task(scene.supervisor.unload("m"))
        await settle()
        again = asyncio.create_task(scene.supervisor.lease("m"))
        await settle()
        assert not leaving.done()
        gate.set()
        await leaving
        (await again).release()

    play(story, a_command("m"))


def test_a_load_by_hand_of_a_model_that_leaves_at_once_is_over() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.load("m")
        await settle()
        assert scene.supervisor.find("m").phase is Phase.UNLOADED

    play(story, a_command("m", ttl_s=0.0))


def test_a_load_by_hand_waits_for_room_whatever_went_wrong_before() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.prober.machine = a_machine(400 * MIB)
        scene.fakes.engine.outcomes = [EngineError("no such file")]
        with pytest.raises(EngineError, match="no such file"):
            await scene.supervisor.load("m")
        held = await scene.supervisor.lease("other")
        loading = asyncio.create_task(scene.supervisor.load("m"))
        await settle()
        assert not loading.done()
        held.release()
        await scene.fakes.clock.advance(60)
        await loading

    play(story, a_file("m"), a_file("other", "b"))


def test_for_a_program_that_is_not_there_nobody_leaves() -> None:
    rule = Groups(groups=(Group(name="g", members=("x", "y")),))

    async def story(scene: Scene) -> None:
        (await scene.supervisor.lease("x")).release()
        scene.fakes.commands.missing = EngineError("there is no program y", code="no_such_program")
        with pytest.raises(EngineError, match="there is no program y"):
            await scene.supervisor.lease("y")
        assert [model.phase for model in scene.supervisor.models()] == [Phase.LOADED, Phase.FAILED]
        assert [spec.model_id for spec in scene.fakes.commands.starts] == ["x"]
        scene.fakes.commands.missing = None
        (await scene.supervisor.lease("y")).release()
        assert [spec.model_id for spec in scene.fakes.commands.starts] == ["x", "y"]

    scene = play(story, a_command("x"), a_command("y"), rule=rule)
    assert [(one.model_id, one.error) for one in scene.told if isinstance(one, news.LoadFailed)] == [
        ("y", "there is no program y")
    ]


def test_a_load_by_hand_that_fails_says_why() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.commands.engine.outcomes = [EngineError("no such program")]
        with pytest.raises(EngineError, match="no such program"):
            await scene.supervisor.load("m")

    play(story, a_command("m"))


def test_a_load_by_hand_for_which_there_can_be_no_room_says_so() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.prober.machine = a_machine(400 * MIB)
        await scene.supervisor.load("pin")
        with pytest.raises(BusyError, match=r"fast needs .* beside the pinned models"):
            await scene.supervisor.load("fast")
        assert any("beside the pinned models" in text for text in scene.texts())

    play(story, a_file("pin", "b", keep=Keep.PINNED), a_file("fast"))


def test_a_load_by_hand_ends_with_the_server() -> None:
    async def story(scene: Scene) -> None:
        scene.fakes.commands.engine.gate = asyncio.Event()
        loading = asyncio.create_task(scene.supervisor.load("m"))
        await settle()
        await scene.supervisor.close()
        with pytest.raises(StoppingError):
            await loading

    play(story, a_command("m"))


def test_what_is_read_anew_restarts_only_what_has_changed() -> None:
    async def story(scene: Scene) -> None:
        held = await scene.supervisor.lease("changes")
        (await scene.supervisor.lease("stays")).release()
        (await scene.supervisor.lease("goes")).release()
        fresh = Configuration(
            models=(
                a_command("changes", "another"),
                a_command("stays", ttl_s=9.0),
                a_command("comes"),
                a_file("lost", "/none.gguf"),
            ),
            preload=("comes",),
        )
        await scene.supervisor.adopt(fresh)
        await settle()
        assert [model.id for model in scene.supervisor.models()] == ["changes", "stays", "comes", "lost"]
        assert scene.supervisor.find("comes").phase is Phase.LOADED
        assert [spec.argv[0] for spec in scene.fakes.commands.starts].count("another") == 0, "it still answers"
        held.release()
        await settle()
        again = await scene.supervisor.lease("changes")
        assert scene.fakes.commands.starts[-1].argv == ("another",)
        again.release()
        with pytest.raises(NotFoundError):
            scene.supervisor.find("goes")
        assert [spec.model_id for spec in scene.fakes.commands.starts].count("stays") == 1

    scene = play(story, a_command("changes"), a_command("stays"), a_command("goes"))
    (told,) = [item for item in scene.told if isinstance(item, news.Reloaded)]
    assert (told.changed, told.added, told.gone) == (("changes",), ("comes", "lost"), ("goes",))


def test_a_file_with_other_wishes_is_planned_anew_and_loaded_anew() -> None:
    async def story(scene: Scene) -> None:
        (await scene.supervisor.lease("m")).release()
        await scene.supervisor.adopt(Configuration(models=(a_file("m", wishes={"context": 512}),)))
        await settle()
        assert (await scene.supervisor.lease("m")).model.slot_context_tokens == 512

    play(story, a_file("m"))


def test_a_model_that_is_found_and_declared_is_declared() -> None:
    async def whole() -> None:
        fakes = Fakes()
        found = fakes.add("a", "b")
        fakes.configuration = Configuration(models=(a_command("a"),))
        told: list[news.News] = []
        supervisor = Supervisor(fakes.house(), Findings(models=found, looked=()), told.append)
        await supervisor.welcome()
        assert [model.id for model in supervisor.models()] == ["a", "b"]
        assert supervisor.find("a").plain
        assert [item.text for item in told if isinstance(item, news.Warned)] == [
            "/m/a.gguf is not served: the configuration has another a"
        ]
        await supervisor.close()

    run(whole)


def test_streams_tell_of_loading_where_a_model_or_else_the_whole_says_so() -> None:
    async def story(scene: Scene) -> None:
        assert [scene.supervisor.find(name).tells_loading for name in ("x", "y")] == [True, False]

    play(story, a_command("x", loading_state=True), a_command("y"))
    told = Fakes()
    told.configuration = Configuration(gateway=Gateway(loading_state=True))
    found = told.add("a")
    [seen] = Supervisor(told.house(), Findings(models=found, looked=()), lambda _: None).models()
    assert seen.tells_loading


def test_a_model_stays_as_long_as_somebody_says_but_for_others_and_the_configuration() -> None:
    async def story(scene: Scene) -> None:
        first, second = await scene.supervisor.lease("x"), await scene.supervisor.lease("x")
        assert scene.supervisor.stay("x", 0) == "x stays in memory: 2 others use it"
        first.release()
        assert scene.supervisor.stay("x", 0) == "x stays in memory: another request uses it"
        assert scene.supervisor.stay("x", 5) == ""
        second.release()
        await settle()
        await scene.fakes.clock.advance(5)
        assert scene.supervisor.find("x").phase is Phase.UNLOADED
        (await scene.supervisor.lease("x")).release()
        assert scene.supervisor.stay("x", 0) == ""
        await settle()
        assert scene.supervisor.find("x").phase is Phase.UNLOADED
        (await scene.supervisor.lease("y")).release()
        assert scene.supervisor.stay("y", 0) == "y stays in memory, says the configuration"

    play(story, a_command("x"), a_command("y", keep=Keep.PINNED))


def test_a_command_that_leaves_for_another_has_the_time_that_its_configuration_gives_it() -> None:
    impatient = replace(a_command("x"), source=CommandSpec(model_id="x", argv=("server",), stop_s=3.0))
    rule = Groups(groups=(Group(name="g", members=("x", "y")),))

    async def story(scene: Scene) -> None:
        (await scene.supervisor.lease("x")).release()
        (first,) = scene.fakes.commands.engine.processes
        other = scene.ask("y")
        await settle()
        await scene.fakes.clock.advance(30)
        await other
        assert first.stopped_within_s == 3.0

    play(story, impatient, a_command("y"), rule=rule)


def test_what_is_warm_comes_at_the_start_and_again_when_nobody_waits_for_its_room() -> None:
    rule = Groups(groups=(Group(name="g", members=("x", "y")),))

    async def story(scene: Scene) -> None:
        await scene.supervisor.welcome()
        await settle()
        assert scene.supervisor.find("x").phase is Phase.LOADED
        other = scene.ask("y")
        await settle()
        await scene.fakes.clock.advance(30)
        (await other).release()  # type: ignore[attr-defined] # what is asked for is a lease
        assert scene.supervisor.find("x").phase is Phase.UNLOADED
        await scene.supervisor.unload("y")
        await settle()
        assert scene.supervisor.find("x").phase is Phase.LOADED

    play(story, a_command("x", keep=Keep.WARM), a_command("y"), rule=rule)


WORK = Profile(id="work", line=1, pins={"big": "x", "x": "y", "y": None, "some": "any", "own": "x"})


def test_a_profile_gives_names_another_model_and_never_twice() -> None:
    async def story(scene: Scene) -> None:
        find = scene.supervisor.find
        assert find("x").id == "x", "none is in force at the start"
        scene.supervisor.switch("work")
        assert scene.supervisor.profiles().active == "work"
        assert (find("big").id, find("x").id, find("alias").id, find("some").id) == ("x", "y", "x", "x")
        assert (await scene.supervisor.lease(find("big").asked)).model.id == "x"
        with pytest.raises(NotFoundError, match="in the profile work"):
            find("y")
        with pytest.raises(NotFoundError, match="no profile 'play'") as caught:
            scene.supervisor.switch("play")
        assert caught.value.hint == "there are: work"
        scene.supervisor.switch("")
        assert find("y").id == "y"

    selector = Selector(id="any", line=1, strategy=Strategy.PIN, targets=("x",))
    scene = play(
        story, a_command("x", aliases=("alias",)), a_command("y"), profiles=(WORK,), selectors=(selector,)
    )  # fmt: skip
    assert scene.texts() == ["the profile work is in force", "no profile is in force"]


def test_a_profile_in_force_survives_a_configuration_that_still_has_it() -> None:
    async def story(scene: Scene) -> None:
        scene.supervisor.switch("work")
        await scene.supervisor.adopt(scene.configuration)
        assert scene.supervisor.profiles().active == "work"
        await scene.supervisor.adopt(replace(scene.configuration, profiles=()))
        assert scene.supervisor.profiles().active == ""

    scene = play(story, a_command("x"), a_command("y"), profiles=(WORK,))
    assert scene.texts()[-1] == "the profile work is gone, so none is in force"


def test_models_are_listed_under_the_names_of_the_profile_and_of_aliases_if_asked() -> None:
    async def story(scene: Scene) -> None:
        scene.supervisor.switch("work")
        assert [dict(model.also) for model in scene.supervisor.models()] == [{"big": "profile", "own": "profile"}, {}]
        aliased = replace(scene.configuration, gateway=Gateway(aliases_listed=True))
        await scene.supervisor.adopt(aliased)
        assert [dict(model.also) for model in scene.supervisor.models()] == [{"own": "alias", "big": "profile"}, {}]

    play(story, a_command("x", aliases=("own",)), a_command("y"), profiles=(WORK,))


def test_a_lease_waits_for_its_server_as_long_as_the_configuration_says() -> None:
    async def story(scene: Scene) -> None:
        assert (await scene.supervisor.lease("x")).address.timeouts == Timeouts(connect_s=1.0)

    play(story, a_command("x", timeouts=Timeouts(connect_s=1.0)))


def test_paths_that_load_nothing_reach_the_door_when_the_configuration_is_read_anew() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.adopt(replace(scene.configuration, gateway=Gateway(asset_paths=("x",))))
        assert scene.fakes.door.assets == [("x",)]
        assert scene.fakes.door.sessions == [SESSION_HEADERS]

    play(story, a_command("x"))


def test_a_side_request_is_answered_by_a_substitute_that_is_in_memory_and_else_by_its_own() -> None:
    async def story(scene: Scene) -> None:
        assert scene.supervisor.side_rules() == (SideRule(id="titles", line=1, max_tokens=5),)
        (await scene.supervisor.lease("x")).release()
        instead = await scene.supervisor.lease("y", substitutes=("x",))
        assert instead.model.id == "x"
        instead.release()
        own = await scene.supervisor.lease("y", substitutes=("z",))
        assert own.model.id == "y"
        own.release()

    rules = (SideRule(id="titles", line=1, max_tokens=5),)
    play(story, a_command("x"), a_command("y"), a_command("z"), side_rules=rules)


def test_a_glance_at_a_model_counts_for_nothing() -> None:
    async def story(scene: Scene) -> None:
        assert scene.supervisor.glance("x") is None
        (await scene.supervisor.lease("x")).release()
        glance = scene.supervisor.glance("x")
        assert glance is not None
        assert scene.supervisor.find("x").requests == 0
        glance.release()
        assert scene.supervisor.find("x").ignores_websockets

    play(story, a_command("x", ignore_websockets=True))


def cores(scene: Scene, *names: str) -> list[tuple[int, ...]]:
    """The CPUs that loaded models are kept to."""
    return [scene.supervisor.find(name).cores for name in names]


AUTO: dict[str, object] = {"cores": "auto"}


def test_models_that_ask_for_a_share_of_the_cores_get_one_each() -> None:
    async def story(scene: Scene) -> None:
        for name in ("x", "y"):
            (await scene.supervisor.lease(name)).release()
        assert cores(scene, "x", "y") == [(0, 1, 2, 3), (4, 5, 6, 7)]
        found = scene.supervisor.find("x")
        assert found.cores_because == "auto: 4 cores; y may be in memory beside it and has others"
        assert [spec.settings.cores for spec in scene.fakes.engine.starts] == cores(scene, "x", "y")

    assert play(story, a_file("x", wishes=AUTO), a_file("y", "b", wishes=AUTO)).texts() == []


def test_what_is_said_for_all_models_is_said_for_those_that_are_found() -> None:
    async def whole() -> None:
        fakes = Fakes(settings=Settings(engine=EngineOptions(cores="auto")))
        supervisor = Supervisor(fakes.house(), Findings(models=fakes.add("a", "b"), looked=()), lambda _: None)
        (await supervisor.lease("b")).release()
        assert supervisor.find("b").cores == (4, 5, 6, 7)
        await supervisor.close()

    run(whole)


def test_what_gets_no_cores_or_keeps_to_none_is_told_at_the_start() -> None:
    async def story(scene: Scene) -> None:
        await scene.supervisor.welcome()
        none, roams = scene.texts()
        assert none.startswith("i: cores auto: a, b, c and 6 more need 9 shares")
        assert roams.startswith("run is kept to no cores")
        with pytest.raises(RefusedError, match="so i gets none"):
            await scene.supervisor.lease("i")

    play(story, *(a_file(name, wishes=AUTO) for name in "abcdefghi"), a_command("run"))


def test_when_it_is_read_anew_only_those_whose_cores_change_start_anew() -> None:
    async def story(scene: Scene) -> None:
        for name in ("x", "y"):
            (await scene.supervisor.lease(name)).release()
        swapped = Configuration(models=(a_file("z", wishes=AUTO), a_file("y", "b", wishes=AUTO)))
        await scene.supervisor.adopt(swapped)
        await settle()
        (await scene.supervisor.lease("z")).release()
        assert cores(scene, "y", "z") == [(4, 5, 6, 7), (0, 1, 2, 3)]
        assert scene.supervisor.find("y").loads == 1
        grown = Configuration(models=(*swapped.models, a_file("w", wishes=AUTO)))
        await scene.supervisor.adopt(grown)
        await settle()
        for name in "wyz":
            (await scene.supervisor.lease(name)).release()
        held = cores(scene, "w", "y", "z")
        assert sorted(number for part in held for number in part) == list(range(8))
        assert scene.supervisor.find("y").loads == 2

    play(story, a_file("x", wishes=AUTO), a_file("y", "b", wishes=AUTO))


def test_models_on_nodes_of_their_own_are_counted_against_these_nodes() -> None:
    """Either node holds one of them and not two; main memory holds all."""

    async def story(scene: Scene) -> None:
        halves = tuple(
            NumaNode(id=index, cpus=tuple(range(4 * index, 4 * index + 4)), available_bytes=400 * MIB)
            for index in range(2)
        )
        scene.fakes.prober.machine = a_machine(1000 * MIB, nodes=halves)
        for name in ("x", "y"):
            (await scene.supervisor.lease(name)).release()
        phases = {name: scene.supervisor.find(name).phase for name in "xy"}
        assert phases == {"x": Phase.LOADED, "y": Phase.LOADED}
        assert [scene.supervisor.find(name).numa for name in "xy"] == [0, 1]
        (await scene.supervisor.lease("z")).release()
        phases = {name: scene.supervisor.find(name).phase for name in "xyz"}
        assert phases == {"x": Phase.LOADED, "y": Phase.UNLOADED, "z": Phase.LOADED}

    play(story, *(a_file(name, wishes={"numa": node}) for name, node in (("x", 0), ("y", 1), ("z", 1))))


def test_the_memory_that_one_model_may_take_is_not_all_there_is_for_the_others() -> None:
    async def story(scene: Scene) -> None:
        for name in ("large", "small"):
            (await scene.supervisor.lease(name)).release()
        phases = [scene.supervisor.find(name).phase for name in ("large", "small")]
        assert phases == [Phase.LOADED, Phase.LOADED]

    play(story, a_file("large"), a_file("small", "b", wishes={"memory": 300 * MIB}))


def test_the_memory_that_all_engines_may_take_is_shared() -> None:
    async def whole() -> None:
        fakes = Fakes(settings=Settings(engine=EngineOptions(memory=400 * MIB)))
        supervisor = Supervisor(fakes.house(), Findings(models=fakes.add("a", "b"), looked=()), lambda _: None)
        for name in ("a", "b"):
            (await supervisor.lease(name)).release()
        assert [supervisor.find(name).phase for name in ("a", "b")] == [Phase.UNLOADED, Phase.LOADED]
        await supervisor.close()

    run(whole)
