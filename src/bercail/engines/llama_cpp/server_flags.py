"""What to launch -> the command line of ``llama-server``, of this build or another. Pure.

A build that lacks a flag gets the older one that means the same, or goes without it and that is told.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bercail.core.elsewhere import llama_server
from bercail.core.launch import Address, LaunchSpec
from bercail.engines.llama_cpp.flags import HTTP_TIMEOUT_S, LOADING_VERBOSITY, SPARE_HTTP_THREADS


def render(spec: LaunchSpec, address: Address) -> tuple[str, ...]:
    """The arguments of ``llama-server`` (b11549) for ``spec``, without the program."""
    plan = llama_server(
        spec.model_path,
        spec.projector_path,
        replace(spec.settings, cores=(), numa=None),  # `leashed` keeps it there
        drafting_layers=spec.drafting_layers,
        draft_path=spec.draft_path,
    )
    return (*plan[1:], *_serving(spec, address))


def _serving(spec: LaunchSpec, address: Address) -> tuple[str, ...]:
    where = (
        ("--host", address.unix_path) if address.unix_path else ("--host", address.host, "--port", str(address.port))
    )
    return (
        *where, "--alias", spec.model_id, "--offline", "--no-ui", "--slots", "--metrics",
        "--threads-http", str(spec.settings.slots + SPARE_HTTP_THREADS), "--timeout", str(HTTP_TIMEOUT_S),
        # As for the embedded engine: the gateway keeps connections alive, and pages of a browser have no business here.
        "--sse-ping-interval", "0", "--cors-origins", "null", "--no-cors-credentials",
        "--reasoning-format", "auto", "--log-verbosity", str(LOADING_VERBOSITY), "--log-colors", "off",
        *(("--chat-template", spec.chat_template) if spec.chat_template else ()),
        *(("--slot-save-path", spec.slot_folder) if spec.slot_folder else ()),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one build of ``llama-server`` understands.

    Attributes:
        flags: every flag in its help.
        valued: of these, the ones that take a value.
        socket: it listens at unix sockets.
        child: it can be the child of another server: tells of its progress, and reads a farewell.
    """

    flags: frozenset[str]
    valued: frozenset[str]
    socket: bool
    child: bool


_HEAD = re.compile(r"(?:--?[a-zA-Z][\w-]*(?:,\s*|\s+|$))+")
"""The names of one option; what follows after a single space is its value, after more it is its description."""
_FLAG = re.compile(r"--?[a-zA-Z][\w-]*")


def parse_help(text: str) -> Dialect:
    """The dialect of a build, from what it prints for ``--help``."""
    heads = [found[0] for line in text.splitlines() if (found := _HEAD.match(line))]
    valued = [head for head in heads if head.endswith(" ") and not head.endswith("  ")]
    flags = frozenset(flag for head in heads for flag in _FLAG.findall(head))
    return Dialect(
        flags=flags,
        valued=frozenset(flag for head in valued for flag in _FLAG.findall(head)),
        socket=".sock" in text,
        child="--models-max" in flags,
    )


_VERSION = re.compile(r"version: (?:\d+(?:\.\d+)+\S* \(build )?(\d+)(?![.\d])")
"""``version: 6123 (1a2b3c4)`` of older builds, ``version: 0.6.0-dev (build 11549, commit b11549)`` of newer ones."""


def parse_version(text: str) -> str:
    """The build, such as ``b11549``, from what it prints for ``--version``; empty if it does not tell."""
    found = _VERSION.search(text)
    return f"b{found[1]}" if found else ""


_OLDER: Mapping[tuple[str, ...], tuple[tuple[str, ...], ...]] = {
    ("--load-mode", "mmap"): ((),),  # what it does anyway
    ("--load-mode", "none"): (("--no-mmap",),),
    ("--flash-attn", "on"): (("-fa",),),
    ("--flash-attn", "off"): ((),),
    ("--no-ui",): (("--no-webui",), ()),
    ("--fit", "off"): ((),),  # it fits nothing by itself
    ("--repack",): ((),),
    ("--no-kv-unified",): ((),),
    ("--no-cache-idle-slots",): ((),),
    ("--no-context-shift",): ((),),
    ("--sse-ping-interval", "0"): ((),),
    ("--cors-origins", "null"): ((),),
    ("--no-cors-credentials",): ((),),
    ("--log-colors", "off"): ((),),
    ("--no-mmproj-offload",): ((),),
    ("--no-mmproj",): ((),),
    ("--offline",): ((),),
}
"""What older builds say instead, the best first; nothing where that is what they do by themselves."""
_RENAMED: Mapping[str, tuple[str, ...]] = {
    "--ctx-checkpoints": ("--swa-checkpoints",),
    "--spec-draft-n-max": ("--draft-max",),
    "--spec-draft-model": ("--model-draft",),
    "--log-verbosity": ("--verbosity",),
}
_NEEDED = frozenset(("--model", "--mmproj", "--ctx-size", "--parallel", "--cache-type-k", "--cache-type-v",
                     "--gpu-layers", "--device", "--split-mode", "--tensor-split", "--main-gpu", "--n-cpu-moe",
                     "--spec-draft-model", "--chat-template"))  # fmt: skip
"""Without one of these it would not run what was planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """A command line for another build.

    Attributes:
        lacking: flags it was planned with and goes without.
        refused: of these, the first one that it cannot do without, or empty.
    """

    arguments: tuple[str, ...]
    lacking: tuple[str, ...] = ()
    refused: str = ""


def translate(arguments: Sequence[str], dialect: Dialect) -> Translated:
    """``arguments`` (of b11549) in the words of another build."""
    said: list[str] = []
    lacking: list[str] = []
    for group in _groups(arguments):
        words = _word_for(group, dialect)
        if words is None:
            lacking.append(" ".join(group))
        else:
            said.extend(words)
    refused = next((flag for flag in lacking if flag.split()[0] in _NEEDED), "")
    return Translated(arguments=tuple(said), lacking=tuple(lacking), refused=refused)


def _groups(arguments: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Each flag with its value, if it has one."""
    group: list[str] = []
    for argument in arguments:
        if argument.startswith("--") and group:
            yield tuple(group)
            group = []
        group.append(argument)
    if group:
        yield tuple(group)


def _word_for(group: tuple[str, ...], dialect: Dialect) -> tuple[str, ...] | None:
    flag, *values = group
    if flag in dialect.flags and bool(values) == (flag in dialect.valued):
        return group
    for other in _RENAMED.get(flag, ()):
        if other in dialect.flags:
            return (other, *values)
    for words in _OLDER.get(group, ()):
        if not words or words[0] in dialect.flags:
            return words
    return None
