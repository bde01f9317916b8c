"""What a model has read survives its swap."""

import json
from typing import Any

import pytest

from bercail.core import news
from bercail.core.errors import EngineError, StoreError
from bercail.core.launch import Address
from bercail.flows.keepsakes import PATIENCE_S, bring_back, save
from bercail.flows.prepare import Prepared, prepare
from fakes.house import ClosingUpstream, Fakes, run
from fakes.models import a_found
from fakes.upstream import Scripted

ENGINE = Address(port=1)


class Scene:
    """A model with two slots, and an engine that answers what it is told to."""

    def __init__(self, *answers: object, place: str = "/contexts/") -> None:
        self.fakes = Fakes(upstream=ClosingUpstream(*(scripted(answer) for answer in answers)))
        self.fakes.shelf.place = place
        self.fakes.add("a")
        self.told: list[news.News] = []
        self.prepared = run(lambda: prepare(self.fakes.house(), a_found("a"), self.told.append))
        self.told.clear()
        object.__setattr__(self.prepared.spec.settings, "slots", 2)

    def asked(self) -> list[tuple[str, Any]]:
        return [(one.target, json.loads(one.body)["filename"]) for one in self.fakes.upstream.asked]

    def warnings(self) -> list[str]:
        return [item.text for item in self.told if isinstance(item, news.Warned)]


def scripted(answer: object) -> Scripted:
    if isinstance(answer, EngineError):
        return Scripted(before_headers=answer)
    status, body = answer if isinstance(answer, tuple) else (200, answer)
    return Scripted(status=status, pieces=[body if isinstance(body, bytes) else json.dumps(body).encode()])


def saving(scene: Scene) -> None:
    run(lambda: save(scene.fakes.house(), scene.prepared, ENGINE, scene.told.append))


def bringing(scene: Scene) -> None:
    run(lambda: bring_back(scene.fakes.house(), scene.prepared, ENGINE, scene.told.append))


def test_each_slot_is_saved_under_a_name_of_its_own_and_short_ones_are_dropped() -> None:
    scene = Scene({"n_saved": 8000}, {"n_saved": 9})
    assert scene.prepared.spec.slot_folder == "/contexts/"
    scene.fakes.shelf.names = {"x"}
    saving(scene)
    (first, name), (second, other) = scene.asked()
    assert (first, second) == ("/slots/0?action=save", "/slots/1?action=save")
    assert name != other
    assert scene.told == [news.ContextKept(model_id="a", tokens=8000)]
    assert scene.fakes.shelf.settled == 1


def test_the_budget_is_looked_after_before_the_next_slot_is_written() -> None:
    scene = Scene({"n_saved": 8000}, {"n_saved": 900})
    saving(scene)
    assert scene.fakes.shelf.settled == 2
    assert scene.told == [news.ContextKept(model_id="a", tokens=8900)]


def test_nothing_is_said_where_nothing_was_worth_it() -> None:
    scene = Scene({"n_saved": 0}, {})
    saving(scene)
    assert scene.told == []


def test_what_was_saved_is_brought_back() -> None:
    scene = Scene({"n_saved": 8000}, {"n_saved": 0})
    saving(scene)
    scene.fakes.shelf.names = {scene.asked()[0][1]}
    again = Scene({"n_restored": 8000})
    again.fakes.shelf.names = scene.fakes.shelf.names
    bringing(again)
    assert again.asked() == [("/slots/0?action=restore", scene.asked()[0][1])]
    assert again.told == [news.ContextRestored(model_id="a", tokens=8000)]


def test_nothing_is_said_where_nothing_came_back() -> None:
    scene = Scene({"n_restored": 0}, {})
    scene.fakes.shelf.names = _names(scene)
    bringing(scene)
    assert scene.told == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, {"error": {"message": "disk full"}}), "disk full"),
        ((500, {"error": 3}), "status 500"),
        ((200, [1]), "status 200"),
        ((200, b"<"), "no JSON"),
        (EngineError("broke off"), "broke off"),
    ],
)
def test_what_goes_wrong_is_told_and_costs_nothing_else(answer: object, words: str) -> None:
    scene = Scene(answer)
    scene.fakes.shelf.names = _names(scene)
    saving(scene)
    (warning,) = scene.warnings()
    assert words in warning
    assert len(scene.fakes.shelf.names) < 2, "what was half written takes no room"
    back = Scene(answer)
    back.fakes.shelf.names = _names(back)
    bringing(back)
    assert words in back.warnings()[0]
    assert len(back.fakes.shelf.names) < 2, "what could not be read is not tried again"


def _names(scene: Scene) -> set[str]:
    from bercail.flows.keepsakes import _name

    return {_name(scene.prepared, slot) for slot in range(2)}


def test_an_engine_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bercail.flows.keepsakes.PATIENCE_S", 0.01)
    assert PATIENCE_S > 1
    scene = Scene()
    scene.fakes.upstream = ClosingUpstream(Scripted(before_headers=10.0))
    saving(scene)
    assert "no answer within" in scene.warnings()[0]


def test_without_a_place_nothing_is_asked() -> None:
    scene = Scene(place="")
    saving(scene)
    bringing(scene)
    assert scene.fakes.upstream.asked == []


def test_a_place_that_cannot_be_made_is_told() -> None:
    class Broken:
        @property
        def place(self) -> str:
            raise StoreError("no room for saved contexts")

    fakes = Fakes()
    fakes.add("a")
    fakes.shelf = Broken()  # type: ignore[assignment] # only its place is asked for
    told: list[news.News] = []
    prepared: Prepared = run(lambda: prepare(fakes.house(), a_found("a"), told.append))
    assert prepared.spec.slot_folder == ""
    assert [item.text for item in told if isinstance(item, news.Warned)] == ["no room for saved contexts"]
