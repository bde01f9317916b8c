"""What the models of a configuration ask for of the CPUs, and which of them may meet in memory."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from bercail.core.allotment import Allotment, Beside, Claim, listed, roaming
from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Rule
from bercail.core.declared import Declared
from bercail.core.options import EngineOptions

_KEEPERS = ("taskset", "numactl")
"""Programs that keep another to some CPUs."""


def claims_of(configuration: Configuration, general: EngineOptions, found: Iterable[str] = ()) -> tuple[Claim, ...]:
    """The claims of all models that may run here.

    Args:
        configuration: that declares them.
        general: wishes of those that have none of their own.
        found: models beside the declared ones.
    """
    declared = (_claim(model, general) for model in configuration.models if not _is_elsewhere(model))
    others = (Claim(id=name, cores=general.cores, numa=general.numa) for name in found)
    return (*declared, *others)


def _claim(model: Declared, general: EngineOptions) -> Claim:
    if isinstance(model.source, CommandSpec):
        return Claim(id=model.id)
    wish = model.source.wish(general)
    return Claim(id=model.id, cores=wish.cores, numa=wish.numa)


def _is_elsewhere(model: Declared) -> bool:
    """Whether nothing is started for it, or what is started sees to its own CPUs."""
    if not isinstance(model.source, CommandSpec):
        return False
    argv = model.source.argv
    return not argv or argv[0].rpartition("/")[2] in _KEEPERS


def meeting(rule: Rule | None) -> Beside:
    """Whether two models may be in memory side by side: whichever comes first, the other need not make it leave.

    Without a rule that is for memory to decide, so they may.
    """
    return _always if rule is None else partial(_may_meet, rule)


def _always(one: str, other: str) -> bool:
    return True


def _may_meet(rule: Rule, one: str, other: str) -> bool:
    """A rule need not be the same both ways: an exclusive group makes others leave which would let it stay."""
    return other not in rule.eviction_for(one, {other}) or one not in rule.eviction_for(other, {one})


def allotment_problems(claims: Sequence[Claim], shares: Mapping[str, Allotment], beside: Beside) -> tuple[str, ...]:
    """What there is to know of shares before any of those models is loaded, in words."""
    refused = (f"{name}: {share.refusal}" for name, share in shares.items() if share.refusal)
    if not (free := roaming(claims, beside)):
        return tuple(refused)
    verb = "is" if len(free) == 1 else "are"
    return (
        *refused,
        f"{listed(free)} {verb} kept to no cores and may run on those that others were given; cores keeps a model to "
        "some, taskset in its cmd a command",
    )
