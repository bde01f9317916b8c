"""Chat templates: finds syntax errors that are errors in every Jinja; whatever is in doubt passes."""

import re

_OPEN = re.compile(r"\{%|\{\{|\{#")
_TAG = re.compile(r"[-+]?\s*([A-Za-z_]+)")
_END_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_CLOSE = {"{%": "%}", "{{": "}}", "{#": "#}"}
_PAIRED = ("for", "if", "macro", "filter", "call")


def syntax_error(template: str) -> str | None:
    """What is wrong with the template, or None if nothing is plain to see.

    Only what no dialect forgives: a delimiter that never closes, and ``for``, ``if``, ``macro``, ``filter`` or ``call``
    that never end or end crosswise.
    """
    stack: list[tuple[str, int]] = []
    place = 0
    while opening := _OPEN.search(template, place):
        start, body, mark = opening.start(), opening.end(), opening.group()
        end = template.find(_CLOSE[mark], body) if mark == "{#" else _end_of_code(template, body, _CLOSE[mark])
        if end < 0:
            return f"{mark!r} in line {_line(template, start)} is never closed"
        place = end + 2
        tag = _TAG.match(template, body) if mark == "{%" else None
        if tag is None:
            continue
        if tag[1] == "raw":
            closing = _END_RAW.search(template, place)
            if closing is None:
                return f"'raw' in line {_line(template, start)} has no 'endraw'"
            place = closing.end()
        elif problem := _balance(tag[1], start, stack, template):
            return problem
    if stack:
        return f"{stack[-1][0]!r} in line {_line(template, stack[-1][1])} has no 'end{stack[-1][0]}'"
    return None


def _balance(tag: str, start: int, stack: list[tuple[str, int]], template: str) -> str | None:
    if tag in _PAIRED:
        stack.append((tag, start))
    elif tag.startswith("end") and tag[3:] in _PAIRED:
        if not stack or stack[-1][0] != tag[3:]:
            return f"{tag!r} in line {_line(template, start)} ends nothing that is open"
        stack.pop()
    return None


def _end_of_code(template: str, place: int, close: str) -> int:
    """Where ``close`` stands outside string literals; if nowhere, where it stands at all; -1 if it does not."""
    begin = place
    while place < len(template):
        letter = template[place]
        if letter in "'\"":
            place = _end_of_string(template, place)
        elif template.startswith(close, place):
            return place
        else:
            place += 1
    return template.find(close, begin)


def _end_of_string(template: str, place: int) -> int:
    quote = template[place]
    place += 1
    while place < len(template) and template[place] != quote:
        place += 2 if template[place] == "\\" else 1
    return place + 1


def _line(template: str, place: int) -> int:
    return template.count("\n", 0, place) + 1
