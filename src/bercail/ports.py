"""The shape of every plug. Adapters implement these; flows and doors know nothing else of the world."""

from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from bercail.core.access import Key
from bercail.core.activity import Entry, Grouping, Spent, Total
from bercail.core.budget import Part
from bercail.core.build import Build, Recipe
from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Profiles, SideRule
from bercail.core.engine import EngineSettings, Offer
from bercail.core.errors import EngineError
from bercail.core.launch import Address, Exit, Landed, LaunchSpec, Progress, TemplateVerdict
from bercail.core.loading import Wait
from bercail.core.log import Excerpt
from bercail.core.machine import Machine
from bercail.core.model import Findings, Model
from bercail.core.news import Reloaded
from bercail.core.options import EngineOptions, Settings
from bercail.core.pulse import Pulse
from bercail.core.route import ServedModel
from bercail.core.tree import Texts
from bercail.core.units import Seconds


class Prober(Protocol):
    """Looks at this machine."""

    def probe(self) -> Machine:
        """What may be used of the machine right now; bandwidth only if it was measured before."""
        ...

    def fingerprint(self, machine: Machine) -> str:
        """A key under which measurements of this machine may be kept."""
        ...

    def measure_bandwidth(self, machine: Machine) -> float | None:
        """Reading speed of main memory in bytes/s with all usable cores, at most about a second of work.

        None where it cannot be measured (too little free memory); the reason is up to the caller to tell.
        """
        ...


class ModelReader(Protocol):
    """Finds and reads model files."""

    def find(self, paths: Sequence[str], folders: Sequence[str]) -> Findings:
        """Models at ``paths`` (files or folders); else in ``folders``; else where other tools keep theirs."""
        ...

    def read(self, path: str, *, projector: str | None = None) -> Model:
        """The model at ``path``, checked for everything that would harm an engine short of reading token arrays.

        Raises:
            ReadError: it cannot be read or must not be loaded.
        """
        ...

    def read_remote(self, url: str) -> Model:
        """The model at ``url``, as far as its header tells: nothing else is fetched, and the file cannot be loaded.

        Raises:
            ReadError: it cannot be fetched, or is no model.
        """
        ...

    def audit_vocabulary(self, model: Model) -> None:
        """Read the token arrays and check what an engine would not survive (about 0.1 s for 150,000 tokens).

        Raises:
            ReadError: the vocabulary would abort an engine.
        """
        ...


class EngineProcess(Protocol):
    """A running, ready engine."""

    @property
    def address(self) -> Address:
        """Where it listens."""
        ...

    @property
    def pid(self) -> int:
        """Its process id; 0 for a server elsewhere."""
        ...

    @property
    def stop_argv(self) -> tuple[str, ...]:
        """A command that ends what its process alone does not (``docker stop NAME``); empty if there is none."""
        ...

    async def pulse(self, timeout_s: Seconds) -> Pulse:
        """Whether it is well, asked anew; it may take ``timeout_s`` to answer."""
        ...

    async def wait(self) -> Exit:
        """How it ended; returns when it has."""
        ...

    async def stop(self, grace_s: float) -> Exit:
        """Ask it to stop; after ``grace_s`` kill its whole process group."""
        ...

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        """The last lines of its log, oldest first."""
        ...

    def landed(self) -> tuple[Landed, ...]:
        """The buffers it made while it loaded, as it told of them; empty if it does not tell."""
        ...

    def resident_bytes(self) -> int | None:
        """Memory it holds (proportional set size where the system tells, else resident set), or None."""
        ...


class Engine(Protocol):
    """One kind of engine."""

    @property
    def name(self) -> str:
        """``llama.cpp`` ..."""
        ...

    @property
    def build(self) -> str:
        """Its build, such as ``b11549``: what it has taught is kept under this name."""
        ...

    @property
    def offer(self) -> Offer:
        """The engine as people name it, and what it is good for."""
        ...

    async def look(self) -> Offer:
        """Its offer with the GPUs that it sees right now; where it sees none or cannot be asked, with the reason."""
        ...

    async def try_template(self, template: str, timeout_s: float) -> TemplateVerdict:
        """Render sample conversations with the engine's own renderer, in a child that cannot hurt us."""
        ...

    async def account(
        self, model_path: str, settings: EngineSettings, draft_path: str | None = None
    ) -> tuple[Part, ...]:
        """What the engine itself says it would allocate beside the weights; nothing is loaded. Empty if it never can.

        What the model at ``draft_path`` would take to guess ahead is counted as well.

        Raises:
            EngineError: it refuses the model or the settings.
        """
        ...

    async def start(self, spec: LaunchSpec, on_progress: Callable[[Progress], None]) -> EngineProcess:
        """A process that answered a health check (alive is not ready).

        Must be awaited from the main thread's event loop: on Linux the death signal follows the spawning thread.
        Cancelling kills the child.

        Raises:
            EngineError: it did not become ready; carries the last lines of its log.
        """
        ...


