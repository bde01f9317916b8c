"""Models as clients see them: kept while they are the same, and never older than what they are made of."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Gateway, Profile, Profiles
from bercail.core.declared import Declared
from bercail.core.launch import Progress
from bercail.core.options import EngineOptions
from bercail.core.route import Phase
from bercail.flows.resident import Entry
from bercail.flows.roster import Roster
from bercail.flows.sight import MOST_KEPT, Around, Sight
from fakes.models import a_found

COMMAND = CommandSpec(model_id="a", argv=("a-server",))
DECLARED = Declared(id="a", line=1, source=COMMAND, aliases=("b",))
PROFILES = Profiles(known=(Profile(id="night", line=1, pins={"c": "a"}),))


def an_entry() -> Entry:
    return Entry(id="a", declared=DECLARED, command=COMMAND)


def around(entry: Entry, gateway: Gateway | None = None, profiles: Profiles = PROFILES) -> Around:
    roster = Roster(entries={"a": entry}, names={"b": "a"}, selectors={})
    configuration = Configuration(gateway=gateway or Gateway())
    return Around(roster=roster, configuration=configuration, profiles=profiles, general=EngineOptions())


CHANGES: dict[str, Callable[[Entry], None]] = {
    "error": lambda entry: setattr(entry, "error", "it broke"),
    "away": lambda entry: setattr(entry, "away", "its server is gone"),
    "chat": lambda entry: setattr(entry, "chat_refusal", "no template"),
    "loads": lambda entry: setattr(entry, "loads", 3),
    "swaps": lambda entry: setattr(entry, "swaps", 2),
    "declared": lambda entry: setattr(entry, "declared", replace(DECLARED, name="Ay")),
    "progress": lambda entry: setattr(entry, "progress", Progress(stage="weights", fraction=0.5)),
    "found": lambda entry: setattr(entry, "found", a_found(modified_s=7)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_has_changed_is_seen_as_it_is(change: str) -> None:
    entry, sight = an_entry(), Sight()
    beside, phase = around(entry), Phase.LOADING if change == "progress" else Phase.LOADED
    before = sight.see(entry, phase, beside, requests=0, waiting=0)
    CHANGES[change](entry)
    after = sight.see(entry, phase, beside, requests=0, waiting=0)
    assert after == Sight().see(entry, phase, beside, requests=0, waiting=0)
    assert after != before


def test_a_model_that_stays_the_same_is_not_made_anew() -> None:
    entry, sight = an_entry(), Sight()
    first = sight.see(entry, Phase.LOADED, around(entry), requests=1, waiting=0, asked="b")
    assert sight.see(entry, Phase.LOADED, around(entry), requests=1, waiting=0, asked="b") is first


def test_what_lies_around_a_model_is_seen() -> None:
    entry, sight = an_entry(), Sight()

    def also(gateway: Gateway | None = None, profiles: Profiles = PROFILES) -> dict[str, str]:
        beside = around(entry, gateway, profiles)
        return dict(sight.see(entry, Phase.UNLOADED, beside, requests=0, waiting=0).also)

    assert also() == {}
    assert also(Gateway(aliases_listed=True)) == {"b": "alias"}
    assert also(profiles=PROFILES.switched("night")) == {"c": "profile"}
    assert also() == {}


def test_phase_load_and_name_are_seen_however_many_there_were() -> None:
    entry, sight = an_entry(), Sight()
    for number in (*range(MOST_KEPT + 2), 0):
        seen = sight.see(entry, Phase.LOADED, around(entry), requests=number, waiting=number + 1, asked="b")
        assert (seen.requests, seen.waiting, seen.asked, seen.phase) == (number, number + 1, "b", Phase.LOADED)
    assert sight.see(entry, Phase.FAILED, around(entry), requests=0, waiting=0).phase is Phase.FAILED
