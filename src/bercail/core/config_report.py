"""A configuration that was looked through, as sections for people."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

from bercail.core.allotment import Allotment
from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Rule
from bercail.core.cpulist import format_cpulist
from bercail.core.declared import Declared, ModelFile
from bercail.core.groups import Groups
from bercail.core.matrix import models_of
from bercail.core.report import Section
from bercail.core.tree import Note, NoteKind


def config_line(file: str, configuration: Configuration) -> str:
    """What a file is, in a line."""
    count = len(configuration.models)
    return f"{file}: a configuration of {configuration.dialect}, {count} model{'' if count == 1 else 's'}"


def config_sections(configuration: Configuration, missing: Sequence[Note]) -> tuple[Section, ...]:
    """A configuration: its models, what starts them, other names, and what there is to say of it."""
    sections = (
        Section(
            title="Models",
            rows=tuple(_model_row(model, configuration) for model in configuration.models),
            header=("name", "kind", "port", "aliases", "beside others"),
        ),
        Section(
            title="What starts them",
            rows=tuple((model.id, started_by(model)) for model in configuration.models),
            header=("name", "command line, or file and wishes"),
        ),
        Section(title="Other names", rows=tuple(_name_rows(configuration)), header=("name", "kind", "leads to")),
        Section(
            title="Read otherwise, or not at all",
            rows=_note_rows(configuration.notes, refused=False),
            header=("line", "what"),
        ),
        Section(title="Not on this machine", rows=_note_rows(missing, refused=False), header=("line", "what")),
        Section(title="Cannot be served", rows=_note_rows(missing, refused=True), header=("line", "what")),
    )
    return tuple(section for section in sections if section.rows)


def declared_section(configuration: Configuration, troubles: Mapping[str, str]) -> Section:
    """The models that it declares, those of its peers too, and what keeps some of them from being served."""
    rows = [
        (model.id, ", ".join(model.aliases), kind_of_model(model), started_by(model), _state(troubles.get(model.id)))
        for model in configuration.models
    ]
    for peer in configuration.peers:
        rows += [(f"{peer.id}/{model}", "", "elsewhere", peer.url, _state(None)) for model in peer.models]
    header = ("name", "aliases", "kind", "command line, or file and wishes", "can be served")
    return Section(title="Declared", rows=tuple(rows), header=header)


def _state(trouble: str | None) -> str:
    """In a word or more; None is that nobody looked."""
    return "not tried" if trouble is None else f"no: {trouble}" if trouble else "yes"


def later_sections(later: Sequence[str]) -> tuple[Section, ...]:
    """What of it a reload does not take."""
    rows = tuple((key,) for key in later)
    return (Section(title="Counts from a start alone, not from a reload", rows=rows, header=("key",)),) if rows else ()


def cores_sections(shares: Mapping[str, Allotment], at_odds: Sequence[str]) -> tuple[Section, ...]:
    """Who gets which cores of this machine, and what is wrong with that."""
    rows = tuple(
        (name, format_cpulist(share.cpus) or "all", "any" if share.node is None else str(share.node), share.because)
        for name, share in shares.items()
        if not share.refusal
    )
    sections = (
        Section(title="Cores of this machine", rows=rows, header=("name", "cores", "node", "because")),
        Section(title="Cores at odds", rows=tuple((text,) for text in at_odds), header=("what",)),
    )
    return tuple(section for section in sections if section.rows)


def kind_of_model(model: Declared) -> str:
    """``file``, ``command``, or ``elsewhere`` for a server that nothing is started for."""
    if isinstance(model.source, ModelFile):
        return "file"
    return "command" if model.source.argv else "elsewhere"


def command_of(spec: CommandSpec) -> CommandSpec:
    """A command as it is started where its first port is free."""
    return spec if spec.port is None else spec.at(spec.port)


def started_by(model: Declared) -> str:
    """The command line that starts a model, as a shell would read it; or its file and wishes."""
    if isinstance(model.source, ModelFile):
        gpus = (f"gpus={','.join(model.source.gpus)}",) if model.source.gpus else ()
        wishes = (f"{name}={value}" for name, value in model.source.wishes.items())
        return " ".join((model.source.path, *gpus, *wishes))
    spec = command_of(model.source)
    variables = (f"{name}={shlex.quote(value)}" for name, value in spec.environment.items())
    return " ".join((*variables, shlex.join(spec.argv))) if spec.argv else spec.url


def places_of(model_id: str, rule: Rule | None) -> tuple[str, ...]:
    """The groups or sets that a model is in."""
    if rule is None:
        return ()
    if isinstance(rule, Groups):
        return (rule.group_of(model_id).name,)
    return tuple(name for name, expression in rule.sets.items() if model_id in models_of(expression))


def _model_row(model: Declared, configuration: Configuration) -> tuple[str, ...]:
    port = str(model.source.port) if isinstance(model.source, CommandSpec) and model.source.port else ""
    if configuration.rule is None:
        beside = "as memory allows"
    else:
        beside = ", ".join(places_of(model.id, configuration.rule)) or "alone"
    return (model.id, kind_of_model(model), port, ", ".join(model.aliases), beside)


def _name_rows(configuration: Configuration) -> Iterator[tuple[str, ...]]:
    for selector in configuration.selectors:
        yield selector.id, f"selector, {selector.strategy}", ", ".join(selector.targets)
    for profile in configuration.profiles:
        pins = (f"{name} -> {target or 'nothing'}" for name, target in profile.pins.items())
        yield profile.id, "profile", ", ".join(pins)
    for peer in configuration.peers:
        yield peer.id, "peer", f"{peer.url}: {', '.join(peer.models)}"


def _note_rows(notes: Sequence[Note], *, refused: bool) -> tuple[tuple[str, ...], ...]:
    told = (note for note in notes if (note.kind is NoteKind.REFUSED) is refused)
    return tuple((str(note.line), note.text) for note in told)
