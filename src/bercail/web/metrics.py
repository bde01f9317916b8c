"""Counters of the gateway and their text for Prometheus (text exposition format 0.0.4)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from operator import attrgetter

from bercail.core.route import Phase, ServedModel
from bercail.core.units import Seconds
from bercail.web.record import Record

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
TTFT_BOUNDS_S: tuple[Seconds, ...] = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
DECODE_BOUNDS: tuple[float, ...] = (1, 2, 5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)
"""In tokens/s."""
NO_MODEL = "(none)"
"""The label of requests that came to no model of ours, however many names they asked for."""


class _Histogram:
    """Observations of one quantity by model, in fixed buckets."""

    def __init__(self, name: str, words: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._words = words
        self._bounds = bounds
        self._buckets: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()

    def add(self, model: str, value: float) -> None:
        """One observation."""
        buckets = self._buckets.get(model)
        if buckets is None:
            buckets = self._buckets[model] = [0] * (len(self._bounds) + 1)
        buckets[bisect_left(self._bounds, value)] += 1
        self._sums[model] += value  # type: ignore[assignment] # a counter of fractions

    def lines(self) -> list[str]:
        """Everything in Prometheus' words."""
        name = self._name
        lines = _head(name, "histogram", self._words)
        for model, buckets in sorted(self._buckets.items()):
            label = f'model="{_label(model)}"'
            bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
            for bound, count in zip(bounds, accumulate(buckets), strict=True):
                lines.append(f'bercail_{name}_bucket{{{label},le="{bound}"}} {count}')
            lines.append(f"bercail_{name}_sum{{{label}}} {self._sums[model]:.6f}")
            lines.append(f"bercail_{name}_count{{{label}}} {sum(buckets)}")
        return lines


class Metrics:
    """Counters since the gateway was made; touched by one event loop only."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.queued: Counter[str] = Counter()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._totals: dict[str, dict[str, float]] = {name: {} for name in (*_SUMS, *_SECONDS)}
        self._added = [self._totals[name] for name in _TOLD]
        self._ttft = _Histogram("time_to_first_token_seconds", _TTFT, TTFT_BOUNDS_S)
        self._decode = _Histogram("decode_tokens_per_second", _DECODE, DECODE_BOUNDS)

    def add(self, record: Record) -> None:
        """Count a request that has ended."""
        model = record.model or NO_MODEL
        self._requests[model, record.endpoint, record.status] += 1
        if record.aborted:
            aborted = self._totals["requests_aborted"]
            aborted[model] = aborted.get(model, 0) + 1
        for totals, value in zip(self._added, _told(record), strict=True):
            if value is not None:
                totals[model] = totals.get(model, 0) + value
        if record.ttft_s is not None:
            self._ttft.add(model, record.ttft_s)
        if record.decode_tokens_per_s is not None:
            self._decode.add(model, record.decode_tokens_per_s)

    def text(self, models: tuple[ServedModel, ...]) -> bytes:
        """Everything in Prometheus' words; of models, those that are given."""
        lines = _head("requests_total", "counter", "Requests that have ended.")
        for (model, endpoint, status), count in sorted(self._requests.items()):
            labels = f'model="{_label(model)}",endpoint="{endpoint}",status="{status}"'
            lines.append(f"bercail_requests_total{{{labels}}} {count}")
        ids = [model.id for model in models]
        for name, words, counts in (
            ("requests_running", "Requests at an engine.", self.running),
            ("requests_queued", "Requests that wait for a slot or for a model to load.", self.queued),
        ):
            gone = sorted(model for model in counts if counts[model] and model not in ids)
            lines += _by_model(name, "gauge", words, [(model, counts[model]) for model in (*ids, *gone)])
        for name, words in _SUMS.items():
            lines += _by_model(f"{name}_total", "counter", words, sorted(self._totals[name].items()))
        for name, (title, words) in _SECONDS.items():
            rows = [(model, f"{seconds:.6f}") for model, seconds in sorted(self._totals[name].items())]
            lines += _by_model(title, "counter", words, rows)
        lines += self._ttft.lines()
        lines += self._decode.lines()
        lines += _state_lines(models)
        return ("\n".join(lines) + "\n").encode()


_TTFT = "From the end of the request to the first piece of its answer, queue and load included."
_DECODE = "Tokens generated per second, as the engine timed itself, one observation per answer."
_SUMS = {
    "prefill_tokens": "Prompt tokens worked through, without those found in the cache.",
    "cached_tokens": "Prompt tokens found in the cache.",
    "decode_tokens": "Tokens generated.",
    "trimmed_tokens": "Prompt tokens that were left out, as a policy asked.",
    "requests_aborted": "Requests whose client left, or that were cut when the server stopped.",
    "request_bytes": "Bytes of request bodies.",
    "response_bytes": "Bytes of answers.",
}
_SECONDS = {
    "queue_s": ("queue_seconds_total", "Seconds that requests waited for their turn, loading not counted."),
    "load_s": ("load_wait_seconds_total", "Seconds that requests waited while their model was loading."),
}
_TOLD = tuple(name for name in (*_SUMS, *_SECONDS) if name != "requests_aborted")
"""What a record tells by the same name."""
_told = attrgetter(*_TOLD)


def _state_lines(models: tuple[ServedModel, ...]) -> list[str]:
    """What is true of each model now."""
    loaded = [(model.id, int(model.phase is Phase.LOADED)) for model in models]
    lines = _by_model("model_loaded", "gauge", "1 for a model that is loaded.", loaded)
    lines += _head("model_state", "gauge", "1 for the state that a model is in.")
    for model in models:
        for phase in Phase:
            label = f'model="{_label(model.id)}",state="{phase.value}"'
            lines.append(f"bercail_model_state{{{label}}} {int(model.phase is phase)}")
    planned = [(model.id, model.planned_bytes) for model in models if model.planned_bytes is not None]
    lines += _by_model("model_planned_bytes", "gauge", "Memory that the plan of a loaded model takes.", planned)
    loads = [(model.id, model.loads) for model in models]
    lines += _by_model("model_loads_total", "counter", "Times that a model was loaded.", loads)
    swaps = [(model.id, model.swaps) for model in models]
    return lines + _by_model("model_swaps_total", "counter", "Times that a model made room for another.", swaps)


def _by_model(name: str, kind: str, words: str, rows: Sequence[tuple[str, float | str]]) -> list[str]:
    return [*_head(name, kind, words), *(f'bercail_{name}{{model="{_label(model)}"}} {value}' for model, value in rows)]


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP bercail_{name} {words}", f"# TYPE bercail_{name} {kind}"]


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
