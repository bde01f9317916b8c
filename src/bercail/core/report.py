"""Values as sections and rows for people; no colour, no terminal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from bercail.core.budget import Device, Part, as_told
from bercail.core.cpulist import cpus_text
from bercail.core.explain import Explanation
from bercail.core.lessons import Lessons
from bercail.core.machine import Gpu, Machine, MemoryPool
from bercail.core.measure import Turn
from bercail.core.mix import layer_mix, type_shares
from bercail.core.model import Findings, Model, Tokenizer
from bercail.core.pace import Timing
from bercail.core.plan import Fits, NoFit, Verdict
from bercail.core.units import (
    MIB,
    Bytes,
    format_bandwidth,
    format_bytes,
    format_count,
    format_rate,
    format_seconds,
    format_tokens,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled table; without ``header`` the first column names the second.

    Attributes:
        bar: letters in proportion, drawn above the table; the first column is its legend.
    """

    title: str
    rows: tuple[tuple[str, ...], ...]
    header: tuple[str, ...] = ()
    bar: str = ""


def inspect_sections(model: Model) -> tuple[Section, ...]:
    """A model, a sensible summary first."""
    sections = [Section(title=model.name or model.id, rows=_summary(model))]
    if model.tensors:
        sections += [_types(model), _mix(model)]
    if len(model.files) > 1:
        rows = tuple((file.path, format_bytes(file.bytes)) for file in model.files)
        sections.append(Section(title="Files", rows=rows, header=("file", "size")))
    if model.notes:
        sections.append(Section(title="Notes", rows=tuple((note,) for note in model.notes), header=("note",)))
    return tuple(sections)


def _summary(model: Model) -> tuple[tuple[str, str], ...]:
    experts = f", {model.shape.experts_used} of {model.shape.experts} experts" if model.shape.experts else ""
    rows = [
        ("id", model.id),
        ("path", model.path),
        ("format", model.format.value),
        ("architecture", f"{model.architecture}, {model.shape.layers} layers{experts}"),
        ("parameters", format_count(model.parameter_count)),
        ("context", f"{format_tokens(model.context_length)} tokens"),
        ("quantization", f"{model.quantization}, {model.bits_per_weight:.2f} bits per weight{_qat(model)}"),
        ("size", f"{format_bytes(model.file_bytes)}, of it weights {format_bytes(model.weights_bytes)}"),
        ("capabilities", ", ".join(capability.value for capability in model.capabilities) or "none"),
        ("tokenizer", _tokenizer(model.tokenizer)),
        ("chat template", f"{len(model.chat_template):,} characters" if model.chat_template else "none"),
        ("projector", model.projector or "none"),
        ("license", model.license or "not stated"),
    ]
    return tuple(rows)


def _qat(model: Model) -> str:
    return ", quantization-aware training" if model.qat else ""


def _tokenizer(tokenizer: Tokenizer) -> str:
    if tokenizer.model is None:
        return "none"
    pre = f" ({tokenizer.pre})" if tokenizer.pre else ""
    return f"{tokenizer.model}{pre}, {format_tokens(tokenizer.tokens or 0)} tokens"


def _types(model: Model) -> Section:
    total = model.weights_bytes or 1
    rows = tuple(
        (
            share.type,
            str(share.tensors),
            format_bytes(share.bytes),
            f"{share.bytes * 100 / total:.1f} %",
            f"{share.bits_per_weight:.3g}",
        )
        for share in type_shares(model)
    )
    return Section(title="Tensor types", rows=rows, header=("type", "tensors", "size", "share", "bits/weight"))


def _mix(model: Model) -> Section:
    rows = tuple((row.tensor_class, row.type, row.layers or "-", format_bytes(row.bytes)) for row in layer_mix(model))
    return Section(title="Mix by tensor class", rows=rows, header=("class", "type", "layers", "size"))


