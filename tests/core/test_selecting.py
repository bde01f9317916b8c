"""Which of its targets a selector means."""

import pytest

from bercail.core.configuration import Selector, Strategy
from bercail.core.route import Phase
from bercail.core.selecting import select

OUT, COMING, IN = Phase.UNLOADED, Phase.LOADING, Phase.LOADED


@pytest.mark.parametrize(
    ("strategy", "phases", "busy", "spillover", "chosen"),
    [
        (Strategy.PIN, (OUT, IN, IN), {}, 1, "a"),
        (Strategy.WARM, (OUT, COMING, IN), {}, 1, "c"),
        (Strategy.WARM, (OUT, COMING, OUT), {}, 1, "b"),
        (Strategy.WARM, (OUT, OUT, OUT), {}, 1, "a"),
        (Strategy.SPILLOVER, (OUT, OUT, OUT), {}, 1, "a"),
        (Strategy.SPILLOVER, (IN, IN, OUT), {"a": 1}, 2, "b"),
        (Strategy.SPILLOVER, (IN, OUT, OUT), {"a": 1}, 2, "a"),
        (Strategy.SPILLOVER, (IN, OUT, OUT), {"a": 2}, 2, "b"),
        (Strategy.SPILLOVER, (IN, COMING, IN), {"a": 3, "b": 2, "c": 4}, 2, "b"),
        (Strategy.SPILLOVER, (IN, IN, IN), {"a": 1, "b": 1, "c": 1}, 2, "a"),
    ],
)
def test_a_selector_means(
    strategy: Strategy, phases: tuple[Phase, ...], busy: dict[str, int], spillover: int, chosen: str
) -> None:
    selector = Selector(id="s", line=1, strategy=strategy, targets=("a", "b", "c"), spillover=spillover)
    assert select(selector, dict(zip("abc", phases, strict=True)), busy) == chosen
