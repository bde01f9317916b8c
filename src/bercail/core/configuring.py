"""A configuration, from the tree of its file to its value."""

import re
import warnings
from dataclasses import fields as groups_of
from dataclasses import replace
from functools import partial

from bercail.core import config_keys
from bercail.core.config_keys import TOP
from bercail.core.configuration import ASSETS, SESSION_HEADERS, Configuration, Gateway, Rule
from bercail.core.declared import Declared
from bercail.core.declaring import LEAST_READY_S, General, declare, takes_port
from bercail.core.grouping import read_groups, read_matrix
from bercail.core.keys import Table, as_count, named, open_table
from bercail.core.log import LEVELS, TIMES
from bercail.core.macros import Macros, expand, read_macros, resolve
from bercail.core.naming import Names, preloaded, read_peers, read_profiles, read_selectors, read_side_rules, take_names
from bercail.core.options import MOVED, Settings
from bercail.core.tree import (
    Dialect,
    Entry,
    Fields,
    Node,
    Note,
    NoteKind,
    Origin,
    Reading,
    Scalar,
    kind_of,
)

GROUPS = tuple(group.name for group in groups_of(Settings))
"""The groups of settings, which stand beside the configuration in one file."""

ANCHORS = "x-"
"""Top-level keys that begin so hold YAML anchors; nobody reads them."""

_OURS = frozenset({"model", "keep", "priority", "gpus"})
KNOWN = tuple(key.name for key in TOP)
"""Every key at the top of a configuration."""
_OURS_ON_TOP = frozenset(key.name for key in TOP if key.ours)


def dialect_of(root: Fields) -> Dialect:
    """Whose file it is: llama-swap's if it has keys of llama-swap and none that only Bercail has."""
    names = set(root.names)
    models = root.get("models")
    declared = [entry.node for entry in models.entries] if isinstance(models, Fields) else []
    ours = any(name in _OURS_ON_TOP or name.partition(".")[0] in GROUPS for name in names) or any(
        isinstance(node, Fields) and not _OURS.isdisjoint(node.names) for node in declared
    )
    if ours or (isinstance(models, Fields) and _moved(models)):
        return Dialect.BERCAIL
    return Dialect.LLAMA_SWAP if names & set(KNOWN) else Dialect.BERCAIL


def read_configuration(root: Fields, origin: Origin) -> Configuration:
    """The configuration of a file; its groups of settings are somebody else's to read.

    Args:
        root: what the file holds.
        origin: the file, or the files that were merged.

    Raises:
        SettingsError: something in it is wrong; tells the line and what to do.
    """
    reading = Reading(origin=origin, dialect=dialect_of(root))
    fields, macros = _expanded(root, reading)
    top = _top(fields, reading)
    _refuse_moved(top, reading)
    general = reading.attempt(lambda: _general(top, reading), 1) or General()
    gateway = reading.attempt(lambda: _gateway(top, general, reading), 1) or Gateway()
    models = _models(top, macros, general, reading)
    reading.settle()  # what follows is about the names of models
    names = Names()
    trees = {entry.name: entry.node for entry in top.entries("models") if isinstance(entry.node, Fields)}
    take_names(models, trees, names, reading)
    routing = open_table(top.node("routing"), config_keys.ROUTING, reading, "routing")
    rule = reading.attempt(lambda: _rule(top, routing, models, reading), routing.fields.line)
    side_rules = reading.attempt(
        lambda: read_side_rules(top.node("side_requests"), names, reading), top.line("side_requests")
    )
    priorities = reading.attempt(lambda: _priorities(routing, names, reading), routing.fields.line) or {}
    peers = reading.attempt(lambda: read_peers(top.node("peers"), names, reading), top.line("peers"))
    reading.settle()  # what follows is about the names of peers as well
    selectors = read_selectors(top.node("selectors"), names, rule, reading)
    profiles = read_profiles(top.node("profiles"), names, reading)
    return Configuration(
        dialect=reading.dialect,
        models=tuple(
            replace(model, priority=priorities.get(model.id, model.priority), line=origin.own(model.line))
            for model in models
        ),
        rule=rule,
        profiles=profiles,
        selectors=selectors,
        side_rules=side_rules or (),
        peers=peers or (),
        preload=_preload(top, names, reading),
        gateway=gateway,
        start_port=top.count("startPort", Configuration().start_port),
        notes=_in_order(reading),
    )


