"""How fast a plan will decode: the bytes read for a token, over the speed of the memory that they are read from.

No kernel reaches that limit, and which share of it they reach differs from machine to machine: the share is a range,
not a number. On GPUs it is that of 13 published runs of one 27B model under llama.cpp on single cards of 8 to 96 GB,
of which none lies outside (the middle one at 65 %); for slices on several GPUs there are two, 58 and 71 %. On CPUs it
is of the reading speed that Bercail measures: 50 to 59 % in four of our runs (`bench/results/decode.json`), 70 to 91 %
in published ones.
"""

from dataclasses import dataclass, replace

from bercail.core import memory
from bercail.core.budget import Case
from bercail.core.engine import EngineSettings
from bercail.core.machine import Machine
from bercail.core.split import Split, weigh
from bercail.core.units import Bytes, Tokens

Shares = tuple[float, float, float]
"""Of the reading speed: the least, the usual, the most."""
CPU_SHARES: Shares = (0.45, 0.65, 0.90)
GPU_SHARES: Shares = (0.51, 0.65, 0.88)
SLICED_SHARES: Shares = (0.45, 0.62, 0.75)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A prediction.

    Attributes:
        depth_tokens: how much context is filled.
        tokens_per_s: of one request alone, the usual case.
        least: the low end of the range.
        most: the high end.
    """

    depth_tokens: Tokens
    tokens_per_s: float
    least: float
    most: float


def decode_rates(machine: Machine, case: Case, settings: EngineSettings) -> tuple[Rate, ...]:
    """Decode with an empty and with a full context; nothing if a memory's speed is unknown, or nothing is generated."""
    if settings.embedding:
        return ()
    found = (_rate(machine, case, settings, depth) for depth in (0, settings.slot_context_tokens))
    return tuple(rate for rate in found if rate)


def _rate(machine: Machine, case: Case, settings: EngineSettings, depth: Tokens) -> Rate | None:
    sliced = settings.split_mode == Split.TENSOR
    host, *gpus = _read_bytes(case, settings, depth)
    places = [(host, machine.memory.bandwidth_bytes_per_s, CPU_SHARES)]
    shares = SLICED_SHARES if sliced else GPU_SHARES
    places += [(size, gpu.bandwidth_bytes_per_s, shares) for size, gpu in zip(gpus, machine.gpus, strict=True)]
    times = []
    for end in range(3):
        each = [size / (speed * share[end]) for size, speed, share in places if size and speed]
        times.append(max(each, default=0.0) if sliced else sum(each))
    if not times[0] or any(size and not speed for size, speed, _ in places):
        return None
    least, usual, most = (1 / seconds for seconds in times)
    return Rate(depth_tokens=depth, tokens_per_s=usual, least=least, most=most)


def _read_bytes(case: Case, settings: EngineSettings, depth: Tokens) -> list[float]:
    """What main memory and then each GPU reads for one token after ``depth`` others."""
    weights = case.weights or weigh(case.model, 0)
    shape = case.model.shape
    chosen = shape.experts_used / shape.experts if shape.experts else 0.0
    experts = [size * chosen for size in weights.experts]
    layers = [size + kept for size, kept in zip(weights.blocks, _kept_bytes(case, settings, depth), strict=True)]
    if settings.split_mode == Split.TENSOR:
        whole = sum(layers) + sum(experts) + weights.output
        return [0.0, *(whole * size / sum(weights.slices) for size in weights.slices)]
    homes = [0] * (len(layers) - sum(settings.layer_split))
    for index, count in enumerate(settings.layer_split):
        homes += [index + 1] * count
    read = [0.0] * (len(case.gpus) + 1)
    for layer, home in enumerate(homes):
        read[home] += layers[layer]
        read[0 if layer < settings.cpu_experts else home] += experts[layer]
    read[homes[-1]] += weights.output
    return read


def _kept_bytes(case: Case, settings: EngineSettings, depth: Tokens) -> list[Bytes]:
    """Keys and values, and twice the recurrent state, which is written back, of each layer for one request."""
    one = replace(settings, slots=1, context_tokens=max(depth, 1), ubatch_tokens=1)
    caches, states = memory.layer_cache_bytes(case.model, one), memory.layer_state_bytes(case.model, one)
    return [(cache if depth else 0) + 2 * state for cache, state in zip(caches, states, strict=True)]
