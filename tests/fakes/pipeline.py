"""OpenVINO's pipeline as far as our worker uses it, with what it does where it has no place for a request."""

import enum
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class Status(enum.Enum):
    RUNNING = enum.auto()
    FINISHED = enum.auto()
    IGNORED = enum.auto()


@dataclass(eq=False)
class Handle:
    """A request: it makes its number's token at every step until it has enough."""

    number: int
    most: int
    status: Status = Status.RUNNING
    made: int = 0
    cancelled: bool = False
    unread: list[int] = field(default_factory=list)

    def get_status(self) -> Status:
        return self.status

    def can_read(self) -> bool:
        return bool(self.unread)

    def read(self) -> dict[int, Any]:
        ids, self.unread = self.unread, []
        return {0: SimpleNamespace(generated_ids=ids)}

    def cancel(self) -> None:
        self.cancelled = True


class Pipeline:
    """Steps wait until the test lets them; those who were cancelled hold their places until the next step is over."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.requests: list[Handle] = []
        self.added: list[Handle] = []
        self.most_at_once = 0
        self.allowed = threading.Semaphore(0)

    def get_tokenizer(self) -> Any:
        encoded = SimpleNamespace(input_ids=SimpleNamespace(data=[[1]]))
        return SimpleNamespace(
            encode=lambda *_, **__: encoded, decode=lambda *_, **__: "a", get_eos_token_id=lambda: 0
        )  # fmt: skip

    def get_config(self) -> Any:
        return SimpleNamespace(stop_token_ids=set())

    def add_request(self, number: int, _ids: object, config: Any) -> Handle:
        handle = Handle(number, config.max_new_tokens)
        self.requests.append(handle)
        self.added.append(handle)
        self.most_at_once = max(self.most_at_once, len(self.requests))
        return handle

    def has_non_finished_requests(self) -> bool:
        return bool(self.requests)

    def step(self) -> None:
        self.allowed.acquire()
        placed = self.requests[: self.slots]
        at_work = [one for one in placed if not one.cancelled]
        for one in at_work:
            one.unread.append(one.number)
            one.made += 1
            if one.made == one.most:
                one.status = Status.FINISHED
        if not at_work:
            for one in self.requests:
                one.status = Status.IGNORED
        self.requests = [one for one in self.requests if one.status is Status.RUNNING and not one.cancelled]


def genai(pipeline: Pipeline) -> Any:
    """The module."""
    return SimpleNamespace(
        __version__="0-fake", SchedulerConfig=SimpleNamespace, GenerationConfig=SimpleNamespace,
        GenerationStatus=Status, ContinuousBatchingPipeline=lambda *_: pipeline,
    )  # fmt: skip
