"""A host whose models, waits and failures a test decides, and which counts its leases."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bercail.core.configuration import Profiles, SideRule
from bercail.core.errors import BercailError, EngineError, NotFoundError
from bercail.core.launch import Address
from bercail.core.loading import Wait
from bercail.core.model import Capability
from bercail.core.news import Reloaded
from bercail.core.route import Phase, ServedModel
from bercail.ports import Watch

TEXT = (Capability.CHAT, Capability.COMPLETION, Capability.TOOLS)
ENGINE = Address(host="127.0.0.1", port=1)


def served(name: str = "tiny", **changes: object) -> ServedModel:
    """A loaded text model."""
    plain = ServedModel(
        id=name, phase=Phase.LOADED, created=1_700_000_000, file_bytes=1_000_000, context_length=4096,
        slot_context_tokens=512, slots=2, capabilities=TEXT, architecture="llama", quantization="Q8_0",
        parameter_count=260_000, vocabulary=512,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type] # a test names what it changes


class FakeLease:
    """Counts its release with the host."""

    def __init__(self, host: "FakeHost", model: ServedModel, *, counts: bool = True) -> None:
        self._host = host
        self._model = model
        self._released = not counts

    @property
    def address(self) -> Address:
        return self._host.address

    @property
    def model(self) -> ServedModel:
        return self._model

    @property
    def load_s(self) -> float:
        return self._host.load_s

    @property
    def sent_name(self) -> str:
        return self._host.sent_name

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._host.out -= 1

    def failure(self) -> EngineError | None:
        return self._host.death

    def rewrite(self, body: bytes) -> bytes:
        return self._host.rewrites(body)


@dataclass(slots=True, kw_only=True)
class FakeHost:
    """What a door serves from.

    Attributes:
        known: its models.
        gate: leases wait for it.
        refusal: what a lease raises instead.
        death: what a lease says of its engine.
        out: leases that have not been released.
        granted: leases so far.
        waiting: callers that wait for a lease.
        lookups: calls that ask about models.
        load_s: what leases say they waited for a load.
        asked: model, key and priority of every call for a lease.
        stays: how long which models were to idle, and how many leases were out then.
        stays_refusal: why that is not done.
        others: its profiles.
        rules: its rules for side requests.
        substituted: the substitutes of every call for a lease.
        wait: how it stands with a request that waits at the gate.
        sent_name: what servers call the model of a lease.
    """

    known: Sequence[ServedModel] = field(default_factory=lambda: (served(),))
    address: Address = ENGINE
    gate: asyncio.Event | None = None
    refusal: BercailError | None = None
    death: EngineError | None = None
    out: int = 0
    granted: int = 0
    waiting: int = 0
    lookups: int = 0
    load_s: float = 0.0
    rewrites: Callable[[bytes], bytes] = field(default=lambda body: body)
    loads: list[str] = field(default_factory=list)
    unloads: list[str] = field(default_factory=list)
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    stays: list[tuple[str, float, int]] = field(default_factory=list)
    stays_refusal: str = ""
    rules: tuple[SideRule, ...] = ()
    substituted: list[tuple[str, ...]] = field(default_factory=list)
    others: Profiles = field(default_factory=Profiles)
    sent_name: str = ""
    wait: Wait = Wait(model="", phase=Phase.LOADING, position=1)  # noqa: RUF009 - a frozen value

    async def load(self, model_id: str) -> None:
        self.loads.append(self.find(model_id).id)
        if self.refusal is not None:
            raise self.refusal

    async def unload(self, model_id: str) -> None:
        self.unloads.append(self.find(model_id).id)

    def stay(self, model_id: str, stay_s: float) -> str:
        self.stays.append((self.find(model_id).id, stay_s, self.out))
        return self.stays_refusal

    def profiles(self) -> Profiles:
        return self.others

    def side_rules(self) -> Sequence[SideRule]:
        return self.rules

    def switch(self, profile: str) -> None:
        self.others = self.others.switched(profile)

    async def reload(self) -> Reloaded:
        if self.refusal is not None:
            raise self.refusal
        return Reloaded(changed=("a",), added=("b",), gone=(), later=("server.port",), altered=("other names of a",))

    def models(self) -> tuple[ServedModel, ...]:
        self.lookups += 1
        return tuple(self.known)

    def find(self, model_id: str) -> ServedModel:
        self.lookups += 1
        if not self.known:
            raise NotFoundError("no model was found in /models", hint="put a GGUF file there")
        loaded = [model for model in self.known if model.phase is Phase.LOADED]
        if not model_id and len(self.known) == 1:
            return self.known[0]
        if not model_id and len(loaded) == 1:
            return loaded[0]
        model_id = self.others.meant(model_id)
        for model in self.known:
            if model_id in (model.id, *model.aliases):
                return model
        names = ", ".join(model.id for model in self.known)
        what = f"there is no model {model_id!r}" if model_id else "the request names no model"
        raise NotFoundError(what, hint=f"there are {names}")

    async def lease(
        self,
        model_id: str,
        key: str = "",
        priority: int = 0,
        *,
        substitutes: Sequence[str] = (),
        watch: Watch | None = None,
    ) -> FakeLease:
        self.asked.append((model_id, key, priority))
        self.substituted.append(tuple(substitutes))
        model = self.find(model_id)
        if substitutes and model.phase is not Phase.LOADED:
            model = self.find(substitutes[0])
        if self.gate is not None:
            if watch is not None:
                watch(lambda: replace(self.wait, model=model.id))
            self.waiting += 1
            try:
                await self.gate.wait()
            finally:
                self.waiting -= 1
        if self.refusal is not None:
            raise self.refusal
        self.out += 1
        self.granted += 1
        return FakeLease(self, model)

    def glance(self, model_id: str) -> FakeLease | None:
        model = self.find(model_id)
        return FakeLease(self, model, counts=False) if model.phase is Phase.LOADED else None
