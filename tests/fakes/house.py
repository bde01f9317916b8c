"""Every plug of a house, filled with things that a test commands; nothing here waits for real time."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from bercail.core.access import Key
from bercail.core.activity import Entry, Grouping, Spent, Total
from bercail.core.bandwidth import Reading
from bercail.core.budget import Part
from bercail.core.build import Build, Recipe
from bercail.core.captured import Captured
from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration
from bercail.core.engine import EngineSettings, Make, Offer
from bercail.core.errors import BercailError, EngineError, ListenError, ReadError, StoreError
from bercail.core.history import Page, Tally, Wish
from bercail.core.launch import Address, Exit, Landed, LaunchSpec, Progress, TemplateVerdict
from bercail.core.machine import Machine
from bercail.core.model import Findings, FoundModel, Model
from bercail.core.options import Settings
from bercail.core.pulse import Pulse
from bercail.core.server import Server
from bercail.ports import Host, House
from bercail.store import MemoryLog
from fakes.models import a_build, a_found, a_machine, a_model
from fakes.upstream import FakeUpstream, Scripted

T = TypeVar("T")
SAFETY_S = 60.0


class _Inline(ThreadPoolExecutor):
    """Runs at once what would run in a thread, so that tests see one order of things."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the caller
            future.set_exception(error)
        return future