class Commands(Protocol):
    """Starts programs that end in an HTTP server, and reaches servers elsewhere."""

    async def start(self, spec: CommandSpec, on_progress: Callable[[Progress], None]) -> EngineProcess:
        """A program that is ready, or a server elsewhere, of which only the address is checked.

        Raises:
            EngineError: it did not become ready; carries the last lines of its log.
        """
        ...


class Workshop(Protocol):
    """Makes engines from source, and keeps them."""

    def builds(self) -> tuple[Build, ...]:
        """What was made, the newest first."""
        ...

    async def build(self, recipe: Recipe, *, jobs: int, source: str | None, tell: Callable[[Progress], None]) -> Build:
        """Make what ``recipe`` says with ``jobs`` compilers at once, or find that it is there.

        ``source`` is the archive of the source, if it is not to be fetched.

        Raises:
            RefusedError: something that it takes is missing, or the archive is not what it should be.
            EngineError: it failed, with the first error.
        """
        ...

    async def verify(self, build: Build) -> tuple[str, ...]:
        """What is wrong with a build; empty if it is sound."""
        ...

    def remove(self, build: Build) -> None:
        """Delete a build.

        Raises:
            EngineError: it cannot be deleted.
        """
        ...


class UpstreamResponse(Protocol):
    """An answer whose headers have arrived."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, queued pieces joined.

        Raises:
            EngineError: the connection broke before the body ended.
        """
        ...

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """Hand the body to ``take`` as it comes, for which no task is woken, until it refuses a piece or the body ends.

        May return earlier. The piece that was refused, and everything after it, comes out of ``chunks``.

        Args:
            take: whether a piece, or several joined, was taken; raises nothing.
        """
        ...

    def abort(self) -> None:
        """Close the connection now, without waiting; harmless when the body has ended."""
        ...


class Tunnel(Protocol):
    """An engine's answer to the wish for a websocket, and the bytes that follow it."""

    @property
    def status(self) -> int:
        """101 if it is open."""
        ...

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case."""
        ...

    async def read(self) -> bytes:
        """The next bytes; none at the end, however it came."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand on bytes; waits while the engine does not read. Nothing if it has gone."""
        ...

    def close(self) -> None:
        """Send what waits, and end; harmless to repeat."""
        ...