def machine_lines(machine: Machine) -> tuple[str, ...]:
    """The machine in a line or two, and what is odd about it."""
    cpu, memory = machine.cpu, machine.memory
    quota = f", quota {cpu.quota_cpus:g} CPUs" if cpu.quota_cpus is not None else ""
    cores = f"{cpu.physical_cores} cores" if cpu.physical_cores else f"{len(cpu.logical_cpus)} CPUs"
    speed = _reads(memory)
    limit = "" if memory.limited_by == "system" else f" (limited by {memory.limited_by})"
    sets = " ".join(name for name in cpu.instruction_sets if name in _TELLING_SETS) or "no vector extensions known"
    first = f"{cpu.model_name or cpu.architecture}: {cores}{quota}, {sets}"
    second = (
        f"{format_bytes(memory.available_bytes)} of {format_bytes(memory.total_bytes)} memory available{limit}{speed}"
    )
    return (
        first,
        second,
        *(_gpu_line(gpu) for gpu in machine.gpus),
        *(link.text for link in machine.links),
        *machine.notes,
    )


def _reads(memory: MemoryPool) -> str:
    if memory.bandwidth_bytes_per_s is None:
        return ""
    speed = format_bandwidth(memory.bandwidth_bytes_per_s)
    return f", reads {speed} at least ({memory.bandwidth_doubt})" if memory.bandwidth_doubt else f", reads {speed}"


def _gpu_line(gpu: Gpu) -> str:
    name = f"{gpu.device}: {gpu.name}" if gpu.device else gpu.name
    kernels = f", {gpu.capability}" if gpu.capability else ""
    read = gpu.bandwidth_bytes_per_s
    speed = f", reads {format_bandwidth(read)} by its data sheet" if read else ""
    where = " of main memory" if gpu.shared else ""
    room = f"{format_bytes(gpu.available_bytes)} of {format_bytes(gpu.total_bytes)}{where} available"
    return f"{name}{kernels}: {room}{speed}"


_TELLING_SETS = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "asimd", "i8mm", "sve", "sve2", "sme",
)  # fmt: skip


def plan_sections(verdict: Verdict) -> tuple[Section, ...]:
    """A plan: memory part by part, settings with reasons, alternatives."""
    sections = [_device_section(device.name, verdict, index) for index, device in enumerate(verdict.devices)]
    if isinstance(verdict, Fits) and not verdict.settings.embedding:
        sections.append(_speed_section(verdict))
    rows = tuple((reason.setting, reason.value, reason.because) for reason in verdict.reasons)
    sections.append(Section(title="Settings", rows=rows, header=("setting", "value", "because")))
    if verdict.alternatives:
        choices = tuple((row.change, row.costs) for row in verdict.alternatives)
        title = "What would fit" if isinstance(verdict, NoFit) else "Alternatives"
        sections.append(Section(title=title, rows=choices, header=("change", "costs")))
    return tuple(sections)


def _speed_section(verdict: Fits) -> Section:
    """Predictions, each with the range in which it may turn out."""
    kinds = (("decode", verdict.rates), ("prefill", verdict.prefill))
    rows = tuple(
        (
            f"{kind}, {format_tokens(rate.depth_tokens)} tokens of context filled",
            f"{_rate(rate.tokens_per_s)} tokens/s",
            f"{_rate(rate.least)} to {_rate(rate.most)}",
        )
        for kind, rates in kinds
        for rate in rates
    )
    if not verdict.rates:
        where = " and ".join(verdict.unread) or "a memory it lies in"
        rows = (("decode", "not predicted", f"how fast {where} is read is not known: --measure times it"),)
    if any(rate.calibrated for rate in verdict.rates):
        how = "predicted from answers timed on this machine; one request alone"
    else:
        how = "predicted; one request alone, nothing counted for traffic between devices"
        if doubt := next((rate.doubt for rate in verdict.rates if rate.doubt), ""):
            how += f"; from a reading speed that is in doubt: {doubt}"
        if any(rate.small for rate in verdict.rates):
            how += "; roughly, for so small a model waits for other things than memory"
    return Section(title=f"Speed ({how})", rows=rows, header=("what", "usual", "range"))


