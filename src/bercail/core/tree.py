"""What a YAML file holds, with the line of everything: scalars, lists, mappings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias, TypeVar, assert_never

from bercail.core.alike import alike
from bercail.core.errors import SettingsError

T = TypeVar("T")
Value: TypeAlias = "str | int | float | bool | None"
Json: TypeAlias = "str | int | float | bool | tuple[Json, ...] | dict[str, Json] | None"


Texts: TypeAlias = Sequence[tuple[str, str]]
"""Files that are read as one, as errors name them, each with its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One value.

    Attributes:
        value: as YAML 1.2 types it; None where nothing stands, or ``null``.
        text: as it is written.
        line: counted from 1.
    """

    value: Value
    text: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list."""

    items: "tuple[Node, ...]"
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name of a mapping and what it holds; ``line`` is the name's."""

    name: str
    line: int
    node: "Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """A mapping; no name occurs twice."""

    entries: tuple[Entry, ...]
    line: int

    def get(self, name: str) -> "Node | None":
        """What ``name`` holds, or None if it is not there."""
        return next((entry.node for entry in self.entries if entry.name == name), None)

    def line_of(self, name: str) -> int:
        """The line of ``name``, or of the mapping if it is not there."""
        return next((entry.line for entry in self.entries if entry.name == name), self.line)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in their order."""
        return tuple(entry.name for entry in self.entries)


Node: TypeAlias = Scalar | Items | Fields
EMPTY = Fields(entries=(), line=1)


def text_scalar(text: str, line: int) -> Scalar:
    """A scalar that holds text."""
    return Scalar(value=text, text=text, line=line)


def is_nothing(node: Node | None) -> bool:
    """Whether nothing is written there."""
    return node is None or (isinstance(node, Scalar) and node.value is None)


def plain(node: Node) -> Json:
    """The same without lines."""
    match node:
        case Scalar():
            return node.value
        case Items():
            return tuple(plain(item) for item in node.items)
        case Fields():
            return {entry.name: plain(entry.node) for entry in node.entries}
        case _ as unreachable:
            assert_never(unreachable)


def kind_of(node: Node) -> str:
    """What a node is, in a word for errors."""
    match node:
        case Scalar():
            return "nothing" if node.value is None else repr(node.value)
        case Items():
            return "a list"
        case Fields():
            return "a mapping"
        case _ as unreachable:
            assert_never(unreachable)


class NoteKind(StrEnum):
    """Why a note is made."""

    IGNORED = "ignored"
    CHANGED = "changed"
    WARNING = "warning"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that was read otherwise than one might think.

    Attributes:
        line: where, counted from 1.
        text: one sentence without a full stop.
    """

    line: int
    kind: NoteKind
    text: str


class Dialect(StrEnum):
    """Whose file it is: ours is strict, llama-swap's is read as llama-swap reads it."""

    BERCAIL = "bercail"
    LLAMA_SWAP = "llama-swap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where lines come from: one file, or several whose lines are counted on as if they were one.

    Attributes:
        files: each as errors name it, with the number of lines before its first.
    """

    files: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, name: str) -> "Origin":
        """A single file."""
        return cls(files=((name, 0),))

    def file(self, line: int) -> str:
        """The file that a line stands in."""
        return next(name for name, before in reversed(self.files) if before < line)

    def own(self, line: int) -> int:
        """A line as its file counts it."""
        return line - next(before for _, before in reversed(self.files) if before < line)

    def place(self, line: int) -> str:
        """A line, as errors begin."""
        return f"{self.file(line)}, line {self.own(line)}"

    def beside(self, line: int) -> str:
        """Another line, for an error that has named its own."""
        return f"line {line}" if len(self.files) == 1 else f"{self.file(line)}, line {self.own(line)}"


@dataclass(slots=True, kw_only=True)
class Reading:
    """A file that is being read.

    Attributes:
        origin: the file, as errors name it.
        notes: what was found on the way.
        grown: characters that replaced macros have made.
        wrong: what was found wrong so far, in parts that do not depend on each other.
    """

    origin: Origin
    dialect: Dialect = Dialect.BERCAIL
    notes: list[Note] = field(default_factory=list)
    grown: int = 0
    wrong: list[SettingsError] = field(default_factory=list)

    @property
    def strict(self) -> bool:
        """Whether what is not known is an error."""
        return self.dialect is Dialect.BERCAIL

    def error(self, line: int, message: str, hint: str, *, code: str = "") -> SettingsError:
        """The error for what stands in ``line``."""
        return SettingsError(f"{self.origin.place(line)}: {message}", hint=hint, code=code, line=line)

    def attempt(self, read: Callable[[], T], line: int) -> T | None:
        """What ``read`` gives, or None where something in it is wrong, which is kept until ``settle``.

        Args:
            read: reads a part.
            line: where that part begins, for errors that do not tell.
        """
        try:
            return read()
        except SettingsError as error:
            found = (error, *error.others)
            for one in found:
                one.line = line if one.line is None else one.line
                one.others = ()
            self.wrong += found
            return None

    def settle(self) -> None:
        """Go on only if nothing is wrong so far.

        Raises:
            SettingsError: the first thing that is wrong; it has the others.
        """
        found: dict[tuple[int | None, str], SettingsError] = {}
        for error in sorted(self.wrong, key=lambda error: error.line or 0):
            # An unknown key is seen by the reader of settings and by that of the configuration.
            told = error.code if error.code == "unknown_setting" else error.message
            found.setdefault((error.line, told), error)
        if found:
            first, *others = found.values()
            first.others = tuple(others)
            raise first

    def note(self, line: int, kind: NoteKind, text: str) -> None:
        """Keep a note."""
        self.notes.append(Note(line=line, kind=kind, text=text))

    def unknown(self, line: int, message: str, name: str, known: tuple[str, ...]) -> SettingsError:
        """The error for a name that means nothing here, with the nearest that does."""
        return self.error(line, message, nearest(name, known), code="unknown_name")


def nearest(name: str, known: tuple[str, ...]) -> str:
    """What to do about a name that is not known."""
    near = alike(name, known)
    if near:
        return f"did you mean {near[0]}?"
    return "known: " + ", ".join(known) if known else "there is none"
