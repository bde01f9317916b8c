"""API keys are made and revoked; what they and others have used is added up."""

from dataclasses import dataclass, replace

from bercail.core.access import DAY_S, Key, KeyWish, mint
from bercail.core.activity import Grouping, Total
from bercail.core.alike import alike
from bercail.core.errors import NotFoundError, UsageError
from bercail.core.units import Seconds
from bercail.ports import House


def create(house: House, wish: KeyWish, *, wall_s: Seconds, secret: bytes) -> tuple[Key, str]:
    """A new key, and what its holder is to be given: it is kept nowhere.

    Args:
        house: its keyring keeps the key.
        wish: what it is to be.
        wall_s: unix seconds.
        secret: 36 random bytes.

    Raises:
        UsageError: it has no name, or that of another key in force.
        StoreError: it cannot be kept.
    """
    wish = replace(wish, name=wish.name.strip())
    if not wish.name or not wish.name.isprintable():
        raise UsageError("a key needs a name that can be printed", hint="such as that of its holder")
    for other in (house.keyring.keys() or {}).values():
        if other.name == wish.name and other.in_force(wall_s):
            hint = f"choose another name, or revoke it: bercail keys revoke {other.id}"
            raise UsageError(f"the API key {other.id} is called {wish.name!r} already", hint=hint)
    key, token = mint(wish, secret, wall_s)
    house.keyring.add(key)
    return key, token


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """What became of a key.

    Attributes:
        before: it had been revoked already.
        left: keys that are still in force.
    """

    key: Key
    before: bool
    left: int


def revoke(house: House, wanted: str, *, wall_s: Seconds) -> Revoked:
    """Put the key of that id or name out of force.

    Raises:
        NotFoundError: there is none; names the nearest.
        StoreError: it cannot be written.
    """
    keys = house.keyring.keys() or {}
    named = [key for key in keys.values() if key.name == wanted]
    found = keys.get(wanted) or next((key for key in named if key.in_force(wall_s)), next(iter(named), None))
    if found is None:
        known = [*keys, *(key.name for key in keys.values())]
        near = alike(wanted, known)
        hint = f"did you mean {near[0]}?" if near else "see: bercail keys list"
        raise NotFoundError(f"there is no API key {wanted!r}", hint=hint, code="key_not_found")
    before = found.revoked_s is not None
    if not before:
        found = house.keyring.revoke(found.id, wall_s)
    left = sum(key.in_force(wall_s) for key in (house.keyring.keys() or {}).values())
    return Revoked(key=found, before=before, left=left)


def usage(house: House, grouping: Grouping, *, days: int, wall_s: Seconds) -> tuple[Total, ...]:
    """What the requests of the last ``days`` (of 24 hours) have taken; keys by their names.

    Raises:
        StoreError: the record cannot be read.
    """
    found = house.ledger.totals(grouping, wall_s - days * DAY_S)
    if grouping is not Grouping.KEY:
        return found
    keys = house.keyring.keys() or {}
    return tuple(
        replace(total, name=f"{total.name} {keys[total.name].name}") if total.name in keys else total for total in found
    )