def run(main: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run a test; tasks it leaves behind and exceptions nobody saw are errors."""
    unseen: list[str] = []

    def complain(loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        unseen.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def watched() -> T:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(_Inline(max_workers=1))
        loop.set_exception_handler(complain)
        result = await asyncio.wait_for(main(), SAFETY_S)
        await settle()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"tasks left behind: {left}"
        return result

    result = asyncio.run(watched())
    assert not unseen, unseen
    return result


async def settle() -> None:
    """Let everything happen that can happen without time passing."""
    for _ in range(60):
        await asyncio.sleep(0)


class FakeClock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.sleeps: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.sleeps.append(delay_s)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_s + delay_s, waiter))
        await waiter

    async def advance(self, seconds: float) -> None:
        self.now_s += seconds
        for until_s, waiter in self._sleepers:
            if until_s <= self.now_s and not waiter.done():
                waiter.set_result(None)
        await settle()


@dataclass(slots=True, kw_only=True)
class FakeProber:
    """A machine whose bandwidth is measured at most once per call.

    Attributes:
        busy: share of the CPUs that others take in each measurement; the last one goes on.
    """

    machine: Machine = field(default_factory=a_machine)
    bandwidth: float | None = 30e9
    busy: tuple[float, ...] = (0.0,)
    measured: int = 0

    def probe(self) -> Machine:
        return self.machine

    def fingerprint(self, machine: Machine) -> str:
        return f"{machine.cpu.model_name}"

    def measure_bandwidth(self, machine: Machine) -> Reading | None:
        self.measured += 1
        busy = self.busy[min(self.measured, len(self.busy)) - 1]
        return None if self.bandwidth is None else Reading(bytes_per_s=self.bandwidth * (1 - busy), busy=busy)


@dataclass(slots=True, kw_only=True)
class FakeReader:
    """Models by path; what is not there cannot be read.

    Attributes:
        refusals: errors by path.
        bad_vocabulary: what the audit raises.
        audited: ids of the models whose vocabulary was looked at.
        read_paths: what was read, with the projector asked for.
    """

    models: dict[str, Model] = field(default_factory=dict)
    findings: Findings = field(default_factory=lambda: Findings(models=(), looked=()))
    by_path: dict[str, Findings] = field(default_factory=dict)
    refusals: dict[str, BercailError] = field(default_factory=dict)
    bad_vocabulary: BercailError | None = None
    audited: list[str] = field(default_factory=list)
    read_paths: list[tuple[str, str | None]] = field(default_factory=list)
    searches: list[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)

    def find(self, paths: Sequence[str], folders: Sequence[str]) -> Findings:
        self.searches.append((tuple(paths), tuple(folders)))
        if paths:
            return self.by_path.get(paths[0], Findings(models=(), looked=(f"{paths[0]}: absent",)))
        return self.findings

    def read(self, path: str, *, projector: str | None = None) -> Model:
        self.read_paths.append((path, projector))
        if path in self.refusals:
            raise self.refusals[path]
        if path not in self.models:
            raise ReadError("no such file", path=path, code="no_such_file")
        return self.models[path]

    def read_remote(self, url: str) -> Model:
        return self.read(url)

    def audit_vocabulary(self, model: Model) -> None:
        self.audited.append(model.id)
        if self.bad_vocabulary is not None:
            raise self.bad_vocabulary


class FakeProcess:
    """An engine process that dies when a test says so.

    Attributes:
        pulses: what it says next when it is asked whether it is well; after that it is.
        asked: how often it was.
    """

    def __init__(self, engine: "FakeEngine", pid: int, spec: LaunchSpec) -> None:
        self._engine = engine
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.pid = pid
        self.spec = spec
        self.address = Address(port=pid)
        self.stop_argv: tuple[str, ...] = ("end", "it")
        self.stopped_within_s: float | None = None
        self.pulses: list[Pulse] = []
        self.asked = 0

    async def pulse(self, timeout_s: float) -> Pulse:
        self.asked += 1
        return self.pulses.pop(0) if self.pulses else Pulse()

    async def wait(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float) -> Exit:
        self.stopped_within_s = grace_s
        if self._engine.stop_gate is not None:
            await self._engine.stop_gate.wait()
        self.die(code=0)
        return await self.wait()

    def die(self, code: int = -9) -> None:
        if not self._ended.done():
            self._ended.set_result(Exit(code=code, log_tail=("last words",)))
            self._engine.alive.discard(self.pid)

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        return ("last words",)

    def landed(self) -> tuple[Landed, ...]:
        return self._engine.landed

    def resident_bytes(self) -> int | None:
        return 123


BOXED = Offer(name="fake", id="embedded", make=Make.EMBEDDED)


class FakeEngine:
    """Starts processes that do nothing; fails as told; never lets more live at once than it may.

    Attributes:
        most_alive: as many may.
        outcomes: errors that the next starts raise; None is success.
        gate: starts wait for it.
        stop_gate: stops wait for it.
        seen: its offer when it is asked what it sees; None is the same as before.
        looks: how often it was asked that.
    """

    name = "fake"
    build = "b1"

    def __init__(self, offer: Offer = BOXED) -> None:
        self.offer = offer
        self.seen: Offer | None = None
        self.looks = 0
        self.outcomes: list[Exception | None] = []
        self.gate: asyncio.Event | None = None
        self.stop_gate: asyncio.Event | None = None
        self.verdict: TemplateVerdict | EngineError = TemplateVerdict(usable=True)
        self.tried: list[tuple[str, float]] = []
        self.processes: list[FakeProcess] = []
        self.starts: list[LaunchSpec] = []
        self.asked: list[tuple[str, EngineSettings]] = []
        self.drafts: list[str | None] = []
        self.says: tuple[Part, ...] = ()
        self.landed: tuple[Landed, ...] = ()
        self.cancelled = 0
        self.most_alive = 99
        self.alive: set[int] = set()

    async def look(self) -> Offer:
        self.looks += 1
        return self.seen or self.offer

    async def account(
        self, model_path: str, settings: EngineSettings, draft_path: str | None = None
    ) -> tuple[Part, ...]:
        self.asked.append((model_path, settings))
        self.drafts.append(draft_path)
        return self.says

    async def try_template(self, template: str, timeout_s: float) -> TemplateVerdict:
        self.tried.append((template, timeout_s))
        if isinstance(self.verdict, EngineError):
            raise self.verdict
        return self.verdict

    async def start(self, spec: LaunchSpec, on_progress: Callable[[Progress], None]) -> FakeProcess:
        self.starts.append(spec)
        on_progress(Progress(stage="weights", fraction=0.5))
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        assert len(self.alive) < self.most_alive, f"{self.most_alive + 1} engines at once"
        process = FakeProcess(self, 100 + len(self.processes), spec)
        self.processes.append(process)
        self.alive.add(process.pid)
        return process


@dataclass(slots=True, kw_only=True)
class FakeWorkshop:
    """Makes builds of nothing.

    Attributes:
        made: what is there.
        orders: what was asked for: recipe, jobs and source.
    """

    made: list[Build] = field(default_factory=list)
    orders: list[tuple[Recipe, int, str | None]] = field(default_factory=list)

    def builds(self) -> tuple[Build, ...]:
        return tuple(self.made)

    async def build(self, recipe: Recipe, *, jobs: int, source: str | None, tell: Callable[[Progress], None]) -> Build:
        self.orders.append((recipe, jobs, source))
        tell(Progress(stage="compiling", fraction=1.0))
        self.made.append(a_build(f"b1-{recipe.target}-{len(self.made)}"))
        return self.made[-1]

    async def verify(self, build: Build) -> tuple[str, ...]:
        return ()

    def remove(self, build: Build) -> None:
        self.made.remove(build)


@dataclass(slots=True, kw_only=True)
class FakeCache:
    """Keeps facts, or refuses to write."""

    facts: dict[tuple[str, str], dict[str, object]] = field(default_factory=dict)
    refusal: StoreError | None = None

    def get(self, kind: str, key: str) -> dict[str, object] | None:
        return self.facts.get((kind, key))

    def put(self, kind: str, key: str, value: dict[str, object]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.facts[kind, key] = value


@dataclass(slots=True, kw_only=True)
class FakeJournal:
    """Remembers who runs."""

    running: set[int] = field(default_factory=set)
    stops: dict[int, tuple[str, ...]] = field(default_factory=dict)
    ended: tuple[str, ...] = ()

    def record(self, pid: int, *, stop_argv: tuple[str, ...] = ()) -> None:
        self.running.add(pid)
        self.stops[pid] = stop_argv

    def forget(self, pid: int) -> None:
        self.running.discard(pid)

    def reconcile(self) -> tuple[str, ...]:
        return self.ended


@dataclass(slots=True, kw_only=True)
class FakeRegister:
    """Remembers servers.

    Attributes:
        running: those of others.
        announced: where this one said it serves, with its configuration and its record; None once it has withdrawn.
        told: all that was ever announced.
    """

    running: tuple[Server, ...] = ()
    announced: tuple[str, str, str] | None = None
    told: list[tuple[str, str, str]] = field(default_factory=list)

    def announce(self, url: str, config: str, record: str) -> None:
        self.announced = (url, config, record)
        self.told.append(self.announced)

    def withdraw(self) -> None:
        self.announced = None

    def servers(self) -> tuple[Server, ...]:
        return self.running


@dataclass(slots=True, kw_only=True)
class FakeKeyring:
    """API keys in memory; None is that none was ever made."""

    held: dict[str, Key] | None = None
    refusal: StoreError | None = None
    place: str = "/state/keys.json"

    def keys(self) -> Mapping[str, Key] | None:
        if self.refusal is not None:
            raise self.refusal
        return self.held

    def add(self, key: Key) -> None:
        self.held = {**(self.held or {}), key.id: key}

    def revoke(self, key_id: str, wall_s: float) -> Key:
        assert self.held is not None
        self.held[key_id] = replace(self.held[key_id], revoked_s=wall_s)
        return self.held[key_id]


@dataclass(slots=True, kw_only=True)
class FakeLedger:
    """Keeps entries, or refuses to begin.

    Attributes:
        sums: what it says of any question.
        asked: the questions.
        found, tallied: what it says of a wish, and of a model or all.
        wishes: those that were asked, and the names of models.
    """

    refusal: StoreError | None = None
    found: Page = field(default_factory=lambda: Page(rows=(), total=0))
    tallied: Tally | None = None
    wishes: list[Wish | str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    sums: tuple[Total, ...] = ()
    charged: tuple[Spent, ...] = ()
    asked: list[tuple[Grouping, float]] = field(default_factory=list)
    is_open: bool = False
    place: str = "/state/activity.db"

    def open(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.is_open = True

    def note(self, entry: Entry) -> None:
        self.entries.append(entry)

    def close(self) -> None:
        self.is_open = False

    def totals(self, grouping: Grouping, since_s: float) -> tuple[Total, ...]:
        self.asked.append((grouping, since_s))
        return self.sums

    def spent(self, since_s: float) -> tuple[Spent, ...]:
        if self.refusal is not None:
            raise self.refusal
        return tuple(one for one in self.charged if one.at_s >= since_s)

    def latest(self) -> int | None:
        return len(self.entries) if self.is_open else None

    def page(self, wish: Wish) -> Page:
        self.wishes.append(wish)
        return self.found

    def tally(self, model: str) -> Tally:
        assert self.tallied is not None, "nobody was expected to ask"
        self.wishes.append(model)
        return self.tallied


@dataclass(slots=True, kw_only=True)
class FakeArchive:
    """Keeps texts in memory."""

    kept: list[Captured] = field(default_factory=list)

    def open(self) -> None: ...

    def put(self, captured: Captured) -> None:
        self.kept.append(captured)

    def close(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class FakeDoor:
    """A door that notes when it was opened and shut.

    Attributes:
        refusal: what is wrong with its address.
        late_refusal: what opening raises, though nothing was wrong before.
        busy: draining waits for it; None is an idle door.
        cut: requests that are running when it is shut at once.
        keys: those of a configuration, each time it was told of them.
    """

    refusal: ListenError | None = None
    late_refusal: ListenError | None = None
    busy: asyncio.Event | None = None
    cut: int = 0
    host: Host | None = None
    closed_within_s: list[float] = field(default_factory=list)
    keys: list[tuple[str, ...]] = field(default_factory=list)
    assets: list[tuple[str, ...]] = field(default_factory=list)
    sessions: list[tuple[str, ...]] = field(default_factory=list)

    def take_keys(self, keys: Sequence[str]) -> None:
        self.keys.append(tuple(keys))

    def take_sessions(self, headers: Sequence[str]) -> None:
        self.sessions.append(tuple(headers))

    def take_assets(self, expressions: Sequence[str]) -> None:
        self.assets.append(tuple(expressions))

    def check(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    async def open(self, host: Host) -> str:
        if self.late_refusal is not None:
            raise self.late_refusal
        self.host = host
        return "http://127.0.0.1:8123"

    async def close(self, drain_s: float) -> int:
        self.closed_within_s.append(drain_s)
        if drain_s and self.busy is not None:
            await self.busy.wait()
            return 0
        return self.cut


class FakeShelf:
    """Keeps names; nothing unless a test gives it a place."""

    def __init__(self) -> None:
        self.place = ""
        self.names: set[str] = set()
        self.settled = 0

    def has(self, name: str) -> bool:
        return name in self.names

    def drop(self, name: str) -> None:
        self.names.discard(name)

    def settle(self) -> None:
        self.settled += 1


class FakeCommands:
    """Starts nothing, as an engine that is asked for would."""

    def __init__(self) -> None:
        self.engine = FakeEngine(Offer(name="command", id="command", make=Make.FOUND))
        self.starts: list[CommandSpec] = []
        self.missing: EngineError | None = None

    def check(self, spec: CommandSpec) -> None:
        if self.missing is not None:
            raise self.missing

    async def start(self, spec: CommandSpec, on_progress: Callable[[Progress], None]) -> FakeProcess:
        self.starts.append(spec)
        return await self.engine.start(cast("LaunchSpec", spec), on_progress)


class ClosingUpstream(FakeUpstream):
    """Notes that it was closed."""

    closed = False

    async def close(self) -> None:
        self.closed = True


@dataclass(slots=True, kw_only=True)
class Fakes:
    """The parts of a fake house, at hand for the test."""

    prober: FakeProber = field(default_factory=FakeProber)
    reader: FakeReader = field(default_factory=FakeReader)
    engine: FakeEngine = field(default_factory=FakeEngine)
    others: tuple[FakeEngine, ...] = ()
    workshop: FakeWorkshop = field(default_factory=FakeWorkshop)
    upstream: ClosingUpstream = field(default_factory=lambda: ClosingUpstream(Scripted()))
    door: FakeDoor = field(default_factory=FakeDoor)
    cache: FakeCache = field(default_factory=FakeCache)
    journal: FakeJournal = field(default_factory=FakeJournal)
    register: FakeRegister = field(default_factory=FakeRegister)
    keyring: FakeKeyring = field(default_factory=FakeKeyring)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    clock: FakeClock = field(default_factory=FakeClock)
    settings: Settings = field(default_factory=Settings)
    commands: FakeCommands = field(default_factory=FakeCommands)
    shelf: FakeShelf = field(default_factory=FakeShelf)
    configuration: Configuration = field(default_factory=Configuration)
    log: MemoryLog = field(default_factory=MemoryLog)

    def house(self) -> House:
        return House(
            settings=self.settings, configuration=self.configuration, prober=self.prober, reader=self.reader,
            engines=(self.engine, *self.others), commands=self.commands, workshop=self.workshop,
            upstream=self.upstream, door=self.door, cache=self.cache, shelf=self.shelf, journal=self.journal,
            keyring=self.keyring, ledger=self.ledger, clock=self.clock, log=self.log, register=self.register,
        )  # fmt: skip

    def add(self, *names: str) -> tuple[FoundModel, ...]:
        """Sound models of these names, found by any search."""
        found = tuple(a_found(name) for name in names)
        self.reader.findings = Findings(models=found, looked=("/m: looked",))
        for item in found:
            self.reader.models[item.path] = a_model(item.id)
        return found
