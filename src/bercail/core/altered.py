"""What of a configuration counts at once after it was read anew, though no model starts anew for it."""

from collections.abc import Iterator
from dataclasses import fields, replace

from bercail.core.configuration import Configuration, Gateway, Loaded, Peer, Profile, Selector, SideRule
from bercail.core.declared import Declared
from bercail.core.later import AT_ONCE, GATEWAY_LATER
from bercail.core.options import every_option

_WORDS = {
    "aliases": "other names",
    "ttl_s": "ttl",
    "unlisted": "listing",
    "concurrency_limit": "limit of requests",
    "overflow": "what becomes of long prompts",
    "upstream_name": "name that is sent on",
    "loading_state": "telling how loading goes",
    "ignore_websockets": "what websockets do",
}
"""Attributes of a model where the name of the attribute does not say enough."""
_SOURCE = ("id", "line", "source")
"""What a model is, or starts anew for."""


def altered(before: Loaded, now: Loaded) -> tuple[str, ...]:
    """What is otherwise in ``now`` and holds from the reload on, in words; models that came or went are left out."""
    return (
        *_of_models(before.configuration, now.configuration),
        *_of_all(before.configuration, now.configuration),
        *_of_gateway(before.configuration.gateway, now.configuration.gateway),
        *_of_settings(before, now),
    )


def _of_models(before: Configuration, now: Configuration) -> Iterator[str]:
    had = {model.id: model for model in before.models}
    for model in now.models:
        if model.id in had and (words := tuple(_differing(had[model.id], model))):
            yield f"{', '.join(words)} of {model.id}"


def _differing(before: Declared, now: Declared) -> Iterator[str]:
    for name in (item.name for item in fields(Declared) if item.name not in _SOURCE):
        if getattr(before, name) != getattr(now, name):
            yield _WORDS.get(name, name.replace("_", " "))


def _of_all(before: Configuration, now: Configuration) -> Iterator[str]:
    parts = (
        ("selectors", _wherever(before.selectors) == _wherever(now.selectors)),
        ("profiles", _wherever(before.profiles) == _wherever(now.profiles)),
        ("side requests", _wherever(before.side_rules) == _wherever(now.side_rules)),
        ("servers elsewhere", _wherever(before.peers) == _wherever(now.peers)),
        ("who may be in memory together", before.rule == now.rule),
        ("what is loaded from the start", before.preload == now.preload),
    )
    yield from (what for what, same in parts if not same)


def _wherever(
    declared: tuple[Selector, ...] | tuple[Profile, ...] | tuple[SideRule, ...] | tuple[Peer, ...],
) -> tuple[Selector | Profile | SideRule | Peer, ...]:
    """The same without the lines that they stand in, which move with whatever comes before them."""
    return tuple(replace(one, line=0) for one in declared)


def _of_gateway(before: Gateway, now: Gateway) -> Iterator[str]:
    for name in (item.name for item in fields(Gateway) if item.name not in GATEWAY_LATER):
        if getattr(before, name) != getattr(now, name):
            yield name.replace("_", " ").replace("api", "API")


def _of_settings(before: Loaded, now: Loaded) -> Iterator[str]:
    for spec in every_option():
        had, has = (getattr(getattr(one.settings, spec.group), spec.name) for one in (before, now))
        if spec.key in AT_ONCE and had != has:
            yield spec.key