def _top(fields: Fields, reading: Reading) -> Table:
    """The whole file as a table; keys that hold what they may not are left out, and kept as wrong."""
    whole = reading.attempt(lambda: open_table(fields, TOP, reading, "", also=GROUPS), fields.line)
    if whole is not None:
        return whole
    wrong = {error.line for error in reading.wrong}
    entries = (entry for entry in fields.entries if wrong.isdisjoint((entry.line, entry.node.line)))
    return Table(fields=Fields(entries=tuple(entries), line=fields.line), where="")


def _in_order(reading: Reading) -> tuple[Note, ...]:
    """Notes by their lines; where there are several files, with the name of theirs."""
    origin = reading.origin
    notes = sorted(reading.notes, key=lambda note: note.line)
    if len(origin.files) == 1:
        return tuple(notes)
    return tuple(
        replace(note, line=origin.own(note.line), text=f"{origin.file(note.line)}: {note.text}") for note in notes
    )


def _moved(models: Fields) -> tuple[Entry, ...]:
    """Settings that were once below ``models``."""
    return tuple(
        entry for entry in models.entries if f"models.{entry.name}" in MOVED and not isinstance(entry.node, Fields)
    )


def _refuse_moved(top: Table, reading: Reading) -> None:
    models = top.node("models")
    for entry in _moved(models) if isinstance(models, Fields) else ():
        old = f"models.{entry.name}"
        hint = f"it is called {MOVED[old]} now"
        reading.wrong.append(reading.error(entry.line, f"unknown setting {old!r}", hint, code="unknown_setting"))


def _expanded(root: Fields, reading: Reading) -> tuple[Fields, Macros]:
    """The file with its general macros replaced everywhere but below ``models``, and these macros.

    What is unknown at the top of a llama-swap file, or begins with ``x-`` in ours, is left out.
    """
    macros = read_macros(root.get("macros"), reading, "macros")
    values = resolve(macros, {}, reading, "macros")
    entries = []
    for entry in root.entries:
        name = entry.name
        if name in KNOWN:
            as_it_is = name in ("models", "macros")
            entries.append(entry if as_it_is else replace(entry, node=expand(entry.node, values, reading, name)))
        elif not name.startswith(ANCHORS) and not (reading.strict and _is_setting(name)):
            entries.append(entry)
    return Fields(entries=tuple(entries), line=root.line), macros


def _is_setting(name: str) -> bool:
    """Whether a top-level key is a group of settings, or the full name of one setting."""
    return name in GROUPS or "." in name


def _general(top: Table, reading: Reading) -> General:
    default = General()
    ready_s = top.count("healthCheckTimeout", int(default.ready_s))
    if ready_s < LEAST_READY_S:
        line = top.line("healthCheckTimeout")
        if reading.strict and ready_s < 1:
            raise reading.error(line, f"healthCheckTimeout: {ready_s} is less than 1", "write seconds")
        if not reading.strict:
            text = f"healthCheckTimeout is {LEAST_READY_S}, as in llama-swap: {ready_s} is less than it takes"
            reading.note(line, NoteKind.CHANGED, text)
            ready_s = LEAST_READY_S
    return General(
        ready_s=float(ready_s),
        stop_s=float(top.count("unloadTimeout", 0)) or default.stop_s,
        ttl_s=float(top.count("globalTTL", 0)) or None,
        loading_state=top.flag("sendLoadingState", default=False),
    )


