"""One model of a configuration, from its tree to its value."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from bercail.core.command import PORT, CommandSpec
from bercail.core.config_keys import CAPABILITIES, COMMAND, COMPAT, FILE, MODEL, TIMEOUTS, WISHES
from bercail.core.declared import Capabilities, Declared, Keep, ModelFile, Source, Timeouts
from bercail.core.expanding import expanded, portless
from bercail.core.filtering import read_filters
from bercail.core.keys import Table, open_table
from bercail.core.macros import Macros, mentions
from bercail.core.option import Kind, Option, read_value
from bercail.core.options import EngineOptions, options_of
from bercail.core.overflow import Overflow
from bercail.core.tree import (
    Entry,
    Fields,
    Items,
    Json,
    Node,
    NoteKind,
    Reading,
    Scalar,
    is_nothing,
    plain,
)
from bercail.core.units import Seconds

LAST_PORT = 65535
LEAST_READY_S = 15
"""llama-swap never waits less for a model to become ready."""

COMFYUI, COMFYUI_LIMIT = "comfyui_auto", 50
"""The model behind /comfyui, whose pages ask for many things at once."""

SWAP_LIMIT = 10
"""Requests that llama-swap takes at once for a model that does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class General:
    """What holds for every model that does not say otherwise.

    Attributes:
        ready_s: it must be ready after so long.
        stop_s: it is killed so long after it was asked to end.
        ttl_s: it is unloaded after so long without a request; None is never.
    """

    ready_s: Seconds = 120.0
    stop_s: Seconds = 10.0
    ttl_s: Seconds | None = None
    loading_state: bool = False


def declare(entry: Entry, macros: Macros, general: General, port: int, reading: Reading) -> Declared:
    """A model.

    Args:
        entry: its id and what is declared of it.
        macros: the general ones.
        general: what holds where it does not say otherwise.
        port: what ``${PORT}`` stands for if its command uses it.
        reading: the file.

    Raises:
        SettingsError: something in it is wrong.
    """
    where = f"models.{entry.name}"
    if not isinstance(entry.node, Fields):
        raise reading.error(entry.line, f"{where} holds no model", "give it a cmd, or a model with the path of a file")
    table = open_table(expanded(entry.name, entry.node, macros, port, reading, where), MODEL, reading, where)
    if table.has("model"):
        source: Source = _model_file(table, reading)
    else:
        _refuse_wishes(table, reading)
        source = _command(entry.name, table, general, port, reading)
    declared = _declared(entry, table, source, general, reading)
    return _for_comfyui(declared) if entry.name == COMFYUI else declared


def _declared(entry: Entry, table: Table, source: Source, general: General, reading: Reading) -> Declared:
    """What every model may say of itself, whatever starts it."""
    filters, names = read_filters(table, reading)
    compat = open_table(table.node("compat"), COMPAT, reading, table.at("compat"))
    return Declared(
        id=entry.name,
        line=entry.line,
        source=source,
        aliases=tuple(dict.fromkeys((*table.texts("aliases"), *(name for name in names if name != entry.name)))),
        ttl_s=_ttl_s(table.count("ttl", -1), general),
        keep=Keep(table.text("keep", Keep.NORMAL)),
        priority=table.count("priority", 0),
        unlisted=table.flag("unlisted", default=False),
        name=table.text("name").strip(),
        description=table.text("description").strip(),
        concurrency_limit=table.count("concurrencyLimit", 0) or (None if reading.strict else SWAP_LIMIT),
        overflow=Overflow(table.text("overflow")) if table.has("overflow") else None,
        upstream_name=table.text("useModelName"),
        filters=filters,
        timeouts=read_timeouts(table, reading, Timeouts()),
        metadata=read_pairs(table.node("metadata")),
        capabilities=_capabilities(table, reading),
        loading_state=table.flag("sendLoadingState", default=general.loading_state),
        ignore_websockets=compat.flag("ignoreWebsockets", default=False),
    )


