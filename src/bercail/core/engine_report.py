"""Engines that were built and measured here, as sections for people."""

from collections.abc import Sequence

from bercail.core.build import Build
from bercail.core.engine import Make, Offer
from bercail.core.options import Purpose
from bercail.core.report import Section
from bercail.core.search import CACHE, Tried
from bercail.core.trial import Comparison, Trial
from bercail.core.units import format_bytes, format_rate, format_seconds, format_tokens

EVEN_PERCENT = 10
"""Times that differ by less are told as equal: machines are noisier than that."""


def builds_section(builds: Sequence[Build]) -> Section:
    """Engines that were built here."""
    rows = tuple(
        (
            build.id,
            "any processor" if build.recipe.portable else "this processor",
            format_bytes(build.bytes),
            f"{build.took_s / 60:.1f} min",
            build.compiler,
            build.folder,
        )
        for build in builds
    )
    return Section(title="Engines built here", rows=rows, header=("name", "for", "size", "took", "compiler", "folder"))


def offers_section(offers: Sequence[tuple[Offer, str]]) -> Section:
    """Engines at hand with their builds: what they read, how they serve several, and what of requests they refuse."""
    rows = tuple(
        (
            offer.id,
            build,
            ", ".join(offer.reads),
            "in one batch" if offer.batches else "in turns",
            ", ".join(offer.lacks) or "nothing",
        )
        for offer, build in offers
    )
    return Section(title="Engines at hand", rows=rows, header=("name", "build", "reads", "several at once", "lacks"))


def devices_sections(offers: Sequence[Offer]) -> tuple[Section, ...]:
    """What engines made for GPUs see; nothing where there are none."""
    rows = [
        (
            offer.id,
            gpu.device,
            gpu.name,
            gpu.capability or "?",
            format_bytes(gpu.total_bytes),
            format_bytes(gpu.available_bytes),
        )
        for offer in offers
        for gpu in offer.gpus
    ]
    rows += [(offer.id, "none", offer.trouble, "", "", "") for offer in offers if offer.trouble]
    header = ("engine", "device", "name", "kernels", "memory", "free")
    return (Section(title="GPUs that engines see", rows=tuple(rows), header=header),) if rows else ()


def trials_section(trials: Sequence[Trial], purpose: Purpose) -> Section:
    """Engines as they were measured, the fastest first."""
    many = purpose.clients > 1
    shape = f"{format_tokens(purpose.prompt)} in, {format_tokens(purpose.answer)} out"
    return Section(
        title="Measured here, the fastest first",
        rows=tuple(_row(trial, many=many) for trial in trials),
        header=(
            *("engine", "weights", "prefill", "decode"),
            *((f"{purpose.clients} at once",) if many else ()),
            *("ready", "memory", f"{purpose.clients} x {shape}" if many else shape),
        ),
    )


def trials_line(trials: Sequence[Trial]) -> str:
    """What to make of a comparison."""
    best, *rest = [trial for trial in trials if not trial.failure]
    if not rest:
        return f"{best.offer} is the only one that could be measured"
    times, ahead = ((other.request_s or 0.0) / (best.request_s or 1.0) for other in (rest[-1], rest[0]))
    if ahead < 1 + EVEN_PERCENT / 100:
        first = f"{best.offer} with weights {_order(best)}"
        return f"no clear difference: {first} and the next are within {EVEN_PERCENT} %"
    line = f"{best.offer} wins with weights {_order(best)}: {times:.2f} times as fast as the slowest"
    if best.offer.make is Make.LIBRARY:
        return f"{line}. It lacks tools and logprobs: `bercail engine use {best.offer.id}`"
    return f"{line}; auto takes it now"


def settings_sections(comparison: Comparison) -> tuple[Section, ...]:
    """Other settings of one engine, one at a time; nothing where none were tried."""
    header = ("setting", "planned", "tried", "times as fast", "loads", "taken", "why")
    rows = tuple(
        (
            row.setting,
            str(row.instead),
            *(("", "", "") if not row.loads else (str(row.value), _times(row.ratio), str(row.loads))),
            "yes" if row.taken else "no",
            row.because,
        )
        for row in comparison.tried
    )
    return (Section(title=f"Other settings of {comparison.searched}", rows=rows, header=header),) if rows else ()


def settings_line(tried: Sequence[Tried], purpose: str) -> str:
    """What becomes of them; empty where none were tried that could be taken."""
    taken = ", ".join(f"{row.setting} {row.value}" for row in tried if row.taken)
    if taken:
        return f"plans for {purpose} take {taken} from now on, unless you say otherwise"
    kept = any(row.loads and row.setting != CACHE for row in tried)
    return "no other setting is faster by more than the noise: the planned ones stay" if kept else ""


def _times(ratio: float | None) -> str:
    return "?" if ratio is None else f"{ratio:.2f}"


def quality_line(trials: Sequence[Trial]) -> str:
    """Whose weights are not those of the file that the others used as it is; empty if nobody's."""
    measured = [trial for trial in trials if not trial.failure]
    converted = [trial for trial in measured if trial.offer.make is Make.LIBRARY]
    if not converted or len(converted) == len(measured):
        return ""
    names = ", ".join(f"{trial.offer} (which computes in {trial.precision or 'its own type'})" for trial in converted)
    return (
        f"not one class of quality: {names} converts the file's {converted[0].quantization} into types of its own; "
        "compare answers before speeds"
    )


def _order(trial: Trial) -> str:
    if trial.offer.gpus:
        return "on GPUs"
    if trial.offer.make is Make.LIBRARY:
        return "in types of its own"
    return "rearranged" if trial.repack else "as they are"


def _row(trial: Trial, *, many: bool) -> tuple[str, ...]:
    if trial.failure:
        return (str(trial.offer), *[""] * (6 if many else 5), trial.failure)
    return (
        str(trial.offer),
        _order(trial),
        format_rate(trial.prefill_tokens_per_s),
        format_rate(trial.decode_tokens_per_s),
        *((format_rate(trial.joint_tokens_per_s or 0.0),) if many else ()),
        format_seconds(trial.ready_s),
        "?" if trial.resident_bytes is None else format_bytes(trial.resident_bytes),
        format_seconds(trial.request_s or 0.0),
    )