def _models(top: Table, macros: Macros, general: General, reading: Reading) -> tuple[Declared, ...]:
    """The models in the order of the file; ports are given in the order of their ids."""
    node = top.node("models")
    moved = _moved(node) if isinstance(node, Fields) else ()
    entries = [entry for entry, _ in named(node, reading, "models") if entry not in moved]
    port = top.count("startPort", Configuration().start_port)
    found: dict[str, Declared] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        model = reading.attempt(partial(declare, entry, macros, general, port, reading), entry.line)
        if model is not None:
            found[entry.name] = model
            port += takes_port(model)
    return tuple(found[entry.name] for entry in entries if entry.name in found)


def _rule(top: Table, routing: Table, models: tuple[Declared, ...], reading: Reading) -> Rule | None:
    """Who may be in memory together: groups, a matrix, or, in our own files that have neither, what fits."""
    router = open_table(routing.node("router"), config_keys.ROUTER, reading, "routing.router")
    old = tuple(name for name in ("groups", "matrix") if top.has(name))
    if len(old) > 1:
        raise reading.error(top.line("matrix"), "there are groups and a matrix", "take one of them out")
    if old and routing.has("router"):
        raise reading.error(
            top.line(old[0]),
            f"there is {old[0]} and routing.router",
            f"migrate: move {old[0]} to routing.router.settings",
        )
    ids = tuple(model.id for model in models)
    if old:
        table, use, where = top, old[0], old[0]
    else:
        where = "routing.router.settings"
        keys = next(key.below for key in config_keys.ROUTER if key.name == "settings")
        table = open_table(router.node("settings"), keys, reading, where)
        use = "matrix" if router.text("use") == "matrix" else "groups"
        unused = "groups" if use == "matrix" else "matrix"
        if table.has(unused):
            reading.note(table.line(unused), NoteKind.IGNORED, f"{where}.{unused} is ignored: the router uses {use}")
        where = f"{where}.{use}"
    if use == "matrix":
        if not table.has("matrix"):
            raise reading.error(
                router.line("use"), "routing.router uses a matrix, and there is none", "write it to settings.matrix"
            )
        return read_matrix(table.node("matrix"), ids, reading, where)
    if reading.strict and not table.has("groups"):
        return None
    return read_groups(table.node("groups"), ids, reading, where)


def _priorities(routing: Table, names: Names, reading: Reading) -> dict[str, int]:
    """Priorities by id; an alias counts for its model."""
    where = "routing.scheduler"
    scheduler = open_table(routing.node("scheduler"), config_keys.SCHEDULER, reading, where)
    keys = next(key.below for key in config_keys.SCHEDULER if key.name == "settings")
    settings = open_table(scheduler.node("settings"), keys, reading, f"{where}.settings")
    fifo = open_table(settings.node("fifo"), config_keys.FIFO, reading, f"{where}.settings.fifo")
    found = {}
    for entry in fifo.entries("priority"):
        place = f"{fifo.at('priority')}.{entry.name}"
        if entry.name not in names.models:
            raise reading.unknown(entry.line, f"{place}: no model {entry.name!r}", entry.name, tuple(names.models))
        found[names.models[entry.name]] = _priority(entry.node, place, reading)
        if names.models[entry.name] != entry.name and not reading.strict:
            text = f"{place} counts for {names.models[entry.name]}; an alias has no effect there in llama-swap"
            reading.note(entry.line, NoteKind.CHANGED, text)
    return found


def _priority(node: Node, place: str, reading: Reading) -> int:
    try:
        if isinstance(node, Scalar):
            return as_count(node.value)
    except ValueError:
        pass
    raise reading.error(node.line, f"{place} is {kind_of(node)}, not a whole number", "higher ones come first")


def _preload(top: Table, names: Names, reading: Reading) -> tuple[str, ...]:
    hooks = open_table(top.node("hooks"), config_keys.HOOKS, reading, "hooks")
    startup = open_table(hooks.node("on_startup"), config_keys.STARTUP, reading, "hooks.on_startup")
    return tuple(dict.fromkeys(preloaded(startup.scalars("preload"), names, reading)))


