"""The one place that picks adapters: Settings -> House."""

import asyncio
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from bercail.core.build import Target
from bercail.core.configuration import Gateway as Declared
from bercail.core.configuration import Loaded, capture_bytes
from bercail.core.engine import Make
from bercail.core.errors import SettingsError
from bercail.core.log import Telling, format_time
from bercail.core.options import ServerOptions, Settings
from bercail.demo import demo_path
from bercail.engines import (
    Commands,
    Embedded,
    HttpUpstream,
    LlamaCpp,
    OnnxRuntime,
    OpenVino,
    Patience,
    Server,
    Workshop,
    check_files,
    end_orphan,
    port_notice,
    said_by,
    stand_in_command,
    translated,
    without_gpus,
)
from bercail.flows import around, chosen
from bercail.ports import Configurations, Engine, House, ModelReader, Prober
from bercail.probes import LocalProber, NvidiaSmi, SystemSampler, find_smi
from bercail.readers import Readers
from bercail.store import (
    ActivityLedger,
    Child,
    ChildJournal,
    ConfigurationFiles,
    FileCache,
    FileKeyring,
    FolderArchive,
    FolderShelf,
    MemoryLog,
    Paths,
    ServerRegister,
    find_paths,
    is_alive,
    load_settings,
    look,
    make_private,
    read_scope,
)
from bercail.web import Gateway, Performance


def build_house(
    config: str | None, given: Mapping[str, object], *, folder: str | None = None, serving: bool = False
) -> House:
    """Every plug filled for this machine, this user and these settings.

    Args:
        config: a settings file named on the command line, or None.
        given: settings of the command line by key.
        folder: of further configurations that the command line names, or None.
        serving: engines will be started: make sure that the folder of their sockets is this user's alone.

    Raises:
        SettingsError: a file or variable is wrong.
        StoreError: the folder for sockets belongs to somebody else.
    """
    environment, home = os.environ, Path.home()
    paths = find_paths(environment, home=home, system=platform.system(), user_id=_user_id())
    loaded = load_settings(
        file=Path(config) if config else None,
        folder=Path(folder) if folder else None,
        default_file=paths.config / "bercail.yaml",
        environment=environment,
        given=given,
        home=home,
    )
    settings, gateway = loaded.settings, loaded.configuration.gateway
    if serving:
        make_private(paths.runtime, user_id=_user_id())
    upstream = HttpUpstream()
    keyring = FileKeyring(paths.state / "keys.json", _warn)
    ledger = _ledger(paths, loaded)
    journal = _journal(paths)
    log = _log(gateway)
    workshop = Workshop(paths.cache / "engines", environment, trial=demo_path())
    return House(
        settings=settings,
        prober=LocalProber(),
        reader=_reader(environment, home, paths),
        engines=_engines(paths, settings, workshop, environment, log),
        commands=Commands(environment, note=_warn, log_dir=paths.state / "log", journal=journal, hear=log.add),
        workshop=workshop,
        upstream=upstream,
        door=_door(loaded, upstream, keyring, ledger, log),
        cache=FileCache(paths.cache, _warn),
        shelf=FolderShelf(paths.state / "contexts", settings.server.saved_contexts),
        journal=journal,
        register=ServerRegister(
            paths.state / "servers", owner=look(os.getpid()), scope=read_scope(), look=look, warn=_warn
        ),
        log=log,
        keyring=keyring,
        ledger=ledger,
        clock=SystemClock(),
        configuration=loaded.configuration,
    )


def _ledger(paths: Paths, loaded: Loaded) -> ActivityLedger:
    """The record of requests, where the configuration wants it."""
    named = loaded.configuration.gateway.store_path
    return _ledger_at(Path(named) if named else paths.state / "activity.db", loaded.settings)


def _ledger_at(path: Path, settings: Settings) -> ActivityLedger:
    kept = settings.activity
    return ActivityLedger(path, days=kept.days, size=kept.size, warn=_warn, clock=time.time)


def with_record(house: House, place: str) -> House:
    """A house whose record of requests is the one at that path, to be read."""
    return replace(house, ledger=_ledger_at(Path(place), house.settings))


def build_configurations() -> Configurations:
    """What reads configurations, for commands that must work where the usual one is wrong."""
    return ConfigurationFiles(os.environ, Path.home())


def build_prober() -> Prober:
    """What looks at this machine, for the same commands."""
    return LocalProber()


def build_reader() -> ModelReader:
    """What reads models, likewise."""
    environment, home = os.environ, Path.home()
    paths = find_paths(environment, home=home, system=platform.system(), user_id=_user_id())
    return _reader(environment, home, paths)


def _reader(environment: Mapping[str, str], home: Path, paths: Paths) -> ModelReader:
    return Readers(environment, home, Path.cwd(), demo_path(), paths.cache / "headers")


