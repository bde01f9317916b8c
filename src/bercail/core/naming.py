"""Names of a configuration that lead to a model: aliases, peers, selectors, profiles."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from bercail.core.config_keys import PEER, PROFILE, SELECTOR, SIDE
from bercail.core.configuration import PEER_TIMEOUTS, Peer, Profile, Rule, Selector, SideRule, Strategy
from bercail.core.declared import Declared
from bercail.core.declaring import check_url, read_pairs, read_timeouts
from bercail.core.filtering import read_peer_filters
from bercail.core.keys import Table, named, open_table
from bercail.core.pattern import is_pattern, rival
from bercail.core.tree import Entry, Fields, Items, Node, NoteKind, Reading, Scalar, kind_of


@dataclass(slots=True, kw_only=True)
class Names:
    """Every name that is taken, and what it leads to.

    Attributes:
        models: id by id and alias.
        patterns: id by aliases that stand for many names.
        selectors: ids of selectors.
        remote: ``peer/model`` and the bare names of models that exactly one peer has.
        fixed: the names ``peer/model``, which nothing else may have.
    """

    models: dict[str, str] = field(default_factory=dict)
    patterns: dict[str, str] = field(default_factory=dict)
    selectors: frozenset[str] = frozenset()
    remote: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, for the nearest to an unknown one."""
        return (*self.models, *sorted(self.selectors), *sorted(self.remote))


def take_names(models: tuple[Declared, ...], trees: dict[str, Fields], names: Names, reading: Reading) -> None:
    """Fill in the ids and aliases of models.

    Args:
        models: in the order of the file.
        trees: what is declared of each of them, for the lines.
        names: those that are taken so far.
        reading: the file.

    Raises:
        SettingsError: two models have the same name.
    """
    names.models.update({model.id: model.id for model in models})
    for model in models:
        for alias in model.aliases:
            line = _line_of_alias(trees[model.id], alias)
            if not alias.strip():
                raise reading.error(line, f"models.{model.id}: an alias is empty", "give it a name, or take it out")
            if is_pattern(alias):
                _take_pattern(alias, model, names, reading, line)
                continue
            owner = names.models.setdefault(alias, model.id)
            if owner == alias and owner != model.id:
                raise reading.error(line, f"models.{model.id}: the alias {alias} is the id of a model", "take another")
            if owner != model.id:
                raise reading.error(
                    line, f"duplicate alias {alias} found in model: {model.id}", f"models.{owner} has it already"
                )


def _take_pattern(alias: str, model: Declared, names: Names, reading: Reading, line: int) -> None:
    if alias in model.filters.by_name:
        hint = "write the names that are asked for"
        raise reading.error(line, f"models.{model.id}.filters.setParamsByID: {alias} stands for many names", hint)
    others = (pattern for pattern, owner in names.patterns.items() if owner != model.id)
    if found := rival(alias, others):
        words = f"a name may match its alias {alias} as well as {found} of models.{names.patterns[found]}"
        raise reading.error(line, f"models.{model.id}: {words}", "let one of them tell more letters")
    names.patterns[alias] = model.id


def _line_of_alias(fields: Fields, alias: str) -> int:
    aliases, filters = fields.get("aliases"), fields.get("filters")
    for item in aliases.items if isinstance(aliases, Items) else ():
        if isinstance(item, Scalar) and item.text == alias:
            return item.line
    by_name = filters.get("setParamsByID") if isinstance(filters, Fields) else None
    return by_name.line_of(alias) if isinstance(by_name, Fields) else fields.line


def read_peers(node: Node | None, names: Names, reading: Reading) -> tuple[Peer, ...]:
    """Servers elsewhere; their names are added to ``names``.

    Raises:
        SettingsError: one lacks an address or models, or takes a name that is taken.
    """
    peers = tuple(_peer(entry, where, reading) for entry, where in named(node, reading, "peers"))
    owners: dict[str, Peer] = {}
    for peer in peers:
        for model in peer.models:
            name = f"{peer.id}/{model}"
            if name in names.models:
                raise reading.error(
                    peer.line, f"peers.{peer.id}: {name} is the name of a model here", f"models.{names.models[name]}"
                )
            if name in owners:
                raise reading.error(
                    peer.line, f"peers.{peer.id}: {name} is ambiguous", f"peers.{owners[name].id} gives that name, too"
                )
            owners[name] = peer
    bare = [model for peer in peers for model in peer.models]
    names.fixed = frozenset(owners)
    names.remote = names.fixed | {name for name in bare if bare.count(name) == 1}
    return peers