class Upstream(Protocol):
    """The HTTP client towards engines: pooled, streaming, cancelled by closing the socket at once."""

    async def send(
        self, address: Address, method: str, target: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> UpstreamResponse:
        """The response once its headers have come. Cancelling aborts the connection.

        Raises:
            EngineError: nobody listens, or the connection broke before the headers.
        """
        ...

    async def tunnel(self, address: Address, target: str, headers: Sequence[tuple[bytes, bytes]]) -> Tunnel:
        """The answer to the wish for a websocket; whoever asks closes it.

        Raises:
            EngineError: nobody listens, or what came is no answer.
        """
        ...

    async def close(self) -> None:
        """Abort what is open."""
        ...


class Lease(Protocol):
    """The right to send one request to a loaded model; the model stays until it is released."""

    @property
    def address(self) -> Address:
        """Where the engine listens."""
        ...

    @property
    def model(self) -> ServedModel:
        """The model as loaded."""
        ...

    @property
    def load_s(self) -> Seconds:
        """How much of the wait for this lease the model was loading; 0 if it was there."""
        ...

    def rewrite(self, body: bytes) -> bytes:
        """A JSON object for it, with what a configuration changes in it."""
        ...

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        ...

    def failure(self) -> EngineError | None:
        """If the engine has died: what happened, with the last lines of its log."""
        ...


Watch: TypeAlias = Callable[[Callable[[], Wait]], None]
"""Takes a question that may be asked while a request waits in line."""


class Host(Protocol):
    """What a door serves from: the models, and the way to one of them."""

    def models(self) -> tuple[ServedModel, ...]:
        """Every model, loaded or not. Never starts one."""
        ...

    def find(self, model_id: str) -> ServedModel:
        """The model of that name, as the profile in force has it; an empty name is the only model, or the loaded one.

        Every other method takes ``asked`` of what was found, or an id, and looks at no profile.

        Raises:
            NotFoundError: there is none; says which there are, or where was looked if there is no model at all.
        """
        ...

    async def load(self, model_id: str) -> None:
        """Bring a model in without a request, where those that are idle make room; returns when it is ready.

        Raises:
            BusyError: there is no room that could be made now.
            BercailError: it cannot be loaded; see ``lease``.
        """
        ...

    async def unload(self, model_id: str) -> None:
        """Let a model finish what it serves and leave memory; returns when it has.

        Raises:
            NotFoundError: there is none.
        """
        ...

    def stay(self, model_id: str, stay_s: Seconds) -> str:
        """Let a model that is in memory idle there for ``stay_s`` until it leaves: 0 unloads, infinity is for ever.

        Returns:
            Why that is not done, in words; empty if it is.

        Raises:
            NotFoundError: there is none.
        """
        ...

    def profiles(self) -> Profiles:
        """What a configuration has of other names for models, and which are in force."""
        ...

    def switch(self, profile: str) -> None:
        """Put a profile in force, or none if its name is empty; requests that were taken go on as they were.

        Raises:
            NotFoundError: there is no such profile.
        """
        ...

    def side_rules(self) -> Sequence[SideRule]:
        """Which requests another model may answer rather than have theirs loaded."""
        ...

    async def reload(self) -> Reloaded:
        """Read the configuration anew and serve what it declares; what is wrong changes nothing.

        Raises:
            SettingsError: it is wrong; tells the file, the line and what to do.
            UsageError: there is none that could be read.
            StoppingError: the server is going down.
        """
        ...

    async def lease(
        self,
        model_id: str,
        key: str = "",
        priority: int = 0,
        *,
        substitutes: Sequence[str] = (),
        watch: Watch | None = None,
    ) -> Lease:
        """A lease on the model, after queueing and loading as needed. Cancelling leaves the queue.

        Args:
            model_id: as ``find`` takes it.
            key: whose share it counts for; empty is everybody without one.
            priority: 0 is ordinary; the higher, the sooner.
            substitutes: ids of models that may answer instead if they are ready and its own is not, the best first.
            watch: gets to ask how it stands with the wait, if there is one.

        Raises:
            NotFoundError: no such model.
            RefusedError: it does not fit.
            ReadError: its file must not be loaded.
            EngineError: its engine failed, with the last lines of the log.
            StoppingError: the server is going down.
        """
        ...

    def glance(self, model_id: str) -> Lease | None:
        """A lease that counts for nothing, so that the model may leave any moment; None if it is not in memory.

        Raises:
            NotFoundError: no such model.
        """
        ...


class Cache(Protocol):
    """Small facts worth keeping between runs; losing them costs time, never correctness."""

    def get(self, kind: str, key: str) -> dict[str, object] | None:
        """What was kept, or None."""
        ...

    def put(self, kind: str, key: str, value: dict[str, object]) -> None:
        """Keep it.

        Raises:
            StoreError: it cannot be written.
        """
        ...


class Shelf(Protocol):
    """Keeps what engines save of their contexts, within a budget."""

    @property
    def place(self) -> str:
        """Where engines write to, with a slash at its end; empty if nothing is kept.

        Raises:
            StoreError: it cannot be made.
        """
        ...

    def has(self, name: str) -> bool:
        """Whether it is there."""
        ...

    def drop(self, name: str) -> None:
        """Delete it; nothing if it is not there."""
        ...

    def settle(self) -> None:
        """See to what was written: nobody else may read it, and the budget holds."""
        ...


class Log(Protocol):
    """What we and engines say: the latest lines of each."""

    def add(self, source: str, text: str) -> None:
        """Keep a line of ``source``: a model's engine, or ours if it is empty."""
        ...

    def since(self, place: Mapping[str, int], wanted: Callable[[str], bool]) -> Excerpt:
        """What the sources that are wanted have said since ``place``; an empty one is the beginning."""
        ...

    async def wait(self, last: int) -> bool:
        """Returns when there is a line after number ``last``; False if nobody says anything any more."""
        ...

    def close(self) -> None:
        """Nothing more is told to those who follow."""
        ...


class Journal(Protocol):
    """Remembers children on disk, so that the next start can end what outlived a killed server."""

    def record(self, pid: int, *, stop_argv: tuple[str, ...] = ()) -> None:
        """A child runs; ``stop_argv`` ends what its process alone does not."""
        ...

    def forget(self, pid: int) -> None:
        """It has ended."""
        ...

    def reconcile(self) -> tuple[str, ...]:
        """End what dead servers left running; what was ended, in words."""
        ...


class Keyring(Protocol):
    """The API keys of this server."""

    @property
    def place(self) -> str:
        """Where they are kept."""
        ...

    def keys(self) -> Mapping[str, Key] | None:
        """Every key by its id as of a moment ago, revoked ones too; None if none was ever made. Cheap.

        Raises:
            StoreError: they cannot be read, and never could.
        """
        ...

    def add(self, key: Key) -> None:
        """Keep a new key.

        Raises:
            StoreError: it cannot be kept.
        """
        ...

    def revoke(self, key_id: str, wall_s: Seconds) -> Key:
        """Put a key out of force at ``wall_s`` (unix seconds).

        Raises:
            NotFoundError: there is no such key.
            StoreError: it cannot be written.
        """
        ...


class Ledger(Protocol):
    """The record of what requests have taken."""

    def open(self) -> None:
        """Begin to record.

        Raises:
            StoreError: it cannot; nothing is recorded then.
        """
        ...

    def note(self, entry: Entry) -> None:
        """Record an entry soon; never waits, never fails."""
        ...

    def close(self) -> None:
        """Write what waits, and end."""
        ...

    def totals(self, grouping: Grouping, since_s: Seconds) -> tuple[Total, ...]:
        """Sums of what ended since ``since_s`` (unix seconds); by day the newest first, else the most tokens first.

        Raises:
            StoreError: it cannot be read.
        """
        ...

    def spent(self, since_s: Seconds) -> tuple[Spent, ...]:
        """What keys were charged for since, the oldest first.

        Raises:
            StoreError: it cannot be read.
        """
        ...


class Clock(Protocol):
    """Time as flows see it."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait."""
        ...


class Door(Protocol):
    """What lets clients in."""

    def take_keys(self, keys: Sequence[str]) -> None:
        """From now on let in whoever shows one of these keys, which a configuration holds, beside the keyring's."""
        ...

    def take_assets(self, expressions: Sequence[str]) -> None:
        """From now on load no model for paths below ``/upstream/MODEL`` that match one of these expressions."""
        ...

    async def open(self, host: Host) -> str:
        """Listen; the URL.

        Raises:
            ListenError: the address is taken or not ours.
        """
        ...

    async def close(self, drain_s: float) -> int:
        """Take no new requests, let running ones finish for ``drain_s``, cut the rest; how many were cut."""
        ...


class Configurations(Protocol):
    """Reads configurations, and looks for what they name."""

    def gather(self, file: str | None, folder: str | None) -> Texts:
        """The texts of a file, and of every file of a folder, which are read as one; ``file`` may be the folder.

        Raises:
            SettingsError: one cannot be read, there is none, or one is named twice.
        """
        ...

    def read(self, texts: Texts) -> Configuration:
        """The configuration that files hold together, settings beside it checked as well.

        Raises:
            SettingsError: something in it is wrong; tells the line and what to do.
        """
        ...

    def look(self, file: str | None, folder: str | None) -> Hashable | None:
        """Something that differs once one of them is another, or has been written to; None while one is not there."""
        ...

    def wishes(self, texts: Texts) -> EngineOptions:
        """What files wish of the engines of all models.

        Raises:
            SettingsError: as ``read``.
        """
        ...

    def has_file(self, path: str, file: str) -> bool:
        """Whether a path that ``file`` names leads to a file or folder; it may begin where ``file`` lies."""
        ...

    def has_program(self, name: str, path: str | None) -> bool:
        """Whether a program can be started; ``path`` are the folders searched, or None for those of this process."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """Every plug, filled: what the flows work with.

    Attributes:
        engines: all that are at hand; the one in the box first.
        configuration: models that the settings file declares, and what belongs to them.
    """

    settings: Settings
    prober: Prober
    reader: ModelReader
    engines: tuple[Engine, ...]
    commands: Commands
    workshop: Workshop
    upstream: Upstream
    door: Door
    cache: Cache
    shelf: Shelf
    journal: Journal
    log: Log
    keyring: Keyring
    ledger: Ledger
    clock: Clock
    configuration: Configuration = field(default_factory=Configuration)

    @property
    def engine(self) -> Engine:
        """The engine in the box: it is asked about templates and accounts, whichever of its kind serves."""
        return self.engines[0]
