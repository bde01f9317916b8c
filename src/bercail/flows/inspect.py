"""``bercail inspect``: read one model and say what it is."""

import asyncio

from bercail.core.errors import NotFoundError
from bercail.core.model import FoundModel, Model
from bercail.ports import House, ModelReader


async def inspect(house: House, name: str) -> Model:
    """The model that ``name`` means: a path, or the id of a model that a search finds.

    Raises:
        ReadError: its file cannot be read.
        NotFoundError: ``name`` is no path and no known id.
    """
    found = await asyncio.to_thread(resolve, house.reader, name, house.settings.models.folders)
    return await asyncio.to_thread(house.reader.read, found.path, projector=found.projector)


def resolve(reader: ModelReader, name: str, folders: tuple[str, ...]) -> FoundModel:
    """The one model that ``name`` means.

    Raises:
        NotFoundError: none or several.
        ReadError: ``name`` is a path and cannot be used.
    """
    if not _looks_like_path(name):
        known = reader.find((), folders)
        for found in known.models:
            if found.id == name:
                return found
    findings = reader.find((name,), ())
    if len(findings.models) == 1:
        return findings.models[0]
    if not findings.models:
        reader.read(name)  # says what is wrong with it
        raise NotFoundError(f"no model at {name}", hint="; ".join((*findings.problems, *findings.looked)))
    names = ", ".join(found.id for found in findings.models)
    raise NotFoundError(f"{name} holds {len(findings.models)} models", hint=f"name one of them: {names}")


def _looks_like_path(name: str) -> bool:
    return name.endswith(".gguf") or name.startswith(("/", ".", "~"))