def timing_section(timings: Sequence[Timing]) -> Section:
    """Answers as the engine timed them."""
    rows = tuple(
        (
            format_tokens(timing.depth_tokens),
            f"{timing.prompt_tokens / timing.prefill_s:,.1f} tokens/s over {format_tokens(timing.prompt_tokens)}",
            f"{timing.decode_tokens / timing.decode_s:,.1f} tokens/s over {format_tokens(timing.decode_tokens)}",
        )
        for timing in timings
    )
    return Section(title="Measured now", rows=rows, header=("context filled before", "prefill", "decode"))


def _rate(tokens_per_s: float) -> str:
    return f"{tokens_per_s:,.0f}" if tokens_per_s >= 100 else f"{tokens_per_s:.3g}"


def _device_section(name: str, verdict: Verdict, index: int) -> Section:
    device = verdict.devices[index]

    def share(size: Bytes) -> str:
        return f"{size / device.budget_bytes:.1%}" if device.budget_bytes > 0 else ""

    rows = [(_letter(part.name), part.name, format_bytes(part.bytes), share(part.bytes)) for part in device.parts]
    rows.append(("", "total", format_bytes(device.total_bytes), share(device.total_bytes)))
    rows.append((".", "available", format_bytes(device.budget_bytes), ""))
    if isinstance(verdict, Fits) and index == 0 and not verdict.settings.layer_split:
        rows.append(("", "error bound", *_bound(verdict.lessons)))
    header = ("", "part", "size", "of available")
    title = f"Memory ({name})" if index == 0 else f"Memory ({name}, compute and driver estimated)"
    return Section(title=title, rows=tuple(rows), header=header, bar=device_bar(device))


def _bound(lessons: Lessons) -> tuple[str, str]:
    """How far the plan may be off, and how that is known."""
    loads = "1 load" if lessons.loads == 1 else f"{lessons.loads} loads"
    known = f"by {loads} here" if lessons.loads else "by the engine's accounts; nothing was loaded here yet"
    return f"{lessons.bound:.1%}", known


_LETTERS = {"second embedding": "2", "tiles": "A", "prompt cache": "S", "checkpoints": "T"}
"""Where the first letter of a part is taken by another."""
BAR_CELLS = 64


def _letter(part: str) -> str:
    return _LETTERS.get(part, part[0].upper())


def device_bar(device: Device) -> str:
    """A device in `BAR_CELLS` letters, each a part's; ``.`` is free, and ``|`` is where the available memory ends."""
    whole = max(device.total_bytes, device.budget_bytes, 1)
    cells, filled = "", 0
    for part in device.parts:
        filled += part.bytes
        cells += _letter(part.name) * (round(filled * BAR_CELLS / whole) - len(cells))
    cells = cells.ljust(BAR_CELLS, ".")
    end = round(device.budget_bytes * BAR_CELLS / whole)
    return cells + "|" if end == BAR_CELLS else f"{cells[:end]}|{cells[end:]}"


def explain_section(explained: Explanation) -> Section:
    """How one part of a plan comes to its size."""
    rows = [(term.what, term.how, format_bytes(term.bytes) if term.counts else "") for term in explained.terms]
    rows.append(("total", f"{explained.part.bytes:,} bytes", format_bytes(explained.part.bytes)))
    return Section(title=f"Memory: {explained.part.name}", rows=tuple(rows), header=("what", "how", "size"))


def check_section(verdict: Verdict, account: Sequence[Part]) -> Section:
    """The plan beside the engine's own account of the same parts.

    The buffer of an embedding model's answers is left out: the engine makes it when the first text comes.
    """
    planned = as_told(verdict.devices[0])
    rows = [
        (part.name, format_bytes(planned.get(part.name, 0)), format_bytes(part.bytes), _more(planned, part))
        for part in account
        if (part.bytes or planned.get(part.name)) and not (verdict.settings.embedding and part.name == "output")
    ]
    header = ("part", "planned", "engine says", "planned is")
    return Section(
        title="Checked with the engine in the box, llama.cpp b11549 (nothing loaded)", rows=tuple(rows), header=header
    )


