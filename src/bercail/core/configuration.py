"""What a whole configuration says: models, who may be in memory together, names that lead elsewhere, and defaults."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from bercail.core.command import CommandSpec
from bercail.core.declared import Declared, Filters, Timeouts
from bercail.core.errors import NotFoundError
from bercail.core.groups import Groups
from bercail.core.matrix import Matrix
from bercail.core.options import ServerOptions, Settings
from bercail.core.pattern import is_pattern
from bercail.core.tree import Dialect, Json, Note
from bercail.core.units import MIB, Bytes, Seconds, Tokens

Rule: TypeAlias = Groups | Matrix
"""Who may be in memory together; both tell ``eviction_for(target, running)`` and ``may_coexist(models)``."""


class Strategy(StrEnum):
    """How a selector chooses: the one that is loaded, the first, or one more when those before it are busy."""

    WARM = "warm"
    PIN = "pin"
    SPILLOVER = "spillover"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A name that stands for one of several models.

    Attributes:
        targets: names of models, the preferred one first.
        spillover: requests that a target gets before the next one starts.
    """

    id: str
    line: int
    strategy: Strategy
    targets: tuple[str, ...]
    spillover: int = 1
    name: str = ""
    description: str = ""
    unlisted: bool = False
    metadata: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Other names for models, chosen at run time.

    Attributes:
        pins: what each name stands for; None is no model at all.
    """

    id: str
    line: int
    pins: Mapping[str, str | None]
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """All profiles, and the one in force.

    Attributes:
        active: its name; empty if none is.
    """

    known: tuple[Profile, ...] = ()
    active: str = ""

    @property
    def pins(self) -> Mapping[str, str | None]:
        """What names stand for now."""
        return next((profile.pins for profile in self.known if profile.id == self.active), {})

    def meant(self, name: str) -> str:
        """The name that stands behind ``name``, which no profile changes any further.

        Raises:
            NotFoundError: the profile takes it away.
        """
        target = self.pins.get(name, name)
        if target is None:
            raise NotFoundError(f"no model {name!r} in the profile {self.active}", hint="choose another profile")
        return target

    def switched(self, name: str) -> "Profiles":
        """The same with another one in force; an empty name is none.

        Raises:
            NotFoundError: there is no such profile.
        """
        names = [profile.id for profile in self.known]
        if name and name not in names:
            raise NotFoundError(f"no profile {name!r}", hint=f"there are: {', '.join(names) or 'none'}")
        return replace(self, active=name)

    def among(self, known: tuple[Profile, ...]) -> "Profiles":
        """After a configuration was read anew: the one in force stays in force if it is still there."""
        return Profiles(known=known, active=self.active if any(one.id == self.active for one in known) else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SideRule:
    """Which requests another model may answer rather than have theirs loaded; all that is said must hold.

    Attributes:
        models: names of those that may, the best first; empty is any in memory.
        clients: whose side requests are known by their form.
        prompts: one of them is in the system prompt or the last message, in any case.
        names: one of them is the model that is asked for.
        headers: by name in lower case.
        max_tokens: of an answer that is asked for; None is any number, also none.
    """

    id: str
    line: int
    models: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    max_tokens: Tokens | None = None


PEER_TIMEOUTS = Timeouts(response_header_s=60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server elsewhere.

    Attributes:
        url: scheme, host, port and the beginning of every path.
        models: by the names that it gives them.
        api_key: sent to it; empty if it wants none.
    """

    id: str
    line: int
    url: str
    models: tuple[str, ...]
    api_key: str = field(default="", repr=False)
    filters: Filters = field(default_factory=Filters)
    timeouts: Timeouts = PEER_TIMEOUTS

    def command(self, model: str) -> CommandSpec:
        """One of its models as a server that nothing is started for."""
        key = self.api_key
        headers = (("authorization", f"Bearer {key}"), ("x-api-key", key)) if key else ()
        return CommandSpec(model_id=f"{self.id}/{model}", url=self.url, check_path="", headers=headers)


