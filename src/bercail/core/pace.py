"""From answers that an engine timed on this machine to the speed of other models of the same type in the same place.

Decode reads weights, keys and values; prefill multiplies, and attends to all that came before. Answers at two depths
of context tell the seconds per byte or operation of each of the four. They hold for every model whose weights are
mostly of the same type: what it reads and multiplies follows from its shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from bercail.core import memory
from bercail.core.engine import EngineSettings
from bercail.core.lessons import Pace
from bercail.core.machine import Gpu
from bercail.core.mix import type_shares
from bercail.core.model import Model
from bercail.core.options import Purpose
from bercail.core.split import Split, Weights, weigh
from bercail.core.units import Bytes, Seconds, Tokens

LEAST_SPREAD = 0.2
"""No prediction is told with a narrower range, however well the runs agree: models differ by more than their bytes."""

LEAST_SHARE = 0.5
"""Of the time near the beginning of a context, the fixed amount of work takes this share at least: what says otherwise
was disturbed, and would promise speeds that no answer had."""
NOISY = 0.35
"""Answers that differ by more than this tell nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One answer to a request alone, as the engine timed it.

    Attributes:
        depth_tokens: in the context before it.
        prompt_tokens: worked through on top of those.
        decode_tokens: generated after that.
    """

    depth_tokens: Tokens
    prompt_tokens: Tokens
    prefill_s: Seconds
    decode_tokens: Tokens
    decode_s: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """Answers to requests that came at once, each with a prompt of its own at the beginning of its context.

    Attributes:
        clients: so many, two at least.
        prompt_tokens: of each.
        decode_tokens: of each.
        seconds: from the first request to the last token of all.
    """

    clients: int
    prompt_tokens: Tokens
    decode_tokens: Tokens
    seconds: Seconds

    @property
    def tokens_per_s(self) -> float:
        """All tokens, of prompts and answers, by the wall clock."""
        return self.clients * (self.prompt_tokens + self.decode_tokens) / self.seconds


def main_type(model: Model) -> str:
    """The type that most of the weights' bytes are of."""
    if model.stored is not None:
        return f"{model.format} {model.quantization}"
    shares = type_shares(model)
    return shares[0].type if shares else ""


def chosen_share(model: Model) -> float:
    """The share of the routed experts that one token uses."""
    shape = model.shape
    return shape.experts_used / shape.experts if shape.experts else 0.0


def weights_read(model: Model, weights: Weights) -> float:
    """Bytes of weights that one token makes the engine read in decode."""
    return sum(weights.blocks) + chosen_share(model) * sum(weights.experts) + weights.output


def kept_bytes(model: Model, settings: EngineSettings, depth: Tokens) -> list[Bytes]:
    """Keys and values, and twice the recurrent state, which is written back, of each layer for one request."""
    one = replace(settings, slots=1, context_tokens=max(depth, 1), ubatch_tokens=1, draft_tokens=0)
    caches, states = memory.layer_cache_bytes(model, one), memory.layer_state_bytes(model, one)
    return [(cache if depth else 0) + 2 * state for cache, state in zip(caches, states, strict=True)]


def state_bytes(model: Model) -> Bytes:
    """The recurrent state of one request, which is read and written back for each token."""
    return memory.state_layers(model) * sum(memory.state_kinds(model).values())


def linear_flops(model: Model) -> float:
    """Operations of one prompt token in the matrices of the layers; logits are made for the last token only."""
    layers = model.shape.layers
    chosen, count = chosen_share(model), 0.0
    if model.stored is not None:
        count = max(0.0, model.stored.weights - 2 * model.shape.vocabulary * model.shape.embedding)
    for tensor in model.tensors:
        if 0 <= tensor.block < layers and len(tensor.shape) > 1:
            count += tensor.weights * (chosen if "_exps." in tensor.name else 1.0)
    return 2 * count


def attention_flops(model: Model, begin: Tokens, count: Tokens) -> float:
    """Operations of ``count`` prompt tokens after ``begin`` others to score and mix what came before them."""
    shape, total = model.shape, 0.0
    for layer in range(shape.layers):
        heads = shape.heads[layer] if shape.kv_heads[layer] else 0
        slides = bool(shape.swa_layers) and shape.swa_layers[layer]
        width = (shape.key_length_swa + shape.value_length_swa) if slides else (shape.key_length + shape.value_length)
        seen = begin + count / 2
        if slides:
            seen = min(seen, float(shape.sliding_window))
        total += 2 * heads * width * seen * count
    return total


def lies_on(gpus: Sequence[Gpu], settings: EngineSettings, layers: int) -> str | None:
    """Where all layers lie: empty for main memory, else how they are shared and by which GPUs.

    None where they lie in several kinds of memory, of which answers tell nothing that would hold for another share;
    and where they lie in main memory beside GPUs, for those may work through prompts all the same.
    """
    if not gpus:
        return ""
    sliced = settings.split_mode == Split.TENSOR
    if not sliced and (settings.cpu_experts or sum(settings.layer_split) < layers):
        return None
    counts = [1] * len(gpus) if sliced else settings.layer_split
    names = [gpu.name for gpu, count in zip(gpus, counts, strict=False) if count]
    return names[0] if len(names) == 1 else f"{settings.split_mode} of {', '.join(names)}"