def _more(planned: Mapping[str, Bytes], part: Part) -> str:
    """How far the plan is off; the engine speaks in hundredths of a MiB."""
    off = planned.get(part.name, 0) - part.bytes
    if abs(off) <= MIB // 100 + 1:
        return "exact"
    if not part.bytes:
        return "more: the engine takes none"
    return f"{abs(off) / part.bytes:.1%} {'more' if off > 0 else 'less'}"


def plan_line(verdict: Verdict) -> str:
    """A plan in a line."""
    settings = verdict.settings
    match verdict:
        case Fits():
            taken = ", ".join(_taken(device) for device in verdict.devices)
            where = f" on {cpus_text(settings.cores)}" if settings.cores else ""
            return (
                f"fits: context {format_tokens(settings.slot_context_tokens)} x {slots_text(settings.slots)}, {taken}, "
                f"{threads_text(settings.threads)}{where}, {verdict.engine}"
            )
        case NoFit(why=why, contradiction=contradiction, illegal=illegal):
            return f"cannot be had: {why}" if contradiction or illegal else f"does not fit: {why}"
        case _ as unreachable:
            assert_never(unreachable)


def _taken(device: Device) -> str:
    name = "" if device.name == "cpu" else f"{device.name} "
    return f"{name}{format_bytes(device.total_bytes)} of {format_bytes(device.budget_bytes)}"


def slots_text(count: int) -> str:
    """So many slots."""
    return f"{count} slot" if count == 1 else f"{count} slots"


def threads_text(count: int) -> str:
    """So many threads."""
    return f"{count} thread" if count == 1 else f"{count} threads"


def no_fit_hint(verdict: NoFit) -> str:
    """What to do about a plan that does not fit."""
    if not verdict.alternatives:
        return "take back one of what it names; if nothing is named, take a smaller model"
    return "; ".join(f"{row.change} (costs {row.costs})" for row in verdict.alternatives)


def turn_line(turn: Turn) -> str:
    """One answer's figures: TTFT, prefill, decode, context."""
    parts: list[str] = []
    if turn.ttft_s is not None:
        parts.append(f"TTFT {format_seconds(turn.ttft_s)}")
    if turn.prefill_tokens_per_s:
        parts.append(f"prefill {format_rate(turn.prefill_tokens_per_s)}")
    if turn.decode_tokens_per_s:
        parts.append(f"decode {format_rate(turn.decode_tokens_per_s)}")
    if turn.used_tokens is not None:
        limit = f" of {format_tokens(turn.context_tokens)}" if turn.context_tokens else ""
        parts.append(f"context {format_tokens(turn.used_tokens)}{limit}")
    if turn.finish_reason == "length":
        full = turn.used_tokens is not None and turn.context_tokens and turn.used_tokens >= turn.context_tokens - 1
        parts.append("the context is full" if full else "cut by the token limit")
    return ", ".join(parts) or "no figures came with this answer"


def nowhere_lines(findings: Findings) -> tuple[str, ...]:
    """Why there is no model, where was looked, and what to do."""
    looked: Iterable[str] = (f"looked in {place}" for place in findings.looked)
    return (
        "no model found",
        *looked,
        *findings.problems,
        "put a GGUF file there and start again, or name one: bercail up MODEL",
    )


def findings_sections(findings: Findings) -> tuple[Section, ...]:
    """The models a search found; those that must not be loaded apart, with the reason."""
    sound = tuple(
        (found.id, format_bytes(found.bytes), found.source, "yes" if found.projector else "-", found.path)
        for found in findings.models
        if not found.damage
    )
    damaged = tuple((found.path, found.damage) for found in findings.models if found.damage)
    sections = (
        Section(title="Models", rows=sound, header=("id", "size", "from", "mmproj", "path")),
        Section(title="Not to be loaded", rows=damaged, header=("path", "why")),
    )
    return tuple(section for section in sections if section.rows)