def _peer(entry: Entry, where: str, reading: Reading) -> Peer:
    table = open_table(entry.node, PEER, reading, where)
    if not table.text("proxy"):
        raise reading.error(entry.line, f"{where} has no proxy", "write its address, such as https://host/api")
    check_url(table.text("proxy"), table, reading)
    models = tuple(dict.fromkeys(table.texts("models")))
    if not models:
        raise reading.error(entry.line, f"{where} has no models", "name the models that it has")
    for item in table.scalars("models"):
        if not item.text.strip():
            raise reading.error(item.line, f"{where}.models: a name is empty", "give it one, or take it out")
    return Peer(
        id=entry.name,
        line=entry.line,
        url=table.text("proxy"),
        models=models,
        api_key=table.text("apiKey"),
        filters=read_peer_filters(table, reading),
        timeouts=read_timeouts(table, reading, PEER_TIMEOUTS),
    )


def read_selectors(node: Node | None, names: Names, rule: Rule | None, reading: Reading) -> tuple[Selector, ...]:
    """Names that stand for one of several models; they are added to ``names``.

    Raises:
        SettingsError: one takes a name that is taken, or targets of it cannot be what its strategy needs.
    """
    entries = tuple(named(node, reading, "selectors"))
    for entry, where in entries:
        taken = names.models.get(entry.name, entry.name if entry.name in names.fixed else None)
        if taken is not None:
            raise reading.error(entry.line, f"{where}: {entry.name} is the name of a model", f"it leads to {taken}")
    names.selectors = frozenset(entry.name for entry, _ in entries)
    return tuple(_selector(entry, where, names, rule, reading) for entry, where in entries)


_SETTINGS = next(key.below for key in SELECTOR if key.name == "settings")


def _selector(entry: Entry, where: str, names: Names, rule: Rule | None, reading: Reading) -> Selector:
    table = open_table(entry.node, SELECTOR, reading, where)
    if not table.has("strategy"):
        raise reading.error(entry.line, f"{where} has no strategy", "write warm, pin or spillover")
    settings = open_table(table.node("settings"), _SETTINGS, reading, table.at("settings"))
    strategy = Strategy(table.text("strategy"))
    _check_targets(table, strategy, names, rule, reading)
    return Selector(
        id=entry.name,
        line=entry.line,
        strategy=strategy,
        targets=table.texts("targets"),
        spillover=settings.count("spillover", 1),
        name=table.text("name").strip(),
        description=table.text("description").strip(),
        unlisted=table.flag("unlisted", default=False),
        metadata=read_pairs(table.node("metadata")),
    )


def _check_targets(table: Table, strategy: Strategy, names: Names, rule: Rule | None, reading: Reading) -> None:
    """Refuse targets that do not exist, or that the strategy cannot choose from."""
    targets, where = table.scalars("targets"), table.at("targets")
    if not targets:
        raise reading.error(table.line("targets"), f"{table.where} has no targets", "name the models it chooses from")
    seen: set[str] = set()
    for item in targets:
        name = item.text
        if name in names.selectors:
            raise reading.error(item.line, f"{where}: {name} is a selector itself", "name models")
        if name not in names.models and name not in names.remote:
            raise reading.unknown(item.line, f"{where}: no model {name!r}", name, (*names.models, *names.remote))
        if strategy is Strategy.WARM and name not in names.models:
            raise reading.error(item.line, f"{where}: {name} is elsewhere", "warm chooses from models here alone")
        resolved = names.models.get(name, name)
        if strategy is Strategy.SPILLOVER and resolved in seen:
            raise reading.error(item.line, f"{where}: {resolved} is there twice", "name each target once")
        seen.add(resolved)
    local = sorted({names.models[item.text] for item in targets if item.text in names.models})
    if strategy is Strategy.SPILLOVER and rule is not None and not rule.may_coexist(local):
        raise reading.error(
            targets[0].line,
            f"{where}: {', '.join(local)} may not be in memory together",
            "put them into one group with swap: false, or into one set of the matrix",
        )


