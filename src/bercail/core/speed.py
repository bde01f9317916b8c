"""How fast a plan will decode: the bytes read for a token, over the speed of the memory that they are read from.

No kernel reaches that limit, and which share of it they reach differs from machine to machine: the share is a range,
not a number. On GPUs it is that of 13 published runs of one 27B model under llama.cpp on single cards of 8 to 96 GB,
of which none lies outside (the middle one at 65 %); for slices on several GPUs there are two, 58 and 71 %. On CPUs it
is of the reading speed that Bercail measures: 50 to 59 % in four of our runs (`bench/results/decode.json`), 70 to 91 %
in published ones.
"""

from dataclasses import dataclass

from bercail.core.budget import Case
from bercail.core.engine import EngineSettings
from bercail.core.lessons import Pace
from bercail.core.machine import Machine
from bercail.core.pace import chosen_share, decode_s, kept_bytes, lies_on, main_type, prefill_s
from bercail.core.split import Split, weigh
from bercail.core.units import Seconds, Tokens

Shares = tuple[float, float, float]
"""Of the reading speed: the least, the usual, the most."""
CPU_SHARES: Shares = (0.45, 0.65, 0.90)
GPU_SHARES: Shares = (0.51, 0.65, 0.88)
SLICED_SHARES: Shares = (0.45, 0.62, 0.75)
TOKEN_S: tuple[Seconds, Seconds, Seconds] = (0.0020, 0.0008, 0.0001)
"""What a token costs beside what is read for it: choosing it, meeting of threads. A model of 3.6 million parameters
took 0.6 to 1 ms a token in all, in quick and slow minutes, one of 0.26 million 1.2 to 1.7 ms where others worked beside
it (7 answers); of small models it is most of what they need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A prediction.

    Attributes:
        depth_tokens: how much context is filled.
        tokens_per_s: of one request alone, the usual case.
        least: the low end of the range.
        most: the high end.
        calibrated: by answers that were timed on this machine.
        doubt: what disturbed the measurement of the main memory it reads, in words; empty if nothing did.
        small: most of the time is not reading, so that the range is wide.
    """

    depth_tokens: Tokens
    tokens_per_s: float
    least: float
    most: float
    calibrated: bool = False
    doubt: str = ""
    small: bool = False


def decode_rates(machine: Machine, case: Case, settings: EngineSettings) -> tuple[Rate, ...]:
    """Decode with an empty and with a full context; nothing if a memory's speed is unknown, or nothing is generated."""
    if settings.embedding:
        return ()
    if pace := _pace(case, settings):
        weights = case.weights or weigh(case.model, 0)
        return tuple(
            _timed(depth, decode_s(case.model, pace, weights, depth), pace)
            for depth in (0, settings.slot_context_tokens)
        )
    found = (_rate(machine, case, settings, depth) for depth in (0, settings.slot_context_tokens))
    return tuple(rate for rate in found if rate)


def prefill_rates(case: Case, settings: EngineSettings) -> tuple[Rate, ...]:
    """Prefill at the beginning and at the end of a context; nothing before a model of this type was timed here."""
    pace = None if settings.embedding else _pace(case, settings)
    if pace is None:
        return ()
    depths = (0, settings.slot_context_tokens)
    return tuple(_timed(depth, prefill_s(case.model, pace, depth), pace) for depth in depths)


def _pace(case: Case, settings: EngineSettings) -> Pace | None:
    """That of the model's type on this machine, all of it where the plan puts it; None if none was timed so."""
    place = lies_on(case.gpus, settings, case.model.shape.layers)
    if place is None:
        return None
    return case.lessons.pace(main_type(case.model), repack=settings.repack, place=place)


def unread(machine: Machine, case: Case, settings: EngineSettings) -> tuple[str, ...]:
    """The memories that a token is read from and whose speed is not known, by their names."""
    host, *gpus = _read_bytes(case, settings, 0)
    found = ("main memory",) if host and not machine.memory.bandwidth_bytes_per_s else ()
    return found + tuple(
        gpu.name for size, gpu in zip(gpus, machine.gpus, strict=True) if size and not gpu.bandwidth_bytes_per_s
    )


def _timed(depth: Tokens, seconds: Seconds, pace: Pace) -> Rate:
    usual = 1 / seconds
    least, most = usual * (1 - min(pace.spread, 0.9)), usual * (1 + pace.spread)
    return Rate(depth_tokens=depth, tokens_per_s=usual, least=least, most=most, calibrated=True)


def _rate(machine: Machine, case: Case, settings: EngineSettings, depth: Tokens) -> Rate | None:
    sliced = settings.split_mode == Split.TENSOR
    host, *gpus = _read_bytes(case, settings, depth)
    places = [(host, machine.memory.bandwidth_bytes_per_s, CPU_SHARES)]
    shares = SLICED_SHARES if sliced else GPU_SHARES
    places += [(size, gpu.bandwidth_bytes_per_s, shares) for size, gpu in zip(gpus, machine.gpus, strict=True)]
    times = []
    for end in range(3):
        each = [size / (speed * share[end]) for size, speed, share in places if size and speed]
        times.append((max(each, default=0.0) if sliced else sum(each)) + TOKEN_S[end])
    if times[0] == TOKEN_S[0] or any(size and not speed for size, speed, _ in places):
        return None
    least, usual, most = (1 / seconds for seconds in times)
    doubt = machine.memory.bandwidth_doubt if host else ""
    small = 2 * TOKEN_S[1] > times[1]
    return Rate(depth_tokens=depth, tokens_per_s=usual, least=least, most=most, doubt=doubt, small=small)


def _read_bytes(case: Case, settings: EngineSettings, depth: Tokens) -> list[float]:
    """What main memory and then each GPU reads for one token after ``depth`` others."""
    weights = case.weights or weigh(case.model, 0)
    chosen = chosen_share(case.model)
    experts = [size * chosen for size in weights.experts]
    layers = [size + kept for size, kept in zip(weights.blocks, kept_bytes(case.model, settings, depth), strict=True)]
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