def _gateway(top: Table, general: General, reading: Reading) -> Gateway:
    default = Gateway()
    performance = open_table(top.node("performance"), config_keys.PERFORMANCE, reading, "performance")
    kept = open_table(top.node("store"), config_keys.STORE, reading, "store")
    if kept.fields.get("path") is not None and not kept.text("path").strip():
        raise reading.error(kept.line("path"), "store.path is empty", "name a file, or leave store out")
    _idle_keys(top, reading)
    return Gateway(
        api_keys=_api_keys(top, reading),
        loading_state=general.loading_state,
        aliases_listed=top.flag("includeAliasesInList", default=False),
        asset_paths=_asset_paths(top, reading),
        log_level=_word(top, "logLevel", LEVELS, default.log_level, reading),
        log_time=_word(top, "logTimeFormat", TIMES, default.log_time, reading),
        log_output=top.text("logToStdout") or default.log_output,
        capture_mb=max(top.count("captureBuffer", 0), 0) if top.has("captureBuffer") else None,
        store_path=kept.text("path"),
        session_headers=_session_headers(top, reading),
        samples=not performance.flag("disabled", default=False),
        sample_s=performance.duration("every", default.sample_s),
    )


def _idle_keys(top: Table, reading: Reading) -> None:
    if top.has("logRequests"):
        reading.note(top.line("logRequests"), NoteKind.IGNORED, "logRequests has no effect, as in llama-swap")
    if top.has("metricsMaxInMemory"):
        top.count("metricsMaxInMemory", 0)
        words = "metricsMaxInMemory has no effect: activity.days and activity.size bound the record of requests"
        reading.note(top.line("metricsMaxInMemory"), NoteKind.IGNORED, words)


def _word(top: Table, name: str, words: tuple[str, ...], default: str, reading: Reading) -> str:
    """One of some words; llama-swap takes its default for any other, which is told."""
    word = top.text(name).lower()
    if not word or word in words:
        return word or default
    message = f"{name}: {top.text(name)!r} is none of {', '.join(words)}"
    if reading.strict:
        raise reading.error(top.line(name), message, "write one of them")
    reading.note(top.line(name), NoteKind.CHANGED, f"{message}; {default or 'nothing'} is taken, as in llama-swap")
    return default


def _api_keys(top: Table, reading: Reading) -> tuple[str, ...]:
    for index, item in enumerate(top.scalars("apiKeys")):
        if not item.text:
            raise reading.error(item.line, f"apiKeys[{index}] is empty", "write a key, or take the line out")
        if any(sign.isspace() for sign in item.text):
            raise reading.error(item.line, f"apiKeys[{index}] holds a blank", "keys have none: take it out")
    return top.texts("apiKeys")


def _asset_paths(top: Table, reading: Reading) -> tuple[str, ...]:
    upstream = open_table(top.node("upstream"), config_keys.UPSTREAM, reading, "upstream")
    for item in upstream.scalars("ignorePaths"):
        try:
            with warnings.catch_warnings(action="ignore"):
                re.compile(item.text)
        except (re.error, OverflowError, RecursionError) as error:
            raise reading.error(
                item.line, f"upstream.ignorePaths: {item.text!r} is no expression: {error}", "correct it"
            ) from error
    return upstream.texts("ignorePaths") or (ASSETS,)


def _session_headers(top: Table, reading: Reading) -> tuple[str, ...]:
    ui = open_table(top.node("ui"), config_keys.UI, reading, "ui")
    activity = open_table(ui.node("activity"), config_keys.ACTIVITY, reading, "ui.activity")
    if activity.node("session_id") is None:
        return SESSION_HEADERS
    headers: dict[str, str] = {}
    for text in activity.texts("session_id"):
        if text.strip():
            headers.setdefault(text.strip().lower(), text.strip())
    return tuple(headers.values())
