"""``bercail inspect``: read one model and say what it is."""

import asyncio
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, assert_never

from bercail.core.alike import alike
from bercail.core.allotment import Allotment, allot
from bercail.core.claims import claims_of, meeting
from bercail.core.command import CommandSpec
from bercail.core.declared import ModelFile
from bercail.core.errors import BercailError, NotFoundError, ReadError, RefusedError, UsageError
from bercail.core.machine import Machine
from bercail.core.model import Findings, FoundModel, Model, Role, on_the_web
from bercail.core.quotes import in_quotes
from bercail.core.route import offered
from bercail.ports import House, ModelReader

_MOST_NAMES = 12
_MISTYPED = re.compile(r"https?:/?[^/]", re.IGNORECASE)

_ELSEWHERE = re.compile(r"(?:[\w.-]+/){1,2}[\w.-]+(?::[\w.-]+)?|[\w.-]+:[\w.-]+")
"""How models are called on Hugging Face (``owner/name``) and in Ollama's library (``name:tag``)."""
_NOT_FETCHED = "models are not downloaded here: fetch its GGUF file first, as with `hf download`, and name that"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """What the name of a model means.

    Attributes:
        house: with the wishes that a configuration has for it.
        place: its path, its address, or the id of a model that a search finds.
        id: by which a configuration declares it; empty if none does.
    """

    house: House
    place: str
    id: str = ""


def what_is_meant(house: House, name: str) -> Meant:
    """A model that the configuration declares under that name, or whatever else it may be.

    Raises:
        RefusedError: it is declared by a command, so there is nothing to read.
    """
    declared = next((model for model in house.configuration.models if name in (model.id, *model.aliases)), None)
    if declared is None:
        return Meant(house=house, place=name)
    source = declared.source
    if isinstance(source, CommandSpec):
        raise RefusedError(
            f"{name} is declared by a command or an address: what it takes is not known",
            hint="name the file of the model; `bercail config check` shows the command",
        )
    settings = replace(house.settings, engine=source.wish(house.settings.engine))
    return Meant(house=replace(house, settings=settings), place=source.path, id=declared.id)


def allotted(house: House, meant: Meant, machine: Machine | None = None) -> Allotment | None:
    """The share of the cores that a declared model gets beside the others; None if it asks for none.

    Args:
        house: with the wishes for all models.
        meant: the model.
        machine: whose cores they are; this one's, if it is None.
    """
    claims = claims_of(house.configuration, house.settings.engine)
    if not any(claim.id == meant.id and claim.is_auto for claim in claims):
        return None
    cpu = (machine or house.prober.probe()).cpu
    return allot(cpu, claims, meeting(house.configuration.rule))[meant.id]


async def inspect(house: House, name: str) -> Model:
    """The model that ``name`` means: a path, an address on the web, or the id of a model that a search finds.

    What the configuration declares goes before what is found.

    Raises:
        ReadError: its file cannot be read, or not be fetched.
        NotFoundError: ``name`` is no path and no known id.
        RefusedError: it is an address, and the settings forbid to ask other machines; or it is declared by a command.
    """
    meant = what_is_meant(house, name)
    name = meant.place
    if on_the_web(name):
        if house.settings.library.offline:
            raise RefusedError(f"{name} is on another machine, and library.offline is set", hint="name a file here")
        return _as_served(meant, await asyncio.to_thread(house.reader.read_remote, name))
    found = await asyncio.to_thread(resolve, house.reader, name, house.settings.library.folders)
    model = await asyncio.to_thread(house.reader.read, found.path, projector=found.projector)
    return _as_served(meant, replace(model, id=meant.id or found.id))


def _as_served(meant: Meant, model: Model) -> Model:
    """The model with what a server would offer of it, under the wishes for it."""
    return replace(model, capabilities=offered(model, meant.house.settings.engine))


def search(house: House, paths: Sequence[str]) -> Findings:
    """The models at ``paths``, or where settings or other tools keep them, each with what is wrong with its header.

    Raises:
        UsageError: a path is empty.
    """
    refuse_empty(paths)
    found = house.reader.find(paths, house.settings.library.folders)
    return replace(found, models=tuple(replace(model, damage=_damage(house.reader, model)) for model in found.models))


def troubles(house: House) -> dict[str, str]:
    """What keeps each declared model of a file from being served, as far as its header tells; empty if nothing does."""
    models = house.configuration.models
    return {model.id: _trouble(house, model.source) for model in models if isinstance(model.source, ModelFile)}


def _trouble(house: House, source: ModelFile) -> str:
    try:
        return _damage(house.reader, resolve(house.reader, source.path, house.settings.library.folders))
    except BercailError as error:
        return str(error)


