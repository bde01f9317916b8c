"""What counts at once after a reload, though no model starts anew for it, is told."""

from dataclasses import replace

import pytest

from bercail.core.altered import altered
from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Gateway, Loaded, Peer, Profile, Selector, SideRule, Strategy
from bercail.core.declared import Declared, Filters, Keep
from bercail.core.groups import Group, Groups
from bercail.core.options import ServerOptions, Settings


def a_model(name: str, *argv: str) -> Declared:
    return Declared(id=name, line=1, source=CommandSpec(model_id=name, argv=argv or ("server",)))


FULL = Configuration(
    models=(a_model("m"), a_model("n")),
    selectors=(Selector(id="s", line=2, strategy=Strategy.WARM, targets=("m",)),),
    profiles=(Profile(id="p", line=3, pins={"x": "m"}),),
    side_rules=(SideRule(id="r", line=4),),
    peers=(Peer(id="far", line=5, url="http://far", models=("q",)),),
)


def words(now: Configuration, before: Configuration = FULL) -> tuple[str, ...]:
    return altered(Loaded(configuration=before), Loaded(configuration=now))


def test_what_is_the_same_in_other_lines_is_not_told() -> None:
    moved = {
        name: tuple(replace(one, line=90) for one in getattr(FULL, name))
        for name in ("models", "selectors", "profiles", "side_rules", "peers")
    }
    assert words(replace(FULL, **moved)) == ()  # type: ignore[arg-type] # all of them are tuples


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"aliases": ("gpt-5",)}, "other names of m"),
        ({"ttl_s": 9.0, "filters": Filters(strip=("top_p",))}, "ttl, filters of m"),
        ({"keep": Keep.PINNED, "concurrency_limit": 3}, "keep, limit of requests of m"),
        ({"upstream_name": "x"}, "name that is sent on of m"),
    ],
)
def test_what_is_said_of_a_model_otherwise_is_told_by_its_name(changes: dict[str, object], told: str) -> None:
    first, second = FULL.models
    assert words(replace(FULL, models=(replace(first, **changes), second))) == (told,)  # type: ignore[arg-type] # a table


def test_models_that_start_anew_come_or_go_are_told_elsewhere() -> None:
    assert words(replace(FULL, models=(a_model("m", "another"), a_model("new")))) == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"selectors": ()}, "selectors"),
        ({"profiles": (Profile(id="p", line=3, pins={"x": "n"}),)}, "profiles"),
        ({"side_rules": ()}, "side requests"),
        ({"peers": ()}, "servers elsewhere"),
        ({"rule": Groups(groups=(Group(name="g", members=("m",)),))}, "who may be in memory together"),
        ({"preload": ("m",)}, "what is loaded from the start"),
        ({"gateway": Gateway(api_keys=("k",))}, "API keys"),
        ({"gateway": Gateway(aliases_listed=True)}, "aliases listed"),
    ],
)
def test_what_is_said_of_all_otherwise_is_told(changes: dict[str, object], told: str) -> None:
    assert words(replace(FULL, **changes)) == (told,)  # type: ignore[arg-type] # a table names what it changes


def test_what_waits_for_the_next_start_is_none_of_it() -> None:
    assert words(replace(FULL, gateway=Gateway(log_level="debug"))) == ()


def test_settings_that_a_reload_takes_are_told_by_their_keys() -> None:
    now = Loaded(settings=Settings(server=ServerOptions(queue=3, port=9)))
    assert altered(Loaded(), now) == ("server.queue",)