class Way(StrEnum):
    """What a name leads to."""

    MODEL = "model"
    SELECTOR = "selector"
    PEER = "peer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request for a name goes.

    Attributes:
        id: of the model, the selector or the peer.
        model: the name that a peer gives its model; empty otherwise.
    """

    way: Way
    id: str
    model: str = ""


SESSION_HEADERS = ("X-Session-ID", "X-Litellm-Session-Id")
ASSETS = r".*\.(js|json|css|png|gif|jpg|jpeg|ico|txt)$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What holds for the server as a whole.

    Attributes:
        api_keys: clients must send one of them; empty lets everybody in.
        loading_state: streams tell how loading goes, where a model does not say.
        aliases_listed: /v1/models lists aliases, too.
        asset_paths: expressions; paths below /upstream that match one never load a model.
        log_level: debug, info, warn or error.
        log_time: how log lines tell the time; empty if they do not.
        log_output: proxy, upstream, both or none.
        capture_mb: megabytes of requests and answers remembered; None where it does not say.
        store_path: file that keeps the activity; empty is none.
        session_headers: request headers that name a session.
        samples: whether the machine is sampled.
        sample_s: time between samples.
    """

    api_keys: tuple[str, ...] = field(default=(), repr=False)
    loading_state: bool = False
    aliases_listed: bool = False
    asset_paths: tuple[str, ...] = (ASSETS,)
    log_level: str = "info"
    log_time: str = ""
    log_output: str = "proxy"
    capture_mb: int | None = None
    store_path: str = ""
    session_headers: tuple[str, ...] = SESSION_HEADERS
    samples: bool = True
    sample_s: Seconds = 5.0


def capture_bytes(server: ServerOptions, gateway: Gateway) -> Bytes:
    """Memory for texts of requests and answers: as the settings say, else as a configuration does; 0 keeps none.

    llama-swap keeps texts where nobody has asked for it; here somebody must.
    """
    return server.capture or (gateway.capture_mb or 0) * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A whole configuration.

    Attributes:
        models: in the order of the file.
        rule: who may be in memory together; None leaves it to what fits.
        preload: ids of the models that are loaded at the start.
        start_port: the first that ``${PORT}`` stands for.
        notes: what was read otherwise than one might think, in the order of the lines.
    """

    dialect: Dialect = Dialect.BERCAIL
    models: tuple[Declared, ...] = ()
    rule: Rule | None = None
    profiles: tuple[Profile, ...] = ()
    selectors: tuple[Selector, ...] = ()
    side_rules: tuple[SideRule, ...] = ()
    peers: tuple[Peer, ...] = ()
    preload: tuple[str, ...] = ()
    gateway: Gateway = field(default_factory=Gateway)
    start_port: int = 5800
    notes: tuple[Note, ...] = ()

    def routes(self) -> Iterator[tuple[str, Target]]:
        """Every name that leads somewhere, once.

        A model here and its aliases come first, then selectors, then ``peer/model``, then the bare name of a model that
        exactly one peer has.
        """
        seen: set[str] = set()
        for name, target in self._ways():
            if name not in seen:
                seen.add(name)
                yield name, target

    def leaving(self, target: str, running: frozenset[str]) -> frozenset[str]:
        """Those of ``running`` that the rule sends out of memory for ``target``; all are ids.

        Models of peers take nothing here: they leave for nobody, and nobody leaves for them.
        """
        elsewhere = {f"{peer.id}/{model}" for peer in self.peers for model in peer.models}
        if self.rule is None or target in elsewhere:
            return frozenset()
        return frozenset(self.rule.eviction_for(target, running - elsewhere))

    def patterns(self) -> Mapping[str, str]:
        """Aliases that stand for many names, none of which leads anywhere else, and the id that each leads to."""
        return {alias: model.id for model in self.models for alias in model.aliases if is_pattern(alias)}

    def _ways(self) -> Iterator[tuple[str, Target]]:
        for model in self.models:
            for name in (model.id, *(alias for alias in model.aliases if not is_pattern(alias))):
                yield name, Target(way=Way.MODEL, id=model.id)
        for selector in self.selectors:
            yield selector.id, Target(way=Way.SELECTOR, id=selector.id)
        remote = [Target(way=Way.PEER, id=peer.id, model=model) for peer in self.peers for model in peer.models]
        yield from ((f"{target.id}/{target.model}", target) for target in remote)
        owners = Counter(target.model for target in remote)
        yield from ((target.model, target) for target in remote if owners[target.model] == 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The settings in force, and the configuration of the files that they come from."""

    settings: Settings = field(default_factory=Settings)
    configuration: Configuration = field(default_factory=Configuration)
