from hypothesis import given
from hypothesis import strategies as st

from bercail.core.line import Line, Ticket
from bercail.core.share import MOST_AWAY, Shares


def ticket(number: int, key: str = "x", priority: int = 0) -> Ticket:
    return Ticket(number=number, model="m", key=key, priority=priority, arrived_s=float(number))


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 1), st.integers(0, 5), st.booleans()), max_size=20),
    st.integers(0, 10),
)
def test_a_line_serves_lanes_by_turn_and_each_in_order_of_arrival(
    arrivals: list[tuple[str, int, int, bool]], next_tag: int
) -> None:
    line, there, tags = Line(), dict[tuple[str, int], list[Ticket]](), dict[tuple[str, int], float]()
    for number, (key, priority, tag, leaves) in enumerate(arrivals):
        one = ticket(number, key, priority)
        assert not line.has(one)
        lane = there.setdefault((key, priority), [])
        if not lane:
            tags[key, priority] = tag
        lane.append(one)
        line = line.with_ticket(one, tag)
        assert line.has(one)
        if leaves:
            gone = lane.pop(len(lane) // 2)
            line = line.without(gone)
            assert not line.has(gone)
    waiting = sorted((one for lane in there.values() for one in lane), key=lambda one: one.number)
    assert list(line) == waiting
    assert len(line) == len(waiting)
    assert bool(line) is bool(waiting)
    if waiting:
        assert line.oldest == waiting[0]
    while line:
        name = min((name for name, lane in there.items() if lane), key=lambda name: (tags[name], there[name][0].number))
        assert line.first_tag == tags[name]
        assert line.first == there[name][0]
        line = line.without(there[name].pop(0), next_tag)
        tags[name] = next_tag
    assert not line.lanes


def test_positions_are_those_of_lanes_that_alternate() -> None:
    line = Line()
    for number, key in enumerate("aaabbc"):
        line = line.with_ticket(ticket(number, key), tag={"a": 1.0, "b": 0.0, "c": 2.0}[key])
    # b a c, b a, a
    assert [line.position(one) for one in line] == [2, 5, 6, 1, 4, 3]


def test_a_key_that_was_away_is_owed_a_little_and_a_new_one_nothing() -> None:
    shares = Shares().arrived("short", 5.0).begun("short", 1.0).ended("short", 0.0)
    shares = shares.arrived("greedy", 5.0).begun("greedy", 100.0)
    assert shares.floor_s == 101
    shares = shares.arrived("short", 5.0)
    assert shares.had_s("short") == 96
    assert shares.left("short").arrived("new", 5.0).had_s("new") == 101


def test_a_key_with_requests_is_owed_all() -> None:
    shares = Shares().arrived("slow", 5.0).arrived("greedy", 5.0).begun("greedy", 100.0)
    assert shares.arrived("slow", 5.0).had_s("slow") == 0
    assert shares.waiting("slow") == 1
    assert shares.waiting("nobody") == 0
    assert shares.ended("greedy", -40.0).had_s("greedy") == 60


def test_keys_that_are_away_are_not_remembered_without_end() -> None:
    shares = Shares().arrived("here", 5.0)
    for number in range(3 * MOST_AWAY):
        shares = shares.arrived(str(number), 5.0).left(str(number))
        assert len(shares.uses) <= MOST_AWAY + 2
    assert shares.waiting("here") == 1
