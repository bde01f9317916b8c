"""What the scheduler is told: what each model needs, the budget of every device, and the policy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from bercail.core.options import ServerOptions
from bercail.core.units import Bytes, Seconds


class Keep(StrEnum):
    """How a model is kept in memory.

    ``pinned`` is never evicted and always comes back; ``warm`` may be evicted and comes back once there is room that
    nobody waits for; ``normal`` comes when asked for; ``evictable`` goes before all others. A time to live counts for
    the last two only.
    """

    PINNED = "pinned"
    WARM = "warm"
    NORMAL = "normal"
    EVICTABLE = "evictable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one model asks for.

    Attributes:
        bytes: by device, as its plan says.
        slots: requests that its engine runs at once; at least 1.
        priority: added to that of every request for it; the higher, the sooner served and the later evicted.
        ttl_s: how long it may idle in memory; None is for ever.
        reload_s: how long a load takes; observed loads replace it.
    """

    bytes: Mapping[str, Bytes]
    slots: int = 1
    keep: Keep = Keep.NORMAL
    priority: int = 0
    ttl_s: Seconds | None = None
    reload_s: Seconds = 10.0


Leaves: TypeAlias = Callable[[str, frozenset[str]], frozenset[str]]
"""Who of those in memory must go before a model may start, by rules other than memory (groups, a matrix). Pure."""


def nobody_leaves(target: str, running: frozenset[str]) -> frozenset[str]:
    """The rule of those who have none: only memory decides."""
    return frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long one waits, and for what.

    Attributes:
        max_wait_s: a request waits no longer for the swap in its favour to begin; what it takes to begin in time for
            several is reckoned with.
        min_residency_s: a model that has come in stays as long, but no longer than its own load takes, unless
            ``max_wait_s`` is over for another. To wait as long as a reload costs is at worst twice the best that
            could have been done with knowledge of the future; 10 s bounds it for models that load slowly.
        linger_s: who was just served may ask again: idle begins so long after the last answer, at most a quarter of
            a load.
        fair_lag_s: a key that is behind by more service than this, and than twice a load of the model it waits for,
            need not wait until ``max_wait_s``: so no more than a third of the time goes into loads for the sake of
            fairness. As much of what it is owed is kept for a key that pauses.
        priority_s: a step of priority is worth so much service: such a request goes before those whose turn came
            less than so long before its own. The others are passed by no more than that, which is their ageing.
        queue_per_key: requests of one key that may wait.
        queue_length: requests that may wait in all.
        wait_limit_s: a request that waited as long is refused; the time that its model took to load does not count.
        first_service_s: how long an answer is taken to last before one was seen.
        weights: shares of the keys; 1 for those not named.
    """

    max_wait_s: Seconds = 60.0
    min_residency_s: Seconds = 10.0
    linger_s: Seconds = 1.0
    fair_lag_s: Seconds = 15.0
    priority_s: Seconds = 30.0
    queue_per_key: int = 128
    queue_length: int = 1024
    wait_limit_s: Seconds = 600.0
    first_service_s: Seconds = 5.0
    weights: Mapping[str, float] = field(default_factory=dict)


def policy_of(options: ServerOptions) -> Policy:
    """How long one waits, and how many may."""
    return Policy(
        max_wait_s=options.max_wait,
        wait_limit_s=options.wait_limit,
        queue_length=options.queue,
        queue_per_key=options.queue_per_key,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Everything the scheduler decides by.

    Attributes:
        needs: by model; others are unknown.
        budget: bytes by device; a device that is not named has none.
        leaves: who must go for whom whatever the memory.
    """

    needs: Mapping[str, Need] = field(default_factory=dict)
    budget: Mapping[str, Bytes] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    leaves: Leaves = nobody_leaves
