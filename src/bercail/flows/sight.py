"""Models as clients see them, made anew only when something of them has changed: every request asks twice."""

from dataclasses import dataclass, field, replace

from bercail.core.configuration import Configuration, Profiles
from bercail.core.options import EngineOptions
from bercail.core.route import Phase, ServedModel
from bercail.flows.resident import Entry, served
from bercail.flows.roster import Roster, also_listed

MOST_KEPT = 64
"""Views of one model that differ in who uses it, and by which name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a model is shown by beside itself.

    Attributes:
        roster: who else is served.
        configuration: what is said of all of them.
        profiles: other names, and which are in force.
        general: the wishes that hold for all models.
    """

    roster: Roster
    configuration: Configuration
    profiles: Profiles
    general: EngineOptions


@dataclass(frozen=True, slots=True)
class _Face:
    """A model as it is seen while nobody uses it, what that was made of, and its views under load."""

    made_of: tuple[object, ...]
    model: ServedModel
    views: dict[tuple[int, int, str], ServedModel] = field(default_factory=dict)

    def view(self, requests: int, waiting: int, asked: str) -> ServedModel:
        known = self.views.get((requests, waiting, asked))
        if known is None:
            if len(self.views) >= MOST_KEPT:
                self.views.clear()
            known = replace(self.model, requests=requests, waiting=waiting, asked=asked)
            self.views[requests, waiting, asked] = known
        return known


class Sight:
    """Looks at entries for clients."""

    def __init__(self) -> None:
        self._faces: dict[str, _Face] = {}

    def see(
        self, entry: Entry, phase: Phase, around: Around, *, requests: int, waiting: int, asked: str = ""
    ) -> ServedModel:
        """A model as clients see it.

        Args:
            entry: the model.
            phase: where it stands.
            around: what else its view depends on.
            requests: that it serves.
            waiting: for it.
            asked: by which name a client asked for it; empty if nobody did.
        """
        made_of = _made_of(entry, phase, around)
        face = self._faces.get(entry.id)
        if face is None or face.made_of != made_of:
            face = _Face(made_of, _face(entry, phase, around))
            self._faces[entry.id] = face
        return face.view(requests, waiting, asked)


def _made_of(entry: Entry, phase: Phase, around: Around) -> tuple[object, ...]:
    """Everything that ``_face`` reads; mostly the very same objects as before, which are compared at once."""
    resident = entry.resident
    return (
        phase, around.roster, around.configuration, around.profiles, around.general, entry.found, entry.declared,
        entry.model, entry.chat_refusal, entry.error, entry.away, entry.progress, entry.loads, entry.swaps,
        resident and resident.plan, resident and resident.offer, resident and resident.process,
    )  # fmt: skip


def _face(entry: Entry, phase: Phase, around: Around) -> ServedModel:
    gateway = around.configuration.gateway
    tells = entry.declared.loading_state if entry.declared else gateway.loading_state
    also = also_listed(entry, around.roster, around.configuration, around.profiles.pins)
    return replace(served(entry, phase, around.general), tells_loading=tells, also=also)