def _engines(
    paths: Paths, settings: Settings, workshop: Workshop, environment: Mapping[str, str], log: MemoryLog
) -> tuple[Engine, ...]:
    """Every engine at hand: the one in the box, those built here, and a program that the settings name."""
    hosts: list[Embedded | Server] = [Embedded(), *(Server.built(build, environment) for build in workshop.builds())]
    named = settings.engine.engine
    if named and os.sep in named:
        program = Path(named).expanduser().absolute()
        if not (program.is_file() and os.access(program, os.X_OK)):
            raise SettingsError(f"engine.engine: {program} is no program", hint="name a llama-server, or auto")
        hosts.append(Server.found(program, environment, _warn))
    elif found := shutil.which("llama-server", path=environment.get("PATH")):
        hosts.append(Server.found(Path(found), environment, _warn))
    patience = Patience(silence_s=settings.engine.startup_timeout)
    logs = paths.state / "log"
    found_here: list[Engine] = [
        LlamaCpp(host, runtime_dir=paths.runtime, log_dir=logs, patience=patience, hear=log.add) for host in hosts
    ]
    for library in (OpenVino, OnnxRuntime):
        engine = library(runtime_dir=paths.runtime, log_dir=logs, patience=patience, hear=log.add)
        if engine.installed():
            found_here.append(engine)
    return tuple(found_here)


def llama_server(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, str], tuple[str, ...]]:
    """The program that does what ``llama-server`` would, the variables it gets, and what is worth telling of that.

    It is the server that the settings name, else a build made here that could be chosen, else the engine in the box.

    Raises:
        SettingsError: a file or variable is wrong.
        NotFoundError: the settings name an engine that is not there.
        UsageError: a flag is gone that no other one replaces, a file is not there, or a port is none.
    """
    older = said_by(environment)
    said, notices = translated((*older.arguments, *arguments))
    check_files(said)
    listens = port_notice(said, environment)
    house = build_house(None, {})
    choice = chosen(house, asyncio.run(around(house)), None).choice
    offer, because = choice.offer, choice.because
    if offer.make is Make.LIBRARY:
        raise SettingsError(f"{offer} does not take the command line of llama-server", hint="set engine.engine to auto")
    programs = {build.id: str(Path(build.folder) / "llama-server") for build in house.workshop.builds()}
    found = offer.id if offer.make is Make.FOUND else programs.get(offer.id)
    if offer.target == Target.CPU and offer.make is not Make.FOUND:
        said, more = without_gpus(said)
        notices += more
    command = (found,) if found else stand_in_command()
    if listens and offer.make is not Make.FOUND:  # another build may have another port of its own
        notices += (listens,)
    told = (f"{offer}: {because}", *older.notices, *notices)
    return (*command, *said), {name: environment[name] for name in environment.keys() - older.spent}, told


def new_loop() -> asyncio.AbstractEventLoop:
    """The fastest event loop there is here."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class SystemClock:
    """The clock of the event loop."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return asyncio.get_running_loop().time()

    async def sleep(self, delay_s: float) -> None:
        """Wait."""
        await asyncio.sleep(delay_s)


def _journal(paths: Paths) -> ChildJournal:
    return ChildJournal(
        paths.state / "children", owner=look(os.getpid()), scope=read_scope(), look=look, end=_end, warn=_warn
    )


def _door(
    loaded: Loaded, upstream: HttpUpstream, keyring: FileKeyring, ledger: ActivityLedger, log: MemoryLog
) -> Gateway:
    server, gateway = loaded.settings.server, loaded.configuration.gateway
    options = replace(server, capture=capture_bytes(server, gateway))
    door = Gateway(options, upstream, keyring=keyring, ledger=ledger, log=log, archive=_archive(options))
    sampler = SystemSampler(nvidia=NvidiaSmi(find_smi()).read) if gateway.samples else None
    door.take_performance(Performance(sampler, gateway.sample_s))
    return door


def _archive(options: ServerOptions) -> FolderArchive | None:
    """Where texts are kept as files.

    Raises:
        SettingsError: there is a folder for them, and none are kept.
    """
    if options.capture_folder is None:
        return None
    if not options.capture:
        hint = "say how much memory they may take while they pass: server.capture: 64MiB"
        raise SettingsError("server.capture_folder is set, and no texts are kept", hint=hint)
    return FolderArchive(Path(options.capture_folder).expanduser().absolute(), options.capture_disk, _warn)


def _end(child: Child) -> bool:
    # Its program may be another by now than the one that was written down: it begins as one of ours and becomes theirs.
    return end_orphan(child.process.pid, child.stop_argv, lambda: is_alive(child.process, look(child.process.pid)))


def _log(gateway: Declared) -> MemoryLog:
    """The log, which tells on the terminal what engines say if a configuration asks for it."""
    echoes = Telling(output=gateway.log_output).echoes
    return MemoryLog(_echo if echoes else None, stamper(gateway.log_time))


def stamper(way: str) -> Callable[[], str]:
    """What gives the time as log lines begin with it; ``way`` is one of ``core.log.TIMES``, or empty for nothing."""
    return lambda: f"{format_time(way, datetime.now().astimezone())} " if way else ""


def _echo(model_id: str, line: str) -> None:
    sys.stderr.write(f"{model_id} | {line}\n")


def _warn(text: str) -> None:
    sys.stderr.write(f"note     {text}\n")


def _user_id() -> int | None:
    return os.getuid() if hasattr(os, "getuid") else None
