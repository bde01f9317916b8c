"""What models are asked of, and the door that serves them."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from bercail.core.configuration import Profiles, SideRule
from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.loading import Wait
from bercail.core.news import Reloaded
from bercail.core.route import ServedModel
from bercail.core.units import Seconds


class Lease(Protocol):
    """The right to send one request to a loaded model; the model stays until it is released."""

    @property
    def address(self) -> Address:
        """Where the engine listens."""
        ...

    @property
    def model(self) -> ServedModel:
        """The model as loaded."""
        ...

    @property
    def load_s(self) -> Seconds:
        """How much of the wait for this lease the model was loading; 0 if it was there."""
        ...

    def rewrite(self, body: bytes) -> bytes:
        """A JSON object for it, with what a configuration changes in it."""
        ...

    @property
    def sent_name(self) -> str:
        """The name that its server has for the model, where a configuration says one; else empty."""
        ...

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        ...

    def failure(self) -> EngineError | None:
        """If the engine has died: what happened, with the last lines of its log."""
        ...


Watch: TypeAlias = Callable[[Callable[[], Wait]], None]
"""Takes a question that may be asked while a request waits in line."""


class Host(Protocol):
    """What a door serves from: the models, and the way to one of them."""

    def models(self) -> tuple[ServedModel, ...]:
        """Every model, loaded or not. Never starts one."""
        ...

    def find(self, model_id: str) -> ServedModel:
        """The model of that name, as the profile in force has it; an empty name is the only model, or the loaded one.

        Every other method takes ``asked`` of what was found, or an id, and looks at no profile.

        Raises:
            NotFoundError: there is none; says which there are, or where was looked if there is no model at all.
        """
        ...

    async def load(self, model_id: str) -> None:
        """Bring a model in without a request, where those that are idle make room; returns when it is ready.

        Raises:
            BusyError: there is no room that could be made now.
            BercailError: it cannot be loaded; see ``lease``.
        """
        ...

    async def unload(self, model_id: str) -> None:
        """Let a model finish what it serves and leave memory; returns when it has.

        Raises:
            NotFoundError: there is none.
        """
        ...

    def stay(self, model_id: str, stay_s: Seconds) -> str:
        """Let a model that is in memory idle there for ``stay_s`` until it leaves: 0 unloads, infinity is for ever.

        Returns:
            Why that is not done, in words; empty if it is.

        Raises:
            NotFoundError: there is none.
        """
        ...

    def profiles(self) -> Profiles:
        """What a configuration has of other names for models, and which are in force."""
        ...

    def switch(self, profile: str) -> None:
        """Put a profile in force, or none if its name is empty; requests that were taken go on as they were.

        Raises:
            NotFoundError: there is no such profile.
        """
        ...

    def side_rules(self) -> Sequence[SideRule]:
        """Which requests another model may answer rather than have theirs loaded."""
        ...

    async def reload(self) -> Reloaded:
        """Read the configuration anew and serve what it declares; what is wrong changes nothing.

        Raises:
            SettingsError: it is wrong; tells the file, the line and what to do.
            UsageError: there is none that could be read.
            StoppingError: the server is going down.
        """
        ...

    async def lease(
        self,
        model_id: str,
        key: str = "",
        priority: int = 0,
        *,
        substitutes: Sequence[str] = (),
        watch: Watch | None = None,
    ) -> Lease:
        """A lease on the model, after queueing and loading as needed. Cancelling leaves the queue.

        Args:
            model_id: as ``find`` takes it.
            key: whose share it counts for; empty is everybody without one.
            priority: 0 is ordinary; the higher, the sooner.
            substitutes: ids of models that may answer instead if they are ready and its own is not, the best first.
            watch: gets to ask how it stands with the wait, if there is one.

        Raises:
            NotFoundError: no such model.
            RefusedError: it does not fit.
            ReadError: its file must not be loaded.
            EngineError: its engine failed, with the last lines of the log.
            StoppingError: the server is going down.
        """
        ...

    def glance(self, model_id: str) -> Lease | None:
        """A lease that counts for nothing, so that the model may leave any moment; None if it is not in memory.

        Raises:
            NotFoundError: no such model.
        """
        ...


class Door(Protocol):
    """What lets clients in."""

    def take_keys(self, keys: Sequence[str]) -> None:
        """From now on let in whoever shows one of these keys, which a configuration holds, beside the keyring's."""
        ...

    def take_sessions(self, headers: Sequence[str]) -> None:
        """From now on keep, with each request, what the first of these headers that it carries holds."""
        ...

    def take_assets(self, expressions: Sequence[str]) -> None:
        """From now on load no model for paths below ``/upstream/MODEL`` that match one of these expressions."""
        ...

    def check(self) -> None:
        """See that the address can be used, without listening.

        Raises:
            ListenError: it is taken or not ours.
        """
        ...

    async def open(self, host: Host) -> str:
        """Listen; the URL.

        Raises:
            ListenError: the address is taken or not ours.
            StoreError: what is to be kept of requests cannot be.
        """
        ...

    async def close(self, drain_s: float) -> int:
        """Take no new requests, let running ones finish for ``drain_s``, cut the rest; how many were cut."""
        ...
