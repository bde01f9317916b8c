"""Names for parts of a configuration: ``${name}``, typed, each of earlier ones; and ``${env.NAME}``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bercail.core.tree import Entry, Fields, Items, Node, Origin, Reading, Scalar, Value, kind_of, nearest

LONGEST_NAME = 63
LARGEST = 16 * 1024 * 1024
"""Characters that all values of a file may have together once their macros are replaced."""

RESERVED = ("PORT", "MODEL_ID", "PID")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_USE = re.compile(r"\$\{(env\.[^${}]*|[A-Za-z0-9_-]+)\}")
_ENVIRONMENT = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Macro:
    """One macro as it is declared."""

    name: str
    value: Scalar
    line: int


Macros = tuple[Macro, ...]
Values = Mapping[str, Value]


def with_environment(text: str, environment: Mapping[str, str], origin: str) -> str:
    """``text`` with ``${env.NAME}`` replaced outside of comments, before it is read as YAML.

    Backslashes and double quotes of a value are escaped, as they must be between double quotes.

    Args:
        text: of the whole file.
        environment: variables by name.
        origin: the file, as errors name it.

    Raises:
        SettingsError: a variable is not set, or would break the line; tells its name and line.
    """
    if "${env." not in text:
        return text
    reading, lines = Reading(origin=Origin.of(origin)), text.split("\n")
    for number, line in enumerate(lines, start=1):
        if "${env." in line:
            end = _comment_start(line)
            lines[number - 1] = _replace(line[:end], environment, reading, number) + line[end:]
    return "\n".join(lines)


def _replace(text: str, environment: Mapping[str, str], reading: Reading, line: int) -> str:
    def value(use: re.Match[str]) -> str:
        found = environment.get(use[1])
        if found is None:
            raise reading.error(line, f"the environment variable {use[1]} is not set", f"export {use[1]}=...")
        if any(sign in found for sign in "\n\r\0"):
            raise reading.error(
                line, f"the environment variable {use[1]} holds more than one line", "give it a value of one line"
            )
        return found.replace("\\", "\\\\").replace('"', '\\"')

    return _ENVIRONMENT.sub(value, text)


def _comment_start(line: str) -> int:
    """Where the comment of a line begins: a ``#`` that follows a blank and stands between no quotes."""
    quote, before = "", " "
    for index, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote and (quote == "'" or before != "\\") else quote
        elif sign in "'\"" and (before in " \t[{,(" or before == sign == "'"):
            quote = sign
        elif sign == "#" and before in " \t":
            return index
        before = sign
    return len(line)


def read_macros(node: Node | None, reading: Reading, where: str) -> Macros:
    """The macros that a mapping declares, in their order.

    Raises:
        SettingsError: a name or a value is none that a macro may have.
    """
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return ()
    if not isinstance(node, Fields):
        raise reading.error(node.line, f"{where} is {kind_of(node)}", "write one 'name: value' per line below it")
    return tuple(_macro(entry, reading, where) for entry in node.entries)


def _macro(entry: Entry, reading: Reading, where: str) -> Macro:
    name, value = entry.name, entry.node
    if not _NAME.fullmatch(name):
        raise reading.error(
            entry.line, f"{where}: {name!r} is no name for a macro", "take letters, digits, '_' and '-' alone"
        )
    if len(name) > LONGEST_NAME:
        raise reading.error(
            entry.line, f"{where}: the name {name!r} is too long", f"take at most {LONGEST_NAME} characters"
        )
    if name in RESERVED:
        raise reading.error(entry.line, f"{where}: the name {name} is reserved", "take another name")
    if not isinstance(value, Scalar) or value.value is None:
        raise reading.error(
            entry.line, f"{where}: {name} must be a scalar, not {kind_of(value)}", "write one text, number or truth"
        )
    return Macro(name=name, value=value, line=entry.line)


def merged(general: Macros, own: Macros) -> Macros:
    """The macros of a model: its own stand in the place of general ones of the same name, else behind them."""
    replaced = {macro.name: macro for macro in own}
    kept = tuple(replaced.get(macro.name, macro) for macro in general)
    names = {macro.name for macro in general}
    return (*kept, *(macro for macro in own if macro.name not in names))