def _damage(reader: ModelReader, found: FoundModel) -> str:
    """Why a model cannot be loaded, as far as its header tells, or empty."""
    try:
        refuse_unservable(reader.read(found.path, projector=found.projector))
    except (ReadError, RefusedError) as error:
        return str(error).removeprefix(f"{found.path}: ").removeprefix(f"{found.path}, ").removeprefix(f"{found.path} ")
    return ""


def refuse_unservable(model: Model) -> None:
    """Refuse what only goes with another model.

    Raises:
        RefusedError: it is a projector, an adapter or a drafting head.
    """
    match model.role:
        case Role.GENERATE | Role.EMBED | Role.RERANK:
            return
        case Role.PROJECTOR:
            what, hint = "an image or audio encoder", "name the model it belongs to; it is found beside that"
        case Role.ADAPTER:
            what, hint = "an adapter", "name the model it was made for"
        case Role.DRAFT:
            what, hint = "a drafting head", "name the model it drafts for"
        case _ as unreachable:
            assert_never(unreachable)
    raise RefusedError(f"{model.path} is {what}, not a model that can be served alone", hint=hint, code="not_servable")


async def with_draft(house: House, model: Model) -> Model:
    """``model`` with the draft model that the settings name, if they name one.

    Raises:
        ReadError: the draft model's file cannot be read or must not be loaded.
        NotFoundError: there is no such file.
    """
    if (name := house.settings.engine.draft) is None:
        return model
    found = await asyncio.to_thread(resolve, house.reader, name, house.settings.library.folders)
    draft = await asyncio.to_thread(house.reader.read, found.path)
    return replace(model, draft=draft)


def resolve(reader: ModelReader, name: str, folders: tuple[str, ...]) -> FoundModel:
    """The one model that ``name`` means.

    Raises:
        NotFoundError: none or several.
        UsageError: it is empty, or an address with a slash too few.
        ReadError: ``name`` is a path and cannot be used.
    """
    refuse_empty((name,))
    if _MISTYPED.match(name):
        raise UsageError(f"{name} is no address of a file", hint="an address begins with https:// or http://")
    known: dict[str, FoundModel] = {}
    if not looks_like_path(name):
        known = {found.id: found for found in reader.find((), folders).models}
        if name in known:
            return known[name]
    findings = reader.find((name,), ())
    if len(findings.models) == 1:
        return findings.models[0]
    if not findings.models:
        if near := alike(name, known):
            raise NotFoundError(f"no model {name!r}", hint=f"did you mean {near[0]}?")
        _refuse_name(reader, name, findings, known)
    names = listed([found.id for found in findings.models])
    raise NotFoundError(f"{name} holds {len(findings.models)} models", hint=f"name one of them: {names}")


def refuse_empty(names: Sequence[str]) -> None:
    """A name without a letter would mean the folder that one is in, which nobody asked for.

    Raises:
        UsageError: one of them is empty.
    """
    if not all(name.strip() for name in names):
        raise UsageError("the name of a model is empty", hint="name a file, a folder or an id; a variable may be unset")


def _refuse_name(reader: ModelReader, name: str, findings: Findings, known: Collection[str]) -> NoReturn:
    """What was named cannot be had: where it is no file and can be meant as an id, say which ids there are.

    Raises:
        ReadError, NotFoundError: always.
    """
    try:
        refuse(reader, name, findings)
    except ReadError as error:
        elsewhere = bool(_ELSEWHERE.fullmatch(name)) and not looks_like_path(name)
        if error.code == "no_such_file" and elsewhere:
            error.hint = f"{error.hint}; {_NOT_FETCHED}"
        if error.code != "no_such_file" or looks_like_path(name) or "/" in name or in_quotes(name):
            raise
        there = f"there {'is' if len(known) == 1 else 'are'} {listed(known)}" if known else "no model is found"
        hint = f"{there} (bercail models); or name a file"
        hint += f"; {_NOT_FETCHED}" if elsewhere else ""
        raise NotFoundError(f"no model {name!r}, and no file of that name", hint=hint) from error


def listed(names: Collection[str]) -> str:
    """The first names of many, and how many there are."""
    shown = [*names][:_MOST_NAMES]
    return (", ".join(shown) or "none") + (f", ... ({len(names)} in all)" if len(names) > len(shown) else "")


def refuse(reader: ModelReader, path: str, findings: Findings) -> NoReturn:
    """What was named cannot be had: say why, as reading it would.

    Raises:
        ReadError: it is no model that can be read.
        NotFoundError: it holds none.
    """
    reader.read(path)
    raise NotFoundError(f"no model at {path}", hint="; ".join((*findings.problems, *findings.looked)))


def looks_like_path(name: str) -> bool:
    """Whether a name can only mean a place on disk, not the id of a model."""
    return name.endswith(".gguf") or name.startswith(("/", ".", "~"))
