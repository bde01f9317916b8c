"""The right to send one request to a model in memory."""

from collections.abc import Callable
from dataclasses import replace

from bercail.core.declared import Declared
from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.rewriting import changes, rewritten
from bercail.core.route import ServedModel
from bercail.core.units import Seconds
from bercail.flows.resident import Resident


class ResidentLease:
    """The right to send one request to a model in memory."""

    def __init__(
        self,
        resident: Resident,
        model: ServedModel,
        declared: Declared | None,
        asked: str,
        load_s: Seconds,
        give_back: Callable[[], None],
    ) -> None:
        self._resident = resident
        self._declared = declared
        self._asked = asked
        self._give_back: Callable[[], None] | None = give_back
        self.model = model
        self.load_s = load_s

    @property
    def address(self) -> Address:
        """Where the engine listens, and how long a configuration waits for it."""
        address = self._resident.process.address
        if self._declared is None or address.timeouts == self._declared.timeouts:
            return address
        return replace(address, timeouts=self._declared.timeouts)

    def rewrite(self, body: bytes) -> bytes:
        """A JSON object for it, with what a configuration changes in it."""
        if self._declared is None or not changes(self._declared, self._asked):
            return body
        return rewritten(body, self._declared, self._asked)

    @property
    def sent_name(self) -> str:
        """The name that its server has for the model, where a configuration says one; else empty."""
        return self._declared.upstream_name if self._declared else ""

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        if self._give_back is not None:
            give_back, self._give_back = self._give_back, None
            give_back()

    def failure(self) -> EngineError | None:
        """If the engine has died: what happened, with the last lines of its log."""
        return self._resident.failure
