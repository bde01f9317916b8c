"""What is measured of one answer, and the definitions behind the figures.

TTFT runs from sending the request to the first token of text. The prefill rate counts prompt tokens that were computed,
not those taken from the cache, per second of prefill; the decode rate counts generated tokens per second of decode.
"""

from dataclasses import dataclass

from bercail.core.units import Seconds, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer as measured.

    Attributes:
        ttft_s: seconds to the first token, or None if there was none.
        prompt_tokens: tokens of the whole prompt, cached ones included; None if the engine did not tell.
        cached_tokens: of these, taken from the cache.
        prefill_tokens_per_s: by the engine's clock.
        decode_tokens: tokens generated.
        decode_tokens_per_s: by the engine's clock.
        context_tokens: what one request may hold, or None if unknown.
        finish_reason: ``stop``, ``length``, ``tool_calls``; None if the stream broke.
    """

    ttft_s: Seconds | None = None
    prompt_tokens: Tokens | None = None
    cached_tokens: Tokens | None = None
    prefill_tokens_per_s: float | None = None
    decode_tokens: Tokens | None = None
    decode_tokens_per_s: float | None = None
    context_tokens: Tokens | None = None
    finish_reason: str | None = None

    @property
    def used_tokens(self) -> Tokens | None:
        """Context taken by prompt and answer together."""
        if self.prompt_tokens is None or self.decode_tokens is None:
            return None
        return self.prompt_tokens + self.decode_tokens