def takes_port(declared: Declared) -> bool:
    """Whether its command was given a port."""
    return isinstance(declared.source, CommandSpec) and declared.source.port is not None


def _for_comfyui(declared: Declared) -> Declared:
    limit = max(COMFYUI_LIMIT, declared.concurrency_limit or 0)
    return replace(declared, concurrency_limit=limit, ignore_websockets=True)


def _ttl_s(seconds: int, general: General) -> Seconds | None:
    if seconds < 0:
        return general.ttl_s
    return float(seconds) or None


def split_command(text: str) -> tuple[str, ...]:
    """Program and arguments of a command line by the rules of a POSIX shell, without any of its powers.

    Lines that begin with ``#`` are left out, and backslashes at the ends of lines join them.

    Raises:
        ValueError: a quotation mark is not closed, or a backslash stands at the very end.
    """
    lines = (line for line in text.split("\n") if not line.lstrip().startswith("#"))
    joined = "\n".join(f"{line.strip()[:-1]} " if line.strip().endswith("\\") else line for line in lines)
    return tuple(shlex.split(joined))


def _argv(table: Table, name: str, reading: Reading) -> tuple[str, ...]:
    try:
        return split_command(table.text(name))
    except ValueError as error:
        raise reading.error(
            table.line(name), f"{table.at(name)}: {str(error).lower()}", "close the quotation mark, or escape it"
        ) from error


def _command(model_id: str, table: Table, general: General, port: int, reading: Reading) -> CommandSpec:
    argv = _argv(table, "cmd", reading)
    if not argv and not (reading.strict and table.has("proxy") and not table.has("cmd")):
        missing = "cmd is empty" if table.has("cmd") else "it has no cmd"
        hint = "write the program and its arguments, or a model with the path of a file"
        raise reading.error(table.line("cmd"), f"{table.where}: {missing}", hint)
    used = any(mentions(word, "PORT") for word in argv)
    url = table.text("proxy") or f"http://localhost:{PORT}"
    if mentions(url, "PORT") and not used:
        raise portless(reading, table.line("cmd"), table.where)
    if used and port > LAST_PORT:
        raise reading.error(table.line("cmd"), f"{table.where}: no port is left for it", "lower startPort")
    check_url(url.replace(PORT, str(port)), table, reading)
    return CommandSpec(
        model_id=model_id,
        argv=argv,
        stop_argv=_argv(table, "cmdStop", reading),
        url=url,
        check_path=_check_path(table, default="/health" if argv else ""),
        environment=_environment(table, reading),
        port=port if used else None,
        ready_s=_ready_s(table, general, reading),
        stop_s=float(table.count("unloadTimeout", 0)) or general.stop_s,
    )


def _check_path(table: Table, *, default: str) -> str:
    path = table.text("checkEndpoint", default)
    if path in ("", "none"):
        return default if not path else ""
    return path if path.startswith("/") else f"/{path}"


def _ready_s(table: Table, general: General, reading: Reading) -> Seconds:
    seconds = table.count("healthCheckTimeout", 0)
    if not seconds:
        return general.ready_s
    if not reading.strict:
        where = table.at("healthCheckTimeout")
        reading.note(
            table.line("healthCheckTimeout"), NoteKind.CHANGED, f"{where} counts here; llama-swap takes the general one"
        )
    return float(seconds)


def check_url(url: str, table: Table, reading: Reading) -> None:
    """Refuse what is no address of a server.

    Raises:
        SettingsError: that.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise reading.error(
            table.line("proxy"), f"{table.at('proxy')}: {url!r} is no address", "write one such as http://host:port"
        )


def _environment(table: Table, reading: Reading) -> dict[str, str]:
    environment = {}
    for index, item in enumerate(table.scalars("env")):
        name, equals, value = item.text.partition("=")
        if name and equals:
            environment[name] = value
            continue
        where = f"{table.at('env')}[{index}]"
        if reading.strict:
            raise reading.error(item.line, f"{where}: {item.text!r} is no variable", "write NAME=VALUE")
        reading.note(item.line, NoteKind.IGNORED, f"{where}: {item.text!r} is not NAME=VALUE and has no effect")
    return environment


_OPTIONS: Mapping[str, Option] = {spec.name: spec for spec in options_of(EngineOptions)}


def _refuse_wishes(table: Table, reading: Reading) -> None:
    """Options of our engines mean nothing to a program that is started by its own command line."""
    for entry in table.fields.entries if reading.strict else ():
        if entry.name in {key.name for key in FILE} - {"model"}:
            raise reading.error(
                entry.line, f"{table.at(entry.name)} is for models that name a file", "write it into cmd as its option"
            )


def _model_file(table: Table, reading: Reading) -> ModelFile:
    for key in COMMAND:
        if table.has(key.name):
            raise reading.error(
                table.line(key.name),
                f"{table.where} has a model and {key.name}",
                "a model is a file that an engine is planned for, or a command: leave one of them out",
            )
    wishes = {
        key.name: _wish(_OPTIONS[key.name], node, reading, table)
        for key in WISHES
        if (node := table.fields.get(key.name)) is not None
    }
    return ModelFile(path=table.text("model"), gpus=_gpus(table, reading), wishes=wishes)


def _wish(spec: Option, node: Node, reading: Reading, table: Table) -> object:
    place = f"{reading.origin.place(node.line)}: {table.where}"
    if is_nothing(node):
        if spec.default is None:
            return None
        raise reading.error(node.line, f"{table.at(spec.name)} has no value", f"leave it out, or give it: {spec.help}")
    if isinstance(node, Scalar):
        if spec.kind is Kind.TEXT and not node.text.strip():
            raise reading.error(node.line, f"{table.at(spec.name)} is empty", spec.help)
        return read_value(spec, node.text, origin=place)
    return read_value(spec, [] if isinstance(node, Items) else {}, origin=place)


_GPU = re.compile(r"[A-Za-z]*\d{1,3}|none", re.ASCII)


def _gpus(table: Table, reading: Reading) -> tuple[str, ...]:
    texts = tuple(dict.fromkeys(table.texts("gpus")))
    for item in table.scalars("gpus"):
        if not _GPU.fullmatch(item.text) or (item.text == "none" and len(texts) > 1):
            raise reading.error(
                item.line,
                f"{table.at('gpus')}: {item.text!r} is no number of a GPU, nor a name such as CUDA0",
                "count from 0, as `bercail engine list` does; [none] keeps it off all of them",
            )
    return texts


def read_timeouts(table: Table, reading: Reading, default: Timeouts) -> Timeouts:
    """The time-outs below a table; ``default`` for what does not stand there.

    Raises:
        SettingsError: one is wrong.
    """
    own = open_table(table.node("timeouts"), TIMEOUTS, reading, table.at("timeouts"))

    def seconds(name: str, otherwise: Seconds | None) -> Seconds | None:
        return float(own.count(name, 0)) or None if own.has(name) else otherwise

    return Timeouts(
        connect_s=seconds("connect", default.connect_s),
        keepalive_s=seconds("keepalive", default.keepalive_s),
        response_header_s=seconds("responseHeader", default.response_header_s),
        tls_handshake_s=seconds("tlsHandshake", default.tls_handshake_s),
        expect_continue_s=seconds("expectContinue", default.expect_continue_s),
        idle_s=seconds("idleConn", default.idle_s),
    )


def _capabilities(table: Table, reading: Reading) -> Capabilities:
    own = open_table(table.node("capabilities"), CAPABILITIES, reading, table.at("capabilities"))
    return Capabilities(
        inputs=tuple(dict.fromkeys(own.texts("in"))),
        outputs=tuple(dict.fromkeys(own.texts("out"))),
        tools=own.flag("tools", default=False),
        reranker=own.flag("reranker", default=False),
        context_tokens=own.count("context", 0) or None,
    )


def read_pairs(node: Node | None) -> dict[str, Json]:
    """A mapping of anything."""
    return {entry.name: plain(entry.node) for entry in node.entries} if isinstance(node, Fields) else {}
