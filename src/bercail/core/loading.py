"""What a stream tells of its wait for a model, in words that both people and clients can take."""

from dataclasses import dataclass

from bercail.core.chat import Json
from bercail.core.route import Phase

STEPS = 10
"""Progress is told in so many steps: a line each, not a line a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How it stands with a request that waits for a model.

    Attributes:
        model: the id of the model that it waits for.
        phase: of that model.
        position: which in line for it, 1 for the next.
        progress: of its loading, 0 to 1; None if it does not load or does not tell.
    """

    model: str
    phase: Phase
    position: int
    progress: float | None = None


def words(wait: Wait) -> str:
    """One sentence without a full stop; it changes only when there is news."""
    behind = f", number {wait.position} in line" if wait.position > 1 else ""
    match wait.phase:
        case Phase.LOADING if wait.progress is not None:
            return f"Loading {wait.model}: {int(wait.progress * STEPS) * 100 // STEPS} %{behind}"
        case Phase.LOADING:
            return f"Loading {wait.model}{behind}"
        case Phase.LOADED:
            return f"{wait.model} is busy: number {wait.position} in line"
        case Phase.FAILED:
            return f"{wait.model} failed, and is started once more{behind}"
        case _:
            return f"Waiting for room for {wait.model}{behind}"


def arrived(model: str, seconds: float) -> str:
    """The last words before the answer."""
    return f"{model} is ready after {seconds:.1f} s"


def thought(text: str, model: str, created: int) -> Json:
    """A chunk of a chat that carries the text as reasoning: clients show it, and never take it for the answer.

    Args:
        text: as it is to be shown.
        model: the name that the client wrote, or the model's id.
        created: unix seconds.
    """
    delta: Json = {"role": "assistant", "reasoning_content": text}
    return {
        "id": "chatcmpl-loading",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }
