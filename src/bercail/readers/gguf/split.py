"""Models in several files: ``NAME-00001-of-00003.gguf`` and the ``split.*`` keys."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from bercail.core.errors import ReadError
from bercail.core.model import Tensor
from bercail.readers.gguf.header import Header
from bercail.readers.gguf.source import read_header

MAX_PARTS = 1024
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf)", re.IGNORECASE)


class Part(NamedTuple):
    """What a file name says of a part: ``number`` counts from 1."""

    stem: str
    number: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A whole model: one header per file, and the tensors of all with the index of their file."""

    headers: tuple[Header, ...]
    tensors: tuple[Tensor, ...]

    @property
    def first(self) -> Header:
        """The header with the keys."""
        return self.headers[0]


def part_of(name: str) -> Part | None:
    """What the name of a file says of its place in a set, or None if it is whole."""
    found = _PART.fullmatch(name)
    if not found:
        return None
    part = Part(found["stem"], int(found["number"]), int(found["count"]))
    return part if 1 <= part.number <= part.total else None


def part_path(path: str, number: int) -> str:
    """The path of part ``number`` of the set that ``path`` belongs to."""
    place = Path(path)
    found = _PART.fullmatch(place.name)
    if found is None:
        return path
    return str(place.with_name(f"{found['stem']}-{number:05d}-of-{found['count']}{found['suffix']}"))


def read_parts(path: str) -> Parts:
    """The model at ``path``, which may name any of its parts; every part must exist and agree.

    Raises:
        ReadError: a part is missing, damaged, or belongs to something else.
    """
    named = part_of(Path(path).name)
    if named is not None and named.number != 1:
        first_path = part_path(path, 1)
        if not os.path.lexists(first_path):
            raise ReadError(
                f"part {named.number} of {named.total}; the first part is missing: {Path(first_path).name}",
                path=path,
                hint="download all parts into one folder",
                code="missing_part",
            )
        path = first_path
    first = read_header(path)
    count = _number(first, "split.count") or 1
    if count <= 1:
        return Parts(headers=(first,), tensors=first.tensors)
    _check_first(first, count)
    headers = [first]
    headers.extend(_read_part(first, number, count) for number in range(2, count + 1))
    tensors = _joined(headers)
    total = _number(first, "split.tensors.count")
    if total != len(tensors):
        raise first.refuse(
            f"says {total} tensors in all, but the {count} parts hold {len(tensors)}",
            "split.tensors.count",
            code="bad_split",
            hint="the parts are of different downloads; fetch them all again",
        )
    return Parts(headers=tuple(headers), tensors=tensors)


def _check_first(first: Header, count: int) -> None:
    name = Path(first.path).name
    named = part_of(name)
    if count > MAX_PARTS:
        raise first.refuse(f"{count:,} parts; at most {MAX_PARTS:,} are read", "split.count", code="bad_split")
    if named is None:
        raise first.refuse(
            f"one of {count} parts, but its name does not say which: the others cannot be found",
            "split.count",
            code="bad_split",
            hint=f"name the parts as they were published, such as NAME-00001-of-{count:05d}.gguf, in one folder",
        )
    if named.total != count:
        raise first.refuse(
            f"says {count} parts, but its name says {named.total}", "split.count", code="bad_split",
            hint="give the file its published name back",
        )  # fmt: skip
    if _number(first, "split.no") != 0:
        raise first.refuse(
            "is not the first part, though its name says so", "split.no", code="bad_split",
            hint="give the files their published names back",
        )  # fmt: skip


def _read_part(first: Header, number: int, count: int) -> Header:
    path = part_path(first.path, number)
    try:
        header = read_header(path)
    except ReadError as error:
        if error.code != "no_such_file":
            raise
        raise first.refuse(
            f"part {number} of {count} is missing: {Path(path).name}",
            "split.count",
            code="missing_part",
            hint="download all parts into one folder",
        ) from error
    said = _number(header, "split.no")
    if said != number - 1:
        raise header.refuse(
            f"says it is part {'of nothing' if said is None else said + 1}, but its name says {number}",
            "split.no",
            code="bad_split",
            hint="give the files their published names back",
        )
    if _number(header, "split.count") not in (None, count) or header.big_endian != first.big_endian:
        raise header.refuse("belongs to another set of parts", "split.count", code="bad_split")
    return header


def _joined(headers: list[Header]) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    seen: set[str] = set()
    for index, header in enumerate(headers):
        for tensor in header.tensors:
            if tensor.name in seen:
                raise header.refuse("the tensor is in an earlier part too", tensor.name, code="bad_split")
            seen.add(tensor.name)
            tensors.append(replace(tensor, file_index=index) if index else tensor)
    return tuple(tensors)


def _number(header: Header, key: str) -> int | None:
    """A whole number, or None without the key; a wrong type is refused."""
    value = header.metadata.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise header.refuse(f"is {header.types.get(key)}, but must be a whole number", key, code="bad_split")
