"""The JSON schema of a configuration, from the tables that it is read by; editors complete and check with it."""

from typing import assert_never

from bercail.core.config_keys import TOP
from bercail.core.keys import Key, Keys, Shape
from bercail.core.option import Kind, Option
from bercail.core.options import GROUPS, EngineOptions, options_of
from bercail.core.tree import Json

_MACRO: dict[str, Json] = {"type": "string", "pattern": r"\$\{[A-Za-z0-9_.-]+\}"}
_OPTIONS = {spec.name: spec for spec in options_of(EngineOptions)}
_REQUIRED = {"selectors": ("strategy", "targets"), "profiles": ("pins",), "peers": ("proxy", "models")}
"""What every entry of a mapping must have."""


def configuration_schema() -> dict[str, Json]:
    """The schema of ``bercail.yaml``, in the JSON Schema language of 2020-12."""
    settings = {spec.key: _option(spec) for group in GROUPS for spec in options_of(group)}
    groups: dict[str, Json] = {}
    for group in GROUPS:
        options = tuple(options_of(group))
        help_text = (group.__doc__ or "").strip()
        groups[options[0].group] = {
            "description": help_text,
            **_object({spec.name: _option(spec) for spec in options}),
            "type": ("object", "null"),
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bercail.yaml",
        **_object({**groups, **settings, **_keys(TOP)}),
        "patternProperties": {"^x-": True},
    }


def _object(properties: dict[str, Json]) -> dict[str, Json]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _keys(keys: Keys) -> dict[str, Json]:
    return {key.name: _key(key) for key in keys}


def _key(key: Key) -> dict[str, Json]:
    return {"description": key.help, **_shape(key)}


def _shape(key: Key) -> dict[str, Json]:  # noqa: C901 - one branch per shape
    match key.shape:
        case Shape.TEXT:
            if key.choices:
                return {"anyOf": ({"enum": key.choices}, _MACRO)}
            return {"type": ("string", "number", "boolean")}
        case Shape.COUNT:
            return {"anyOf": ({"type": "integer", **_bounds(key)}, _MACRO)}
        case Shape.FLAG:
            return {"anyOf": ({"type": "boolean"}, {"enum": ("yes", "no", "on", "off")}, _MACRO)}
        case Shape.DURATION:
            return {"type": "string"}
        case Shape.TEXTS:
            item: dict[str, Json] = {"type": ("string", "number", "boolean")}
            return {"type": "array", "items": {"enum": key.choices} if key.choices else item}
        case Shape.PAIRS:
            return {"type": "object"}
        case Shape.OBJECT:
            return _object(_keys(key.below))
        case Shape.OBJECTS:
            return {"type": ("object", "null"), "additionalProperties": _entry(key)}
        case Shape.OPTION:
            return _option(_OPTIONS[key.name])
        case _ as unreachable:
            assert_never(unreachable)


def _entry(key: Key) -> dict[str, Json]:
    """An entry of a mapping of names."""
    entry = _object(_keys(key.below))
    if key.name == "models":
        return {**entry, "anyOf": tuple({"required": (name,)} for name in ("model", "cmd", "proxy"))}
    required = _REQUIRED.get(key.name)
    return {**entry, "required": required} if required else entry


def _bounds(spec: Key | Option) -> dict[str, Json]:
    bounds: dict[str, Json] = {}
    if spec.minimum is not None:
        bounds["minimum"] = spec.minimum
    if spec.maximum is not None:
        bounds["maximum"] = spec.maximum
    return bounds


def _option(spec: Option) -> dict[str, Json]:
    nothing: tuple[Json, ...] = ({"type": "null"},) if spec.default is None else ()
    return {"description": spec.help, "anyOf": (*_notations(spec), *nothing, _MACRO)}


def _notations(spec: Option) -> tuple[Json, ...]:
    match spec.kind:
        case Kind.TEXT:
            return ({"type": ("string", "number"), "minLength": 1},)
        case Kind.COUNT:
            return ({"type": "integer", **_bounds(spec)},)
        case Kind.NUMBER:
            return ({"type": "number", **_bounds(spec)},)
        case Kind.BYTES | Kind.TOKENS | Kind.SECONDS:
            return ({"type": "number", **_bounds(spec)}, {"type": "string", "pattern": r"^\s*[0-9]"})
        case Kind.FLAG:
            return ({"type": "boolean"}, {"enum": ("yes", "no", "on", "off", 0, 1)})
        case Kind.CHOICE:
            return ({"enum": spec.choices},)
        case Kind.PATHS:
            return ({"type": "string"}, {"type": "array", "items": {"type": "string"}})
        case _ as unreachable:
            assert_never(unreachable)