def read_profiles(node: Node | None, names: Names, reading: Reading) -> tuple[Profile, ...]:
    """Other names for models, chosen at run time.

    Raises:
        SettingsError: one pins nothing, or something that does not exist.
    """
    return tuple(_profile(entry, where, names, reading) for entry, where in named(node, reading, "profiles"))


def _profile(entry: Entry, where: str, names: Names, reading: Reading) -> Profile:
    if isinstance(entry.node, Items):
        raise reading.error(
            entry.line, f"{where} is a list, as profiles once were", "write pins, each with the model it stands for"
        )
    table = open_table(entry.node, PROFILE, reading, where)
    if not table.entries("pins"):
        raise reading.error(entry.line, f"{where} has no pins", "write pins, each with the model it stands for")
    pins = dict(_pin(pin, table, names, reading) for pin in table.entries("pins"))
    return Profile(id=entry.name, line=entry.line, pins=pins, description=table.text("description").strip())


def _pin(pin: Entry, table: Table, names: Names, reading: Reading) -> tuple[str, str | None]:
    where = table.at("pins")
    if not pin.name.strip():
        raise reading.error(pin.line, f"{where}: a name is empty", "give it one, or take it out")
    if pin.name in names.fixed:
        raise reading.error(pin.line, f"{where}: {pin.name} is a model of a peer", "pin another name")
    if not isinstance(pin.node, Scalar):
        raise reading.error(pin.node.line, f"{where}.{pin.name} is {kind_of(pin.node)}", "write the name of a model")
    target = "" if pin.node.value is None else pin.node.text.strip()
    if target and target not in names.all:
        raise reading.unknown(pin.node.line, f"{where}.{pin.name}: no model {target!r}", target, names.all)
    return pin.name, target or None


def read_side_rules(node: Node | None, names: Names, reading: Reading) -> tuple[SideRule, ...]:
    """Which requests another model may answer.

    Raises:
        SettingsError: a rule would match everything, or names a model that does not exist.
    """
    return tuple(_side_rule(entry, where, names, reading) for entry, where in named(node, reading, "side_requests"))


def _side_rule(entry: Entry, where: str, names: Names, reading: Reading) -> SideRule:
    table = open_table(entry.node, SIDE, reading, where)
    for item in (*table.scalars("models"), *table.scalars("names")):
        if item.text not in names.models:
            raise reading.unknown(item.line, f"{where}: no model {item.text!r} here", item.text, tuple(names.models))
    for item in table.scalars("prompts"):
        if not item.text.strip():
            raise reading.error(item.line, f"{where}.prompts: a text is empty", "write one, or take it out")
    rule = SideRule(
        id=entry.name,
        line=entry.line,
        models=tuple(names.models[name] for name in table.texts("models")),
        clients=table.texts("clients"),
        prompts=table.texts("prompts"),
        names=table.texts("names"),
        headers=dict(_header(pin, table, reading) for pin in table.entries("headers")),
        max_tokens=table.count("max_tokens", 0) or None,
    )
    if not (rule.clients or rule.prompts or rule.names or rule.headers or rule.max_tokens):
        hint = "say which requests: clients, prompts, names, headers or max_tokens"
        raise reading.error(entry.line, f"{where} would match every request", hint)
    return rule


def _header(entry: Entry, table: Table, reading: Reading) -> tuple[str, str]:
    if not isinstance(entry.node, Scalar) or entry.node.value is None:
        where = f"{table.at('headers')}.{entry.name}"
        raise reading.error(entry.node.line, f"{where} is {kind_of(entry.node)}", "write the value of the header")
    return entry.name.strip().lower(), entry.node.text.strip()


def preloaded(items: tuple[Scalar, ...], names: Names, reading: Reading) -> Iterator[str]:
    """The ids of the models that are loaded at the start.

    Raises:
        SettingsError: in our own files, one does not exist.
    """
    for item in items:
        name = item.text.strip()
        if name in names.models:
            yield names.models[name]
        elif reading.strict:
            raise reading.unknown(item.line, f"hooks.on_startup.preload: no model {name!r}", name, tuple(names.models))
        else:
            near = f"no model {name!r}, so nothing is loaded for it"
            reading.note(item.line, NoteKind.WARNING, f"hooks.on_startup.preload: {near}")
