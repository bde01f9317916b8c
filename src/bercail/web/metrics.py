"""Counters of the gateway and their text for Prometheus (text exposition format 0.0.4)."""

import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

from bercail.core.route import Phase, ServedModel
from bercail.core.units import Bytes, Seconds, Tokens

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
TTFT_BOUNDS_S: tuple[Seconds, ...] = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TAIL_BYTES: Bytes = 4096
"""How much of the end of a stream is kept to read its timings from."""

_TIMINGS = b'"timings"'
_PROMPT = re.compile(rb'"prompt_n"\s*:\s*(\d+)')
_PREDICTED = re.compile(rb'"predicted_n"\s*:\s*(\d+)')


@dataclass(slots=True, kw_only=True)
class Record:
    """What is known of one request when it has ended.

    Attributes:
        model: the id of a model of ours, or empty if it never came that far.
        status: of the answer; 499 if the client left before there was one.
        aborted: the client left, or the server cut it.
        ttft_s: from the end of the request's body to the first piece of the answer, or None if none came.
        prefill_tokens: prompt tokens the engine worked through (not those from its cache), or None.
        decode_tokens: tokens it generated, or None.
    """

    endpoint: str
    model: str = ""
    status: int = 0
    aborted: bool = False
    ttft_s: Seconds | None = None
    prefill_tokens: Tokens | None = None
    decode_tokens: Tokens | None = None
    request_bytes: Bytes = 0
    response_bytes: Bytes = 0

    def read_timings(self, tail: bytes) -> None:
        """Take the token counts from the end of an engine's answer; without any they stay unknown."""
        at = tail.rfind(_TIMINGS)
        if at < 0:
            return
        prompt, predicted = _PROMPT.search(tail, at), _PREDICTED.search(tail, at)
        if prompt and predicted:
            self.prefill_tokens, self.decode_tokens = int(prompt[1]), int(predicted[1])

    def read_counts(self, timings: object) -> None:
        """Take the token counts from the timings of an answer; without any they stay unknown."""
        if isinstance(timings, dict):
            prompt, predicted = timings.get("prompt_n"), timings.get("predicted_n")
            if isinstance(prompt, int) and isinstance(predicted, int):
                self.prefill_tokens, self.decode_tokens = prompt, predicted

    def read_pair(self, counts: tuple[Tokens, Tokens] | None) -> None:
        """Take prompt tokens worked through and tokens generated; None leaves them unknown."""
        if counts is not None:
            self.prefill_tokens, self.decode_tokens = counts


class Metrics:
    """Counters since the gateway was made; touched by one event loop only."""

    def __init__(self) -> None:
        self.running = 0
        self.queued = 0
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._sums: Counter[tuple[str, str]] = Counter()
        self._ttft: dict[str, list[int]] = {}
        self._ttft_s: dict[str, float] = {}

    def add(self, record: Record) -> None:
        """Count a request that has ended."""
        model = record.model
        self._requests[model, record.endpoint, record.status] += 1
        sums = self._sums
        sums["request_bytes", model] += record.request_bytes
        sums["response_bytes", model] += record.response_bytes
        if record.aborted:
            sums["requests_aborted", model] += 1
        if record.prefill_tokens is not None:
            sums["prefill_tokens", model] += record.prefill_tokens
        if record.decode_tokens is not None:
            sums["decode_tokens", model] += record.decode_tokens
        if record.ttft_s is not None:
            buckets = self._ttft.setdefault(model, [0] * (len(TTFT_BOUNDS_S) + 1))
            buckets[bisect_left(TTFT_BOUNDS_S, record.ttft_s)] += 1
            self._ttft_s[model] = self._ttft_s.get(model, 0.0) + record.ttft_s

    def text(self, models: tuple[ServedModel, ...]) -> bytes:
        """Everything in Prometheus' words."""
        lines = _head("requests_total", "counter", "Requests that have ended.")
        for (model, endpoint, status), count in sorted(self._requests.items()):
            labels = f'model="{_label(model)}",endpoint="{endpoint}",status="{status}"'
            lines.append(f"bercail_requests_total{{{labels}}} {count}")
        lines += _gauge("requests_running", "Requests at an engine.", self.running)
        lines += _gauge("requests_queued", "Requests that wait for a slot or for a model to load.", self.queued)
        for name, words in _SUMS.items():
            lines += _head(f"{name}_total", "counter", words)
            found = sorted((model, value) for (sum_name, model), value in self._sums.items() if sum_name == name)
            lines += [f'bercail_{name}_total{{model="{_label(model)}"}} {value}' for model, value in found]
        lines += self._ttft_lines()
        lines += _head("model_loaded", "gauge", "1 for a model that is loaded.")
        lines += [
            f'bercail_model_loaded{{model="{_label(model.id)}"}} {int(model.phase is Phase.LOADED)}' for model in models
        ]
        return ("\n".join(lines) + "\n").encode()

    def _ttft_lines(self) -> list[str]:
        name = "time_to_first_token_seconds"
        lines = _head(name, "histogram", "From the end of the request to the first piece of its answer.")
        for model, buckets in sorted(self._ttft.items()):
            label = f'model="{_label(model)}"'
            bounds = [*(f"{bound:g}" for bound in TTFT_BOUNDS_S), "+Inf"]
            for bound, count in zip(bounds, accumulate(buckets), strict=True):
                lines.append(f'bercail_{name}_bucket{{{label},le="{bound}"}} {count}')
            lines.append(f"bercail_{name}_sum{{{label}}} {self._ttft_s[model]:.6f}")
            lines.append(f"bercail_{name}_count{{{label}}} {sum(buckets)}")
        return lines


_SUMS = {
    "prefill_tokens": "Prompt tokens worked through, without those found in the cache.",
    "decode_tokens": "Tokens generated.",
    "requests_aborted": "Requests whose client left, or that were cut when the server stopped.",
    "request_bytes": "Bytes of request bodies.",
    "response_bytes": "Bytes of answers.",
}


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP bercail_{name} {words}", f"# TYPE bercail_{name} {kind}"]


def _gauge(name: str, words: str, value: int) -> list[str]:
    return [*_head(name, "gauge", words), f"bercail_{name} {value}"]


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