def resolve(macros: Macros, given: Values, reading: Reading, where: str) -> dict[str, Value]:
    """The value of every macro; one may use those declared above it.

    Args:
        macros: in their order.
        given: values by reserved name, as far as they are known here; the others are left as they are.
        reading: the file.
        where: the macros, as errors name them.

    Raises:
        SettingsError: one uses itself, a later one or one that does not exist.
    """
    values = dict(given)
    lines = {macro.name: macro.line for macro in macros}
    for macro in macros:
        for use in _uses(macro.value.value):
            if use == macro.name:
                raise reading.error(macro.line, f"{where}: {use} uses itself", "give it a value of its own")
            if use not in values and use in lines:
                raise reading.error(
                    macro.line, f"{where}: unknown macro ${{{use}}} in {macro.name}",
                    f"it is declared later, in {reading.origin.beside(lines[use])}: move it above",
                )  # fmt: skip
            if use not in values and use not in RESERVED:
                raise _unknown(use, tuple(values), reading, macro.line, f"{where}.{macro.name}")
        values[macro.name] = _replaced(macro.value.value, values, reading, macro.line)
    return values


def expand(node: Node, values: Values, reading: Reading, where: str, *, left: frozenset[str] = frozenset()) -> Node:
    """A node with every macro in its values replaced; one that is a whole value gives that its type.

    Args:
        node: any part of a file.
        values: of the macros, by name.
        reading: the file.
        where: the node, as errors name it.
        left: names that stay as they are.

    Raises:
        SettingsError: a macro does not exist, or the file becomes too large.
    """
    match node:
        case Scalar(value=str() as text):
            _check(_uses(text), values, reading, node.line, where, left)
            value = _replaced(text, values, reading, node.line)
            # A macro may hold a reserved name that its place does not know.
            _check([use for use in _uses(value) if use in RESERVED], values, reading, node.line, where, left)
            return node if value == text else Scalar(value=value, text=as_text(value), line=node.line)
        case Items():
            items = (
                expand(item, values, reading, f"{where}[{index}]", left=left) for index, item in enumerate(node.items)
            )
            return Items(items=tuple(items), line=node.line)
        case Fields():
            entries = (
                Entry(
                    name=entry.name,
                    line=entry.line,
                    node=expand(entry.node, values, reading, f"{where}.{entry.name}", left=left),
                )
                for entry in node.entries
            )
            return Fields(entries=tuple(entries), line=node.line)
        case _:
            return node


def mentions(text: str, name: str) -> bool:
    """Whether a text uses a macro."""
    return f"${{{name}}}" in text


def as_text(value: Value) -> str:
    """A value as it is written into a longer text: ``true``, ``8``, ``0.7``, ``1e+06``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return "" if value is None else str(value)
    mantissa, _, exponent = f"{value!r}".partition("e")
    if not value or (not exponent and 1e-4 <= abs(value) < 1e6):
        return mantissa.removesuffix(".0")
    return next(text for text in (f"{value:.{count}e}" for count in range(18)) if float(text) == value)


def _uses(value: Value) -> list[str]:
    return _USE.findall(value) if isinstance(value, str) else []


def _check(uses: list[str], values: Values, reading: Reading, line: int, where: str, left: frozenset[str]) -> None:
    for use in uses:
        if use not in values and use not in left:
            raise _unknown(use, tuple(values), reading, line, where)


def _unknown(use: str, known: tuple[str, ...], reading: Reading, line: int, where: str) -> Exception:
    if use.startswith("env."):
        hint = "a variable is read from the environment only outside of comments: put the value between quotes"
    elif use == "PORT":
        hint = "only a model whose cmd uses ${PORT} is given one"
    elif use == "PID":
        hint = "only cmdStop knows the process id"
    elif use == "MODEL_ID":
        hint = "only models have one"
    else:
        hint = nearest(use, known)
    return reading.error(line, f"unknown macro ${{{use}}} in {where}", hint, code="unknown_macro")


def _replaced(value: Value, values: Values, reading: Reading, line: int) -> Value:
    """A value with the macros that are known replaced."""
    if not isinstance(value, str):
        return value
    whole = _USE.fullmatch(value)
    if whole and whole[1] in values:
        return values[whole[1]]
    parts, end = [], 0
    for use in _USE.finditer(value):
        parts += [value[end : use.start()], as_text(values[use[1]]) if use[1] in values else use[0]]
        end = use.end()
        reading.grown += len(parts[-2]) + len(parts[-1])
        if reading.grown > LARGEST:
            raise reading.error(line, "with its macros replaced the file is longer than 16 MiB", "use fewer of them")
    return "".join((*parts, value[end:]))
