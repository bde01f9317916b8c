"""A configuration that was looked through, as a JSON document."""

from collections.abc import Mapping, Sequence

from bercail.core.allotment import Allotment
from bercail.core.command import CommandSpec
from bercail.core.config_report import command_of, kind_of_model, places_of
from bercail.core.configuration import Configuration
from bercail.core.declared import Declared, ModelFile
from bercail.core.document import Json, error_document
from bercail.core.errors import BercailError
from bercail.core.tree import Note, NoteKind


def config_document(
    file: str,
    configuration: Configuration | None,
    wrong: BercailError | None,
    missing: Sequence[Note],
    shares: Mapping[str, Allotment] | None = None,
    later: Sequence[str] = (),
) -> dict[str, Json]:
    """``bercail.config/1``: a configuration, what of it is ignored, and what is wrong or missing."""
    found = configuration or Configuration()
    return {
        "schema": "bercail.config/1",
        "file": file,
        "dialect": found.dialect.value if configuration else None,
        "wrong": error_document(wrong) if wrong else None,
        "models": [_model(model, found) for model in found.models],
        "routes": {
            name: {"way": target.way.value, "id": target.id, "model": target.model} for name, target in found.routes()
        },
        "profiles": {profile.id: dict(profile.pins) for profile in found.profiles},
        "preload": found.preload,
        "notes": [_note(note) for note in found.notes],
        "missing": [_note(note) for note in missing if note.kind is not NoteKind.REFUSED],
        "refused": [_note(note) for note in missing if note.kind is NoteKind.REFUSED],
        "later": tuple(later),
        "cores": {name: _share(share) for name, share in (shares or {}).items()},
    }


def declared_document(configuration: Configuration, troubles: Mapping[str, str]) -> list[Json]:
    """Models that are declared, each with the ``trouble`` that keeps it from being served: null where nobody looked."""
    found: list[Json] = [
        {"id": model.id, "aliases": model.aliases, "kind": kind_of_model(model), "trouble": troubles.get(model.id)}
        for model in configuration.models
    ]
    for peer in configuration.peers:
        ids = (f"{peer.id}/{model}" for model in peer.models)
        found += [{"id": name, "aliases": (), "kind": "elsewhere", "trouble": None} for name in ids]
    return found


def _share(share: Allotment) -> dict[str, Json]:
    """Its CPUs; none of them is all that may be used, unless there is a refusal."""
    return {
        "cpus": share.cpus,
        "node": share.node,
        "because": share.because,
        "refusal": share.refusal or None,
    }


def _model(model: Declared, configuration: Configuration) -> dict[str, Json]:
    return {
        "id": model.id,
        "line": model.line,
        "kind": kind_of_model(model),
        "aliases": model.aliases,
        "groups": places_of(model.id, configuration.rule),
        "ttl_s": model.ttl_s,
        "keep": model.keep.value,
        "priority": model.priority,
        **(_file(model.source) if isinstance(model.source, ModelFile) else _command(model.source)),
    }


def _file(source: ModelFile) -> dict[str, Json]:
    wishes: dict[str, Json] = {
        name: value if isinstance(value, str | int | float) else None for name, value in source.wishes.items()
    }
    return {"path": source.path, "gpus": source.gpus, "wishes": wishes}


def _command(source: CommandSpec) -> dict[str, Json]:
    spec = command_of(source)
    return {
        "argv": spec.argv,
        "stop_argv": spec.stop_argv,
        "environment": dict(spec.environment),
        "port": spec.port,
        "url": spec.url,
        "check_path": spec.check_path,
        "ready_s": spec.ready_s,
        "stop_s": spec.stop_s,
    }


def _note(note: Note) -> dict[str, Json]:
    return {"line": note.line, "kind": note.kind.value, "text": note.text}
