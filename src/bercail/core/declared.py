"""Models as a configuration declares them: a file to be planned for, or a command; and what clients see of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from bercail.core.command import CommandSpec
from bercail.core.options import EngineOptions
from bercail.core.overflow import Overflow
from bercail.core.tree import Json
from bercail.core.units import Seconds, Tokens


class Keep(StrEnum):
    """Whether a model may be evicted to make room for another."""

    PINNED = "pinned"
    WARM = "warm"
    NORMAL = "normal"
    EVICTABLE = "evictable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What is changed in the bodies of requests, in this order.

    Attributes:
        strip: keys taken out, sorted; never ``model``.
        values: keys set; never ``model``.
        by_name: keys set where a request named the model so.
    """

    strip: tuple[str, ...] = ()
    values: Mapping[str, Json] = field(default_factory=dict)
    by_name: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Limits of the connections to a server; None is no limit."""

    connect_s: Seconds | None = 30.0
    keepalive_s: Seconds | None = 30.0
    response_header_s: Seconds | None = None
    tls_handshake_s: Seconds | None = 10.0
    expect_continue_s: Seconds | None = 1.0
    idle_s: Seconds | None = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a model is said to be able to do.

    Attributes:
        inputs: of text, audio and image; empty if it does not say.
        outputs: likewise.
        context_tokens: None if it does not say.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tools: bool = False
    reranker: bool = False
    context_tokens: Tokens | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model that Bercail plans for and starts an engine for.

    Attributes:
        path: a GGUF file, or the id of a model that is found.
        gpus: that it may use, by number or by the engine's names for them; empty leaves it to us.
        wishes: options of the engine that are set for this model, by name; the others are the general ones.
    """

    path: str
    gpus: tuple[str, ...] = ()
    wishes: Mapping[str, object] = field(default_factory=dict)

    def wish(self, general: EngineOptions) -> EngineOptions:
        """The wishes for it: its own, else the general ones."""
        wished = replace(general, **self.wishes)  # type: ignore[arg-type] # each was read as its option
        return replace(wished, gpus=",".join(self.gpus)) if self.gpus else wished


Source: TypeAlias = ModelFile | CommandSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One model of a configuration.

    Attributes:
        id: the name that clients use.
        line: where it is declared.
        aliases: other names that clients may use, those of ``filters.by_name`` included.
        ttl_s: it is unloaded after so long without a request; None is never.
        priority: waiting requests for a higher number come first.
        concurrency_limit: requests taken at once, waiting ones included; None is no limit of its own.
        overflow: what becomes of a prompt that is too long; None leaves it to the server.
        upstream_name: the name that it is sent, where that is another; empty otherwise.
        loading_state: streams tell how loading goes.
        ignore_websockets: websockets never load it, and do not keep it loaded.
    """

    id: str
    line: int
    source: Source
    aliases: tuple[str, ...] = ()
    ttl_s: Seconds | None = None
    keep: Keep = Keep.NORMAL
    priority: int = 0
    unlisted: bool = False
    name: str = ""
    description: str = ""
    concurrency_limit: int | None = None
    overflow: Overflow | None = None
    upstream_name: str = ""
    filters: Filters = field(default_factory=Filters)
    timeouts: Timeouts = field(default_factory=Timeouts)
    metadata: Mapping[str, Json] = field(default_factory=dict)
    capabilities: Capabilities = field(default_factory=Capabilities)
    loading_state: bool = False
    ignore_websockets: bool = False
