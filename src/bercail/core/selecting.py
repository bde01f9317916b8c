"""Which of its targets a selector means right now."""

from collections.abc import Mapping

from bercail.core.configuration import Selector, Strategy
from bercail.core.route import Phase


def select(selector: Selector, phases: Mapping[str, Phase], busy: Mapping[str, int]) -> str:
    """One of the selector's targets.

    ``pin`` is the first. ``warm`` is the first that is loaded, else the first that loads, else the first. ``spillover``
    is the least busy one in memory as long as it has fewer requests than it gets before the next starts; then the next
    one that is not; and the least busy of all when all are full.

    Args:
        selector: whose targets are all known.
        phases: of the targets.
        busy: requests that each target serves or that wait for it.
    """
    targets = selector.targets
    if selector.strategy is Strategy.PIN:
        return targets[0]
    if selector.strategy is Strategy.WARM:
        for phase in (Phase.LOADED, Phase.LOADING):
            if found := [target for target in targets if phases[target] is phase]:
                return found[0]
        return targets[0]
    active = [target for target in targets if phases[target] in (Phase.LOADED, Phase.LOADING)]
    roomy = [target for target in active if busy.get(target, 0) < selector.spillover]
    cold = [target for target in targets if target not in active]
    pool = roomy or cold[:1] or list(targets)
    return min(pool, key=lambda target: (busy.get(target, 0), targets.index(target)))