def pace_of(model: Model, settings: EngineSettings, timings: Sequence[Timing]) -> Pace:
    """What ``timings`` of one model say.

    With one depth only, or where depth cost nothing that could be told from noise, what is kept and attended to is
    taken to cost as much per byte and operation as the weights.

    Raises:
        ValueError: there are none.
    """
    near, far = min(row.depth_tokens for row in timings), max(row.depth_tokens for row in timings)
    shallow = [row for row in timings if row.depth_tokens == near]
    deep = [row for row in timings if row.depth_tokens == far]
    weights, linear = weights_read(model, weigh(model, 0)), linear_flops(model)

    def mixed(row: Timing) -> float:
        return attention_flops(model, row.depth_tokens + row.prompt_tokens + row.decode_tokens // 2, 1)

    def attended(row: Timing) -> float:
        return attention_flops(model, row.depth_tokens, row.prompt_tokens) / row.prompt_tokens

    def per_decode(row: Timing) -> float:
        return row.decode_s / row.decode_tokens

    def per_prefill(row: Timing) -> float:
        return row.prefill_s / row.prompt_tokens

    read_s, mix_s = _two_costs(
        weights + 2 * state_bytes(model),
        (_mid(mixed, shallow), _mid(mixed, deep)),
        (_mid(per_decode, shallow), _mid(per_decode, deep)),
    )
    linear_s, attention_s = _two_costs(
        linear, (_mid(attended, shallow), _mid(attended, deep)), (_mid(per_prefill, shallow), _mid(per_prefill, deep))
    )
    spreads = [_spread([cost(row) for row in rows]) for rows in (shallow, deep) for cost in (per_decode, per_prefill)]
    return Pace(
        type=main_type(model), weights_s=read_s, mix_s=mix_s, linear_s=linear_s, attention_s=attention_s,
        spread=max(LEAST_SPREAD, *spreads), runs=len(timings), repack=settings.repack,
    )  # fmt: skip


def decode_s(model: Model, pace: Pace, weights: Weights, depth: Tokens) -> Seconds:
    """Of one token after ``depth`` others."""
    read = weights_read(model, weights) + 2 * state_bytes(model)
    return read * pace.weights_s + attention_flops(model, depth, 1) * pace.mix_s


def prefill_s(model: Model, pace: Pace, depth: Tokens) -> Seconds:
    """Of one prompt token after ``depth`` others."""
    return linear_flops(model) * pace.linear_s + attention_flops(model, depth, 1) * pace.attention_s


def with_joint(model: Model, pace: Pace, rows: Sequence[Joint]) -> Pace:
    """``pace`` with what generating for several at once costs; as it is without ``rows``."""
    if not rows:
        return pace
    return replace(pace, joint_s=median(_joint_cost(model, pace, row) for row in rows))


def usual_s(model: Model, pace: Pace, purpose: Purpose) -> Seconds | None:
    """Of the purpose's usual requests, from the first prompt to the last token.

    None where they come at once and that was not timed.
    """
    others, depth = purpose.clients - 1, purpose.prompt + purpose.answer // 2
    if others and pace.joint_s is None:
        return None
    step = decode_s(model, pace, weigh(model, 0), depth)
    if others:
        step += others * (linear_flops(model) * (pace.joint_s or 0.0) + attention_flops(model, depth, 1) * pace.mix_s)
    return reading_s(model, pace, purpose) + purpose.answer * step


def reading_s(model: Model, pace: Pace, purpose: Purpose) -> Seconds:
    """Of the prompts of the purpose's usual requests."""
    return purpose.clients * purpose.prompt * prefill_s(model, pace, purpose.prompt // 2)


def _joint_cost(model: Model, pace: Pace, row: Joint) -> float:
    """What is left of a step when one request's share, and the others' attention, are taken off."""
    reading = row.clients * row.prompt_tokens * prefill_s(model, pace, row.prompt_tokens // 2)
    depth, others = row.prompt_tokens + row.decode_tokens // 2, row.clients - 1
    step = (row.seconds - reading) / row.decode_tokens
    more = (step - decode_s(model, pace, weigh(model, 0), depth)) / others
    return max(0.0, more - attention_flops(model, depth, 1) * pace.mix_s) / max(linear_flops(model), 1.0)


def _two_costs(base: float, more: tuple[float, float], times: tuple[float, float]) -> tuple[float, float]:
    """Costs per unit of a fixed amount of work and of one that grew between two timings."""
    grown, longer = more[1] - more[0], times[1] - times[0]
    if grown > 0 and longer > 0 and base:
        each = longer / grown
        if (rest := times[0] - more[0] * each) >= times[0] * LEAST_SHARE:
            return rest / base, each
        return times[0] * LEAST_SHARE / base, times[0] * (1 - LEAST_SHARE) / more[0]
    alike = times[0] / max(base + more[0], 1.0)
    return alike, alike


def _mid(cost: Callable[[Timing], float], rows: Sequence[Timing]) -> float:
    return median(cost(row) for row in rows)


def _spread(values: Sequence[float]) -> float:
    """Half of the range over the middle; of four and more the outermost quarters are left out."""
    ordered = sorted(values)
    left = len(ordered) // 4
    inner = ordered[left : len(ordered) - left]
    return (inner[-1] - inner[0]) / 2 / median(ordered)
