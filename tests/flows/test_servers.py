"""Which of the servers that run here a command means."""

import json
from dataclasses import replace

import pytest

from bercail.core import news
from bercail.core.errors import BercailError, EngineError, NotFoundError, UsageError
from bercail.core.server import Server
from bercail.flows import Seat, Sought, meant, record_of, running_at, take_seat, the_one
from bercail.flows.hand import Told
from fakes.house import ClosingUpstream, FakeRegister, Fakes, run
from fakes.upstream import Scripted

ONE = Server(pid=1, url="http://127.0.0.1:8701", config="/one.yaml")
TWO = Server(pid=2, url="http://127.0.0.1:8702")


def fakes(*servers: Server, answers: tuple[Scripted, ...] = (Scripted(),)) -> Fakes:
    made = Fakes(upstream=ClosingUpstream(*answers), register=FakeRegister(running=servers))
    made.add("a")
    return made


def ports(made: Fakes, sought: Sought) -> list[int]:
    return [house.settings.server.port for house in meant(made.house(), sought)]


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        (Sought(), [8701, 8702]), (Sought(config="/one.yaml"), [8701]), (Sought(config="/other.yaml"), [8123]),
        (Sought(placed=True), [8123]), (Sought(placed=True, config="/one.yaml"), [8123]),
    ],
)  # fmt: skip
def test_servers_that_run_are_found_unless_a_place_is_named(sought: Sought, found: list[int]) -> None:
    assert ports(fakes(ONE, TWO), sought) == found


def test_without_a_server_the_place_of_the_settings_is_left() -> None:
    assert ports(fakes(), Sought()) == [8123]


def test_the_only_server_needs_no_name() -> None:
    assert the_one(fakes(TWO).house(), Sought()).settings.server.port == 8702


def test_of_several_servers_one_must_be_named() -> None:
    with pytest.raises(UsageError) as refused:
        the_one(fakes(ONE, TWO).house(), Sought())
    assert refused.value.message == "2 servers run here: http://127.0.0.1:8701 (/one.yaml), http://127.0.0.1:8702"
    assert "--port" in refused.value.hint


@pytest.mark.parametrize(
    ("servers", "sought", "place"),
    [
        ((), Sought(), ""), ((), Sought(config="/one.yaml"), ""), ((TWO,), Sought(), ""),
        ((replace(ONE, record="/r"),), Sought(), "/r"), ((replace(ONE, record="/r"),), Sought(config="/b.yaml"), ""),
        ((replace(ONE, record="/r"), replace(TWO, record="/r")), Sought(), "/r"),
        ((replace(ONE, record="/r"), TWO), Sought(config="/one.yaml"), "/r"),
    ],
)  # fmt: skip
def test_the_record_is_that_of_the_server_that_runs(servers: tuple[Server, ...], sought: Sought, place: str) -> None:
    assert record_of(fakes(*servers).house(), sought) == place


def test_of_servers_with_records_of_their_own_one_must_be_named() -> None:
    made = fakes(replace(ONE, record="/r"), TWO)
    with pytest.raises(UsageError, match="2 servers run here"):
        record_of(made.house(), Sought())
    house = made.house()
    there = replace(house, settings=replace(house.settings, server=replace(house.settings.server, port=8701)))
    assert record_of(there, Sought(placed=True)) == "/r"
    with pytest.raises(UsageError, match="no server of this user runs here at port 8123"):
        record_of(house, Sought(placed=True))


def answer(*rows: dict[str, object], name: str = "running") -> Scripted:
    return Scripted(pieces=[json.dumps({name: rows}).encode()])


def nobody(code: str = "engine_unreachable") -> Scripted:
    return Scripted(before_headers=EngineError("nobody", code=code))


def test_every_server_tells_what_it_has_and_one_that_does_not_keeps_nothing_back() -> None:
    made = fakes(ONE, TWO, answers=(nobody(), answer({"model": "a"})))
    first, second = run(lambda: running_at(meant(made.house(), Sought())))
    assert (first.place, type(first.error)) == ("127.0.0.1:8701", NotFoundError)
    assert second == Told(place="127.0.0.1:8702", rows=({"model": "a"},))


@pytest.mark.parametrize(("code", "kind"), [("engine_unreachable", NotFoundError), ("broke_off", EngineError)])
def test_where_none_answers_that_is_the_error(code: str, kind: type[BercailError]) -> None:
    made = fakes(ONE, TWO, answers=(nobody(code),))
    with pytest.raises(kind):
        run(lambda: running_at(meant(made.house(), Sought())))


def sit(made: Fakes, name: str) -> Seat:
    async def main() -> Seat:
        told: list[news.News] = []
        async with take_seat(made.house(), name, told.append) as seat:
            return seat

    return run(main)


def listing(*names: str) -> Scripted:
    rows: list[dict[str, object]] = [{"id": name} for name in names]
    return answer(*rows, name="data")


def test_a_conversation_is_held_at_the_server_that_has_the_model() -> None:
    made = fakes(ONE, TWO, answers=(listing("b"), Scripted(status=404), listing("a"), listing("a")))
    seat = sit(made, "a")
    assert (seat.address.port, seat.running) == (8702, True)


def test_a_name_that_the_second_server_does_not_list_but_answers_to_is_found_there() -> None:
    row = Scripted(pieces=[json.dumps({"id": "a"}).encode()])
    made = fakes(ONE, TWO, answers=(nobody(), listing("b"), row, listing("b"), row))
    assert sit(made, "alias").address.port == 8702


def test_a_model_that_no_server_has_gets_an_engine_of_its_own() -> None:
    made = fakes(ONE, TWO, answers=(listing("b"), Scripted(status=404)) * 3)
    assert not sit(made, "a").running


def test_without_a_name_several_servers_are_told() -> None:
    with pytest.raises(UsageError, match="2 servers run here"):
        sit(fakes(ONE, TWO), "")
