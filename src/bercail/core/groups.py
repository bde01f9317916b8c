"""Groups of models: who leaves memory when another comes, by llama-swap's rules."""

from collections.abc import Collection
from dataclasses import dataclass

DEFAULT = "(default)"
"""The group of every model that is in no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Models that share a rule.

    Attributes:
        swap: one member at a time.
        exclusive: loading a member unloads the other groups.
        persistent: other groups never unload its members.
    """

    name: str
    members: tuple[str, ...]
    swap: bool = True
    exclusive: bool = True
    persistent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """All groups; every model is in one of them."""

    groups: tuple[Group, ...]

    def group_of(self, model_id: str) -> Group:
        """The group of a model; one that nobody placed is alone with its like in the default group."""
        found = next((group for group in self.groups if model_id in group.members), None)
        return found or Group(name=DEFAULT, members=(model_id,))

    def eviction_for(self, target: str, running: Collection[str]) -> frozenset[str]:
        """Those of ``running`` that must leave before ``target`` is loaded.

        A group that is not exclusive never unloads another, not even an exclusive one.
        """
        own = self.group_of(target)
        return frozenset(other for other in running if other != target and self._leaves(other, own))

    def _leaves(self, other: str, own: Group) -> bool:
        group = self.group_of(other)
        if group.name == own.name:
            return own.swap
        return own.exclusive and not group.persistent

    def may_coexist(self, models: Collection[str]) -> bool:
        """Whether all of them may be in memory at once for good: they share a group that does not swap."""
        groups = {self.group_of(model).name: self.group_of(model) for model in models}
        return len(set(models)) < 2 or (len(groups) == 1 and not any(group.swap for group in groups.values()))
