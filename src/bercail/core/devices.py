"""Devices as engines list them: whose they are, which data sheet is theirs, and what may be used of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from bercail.core.cards import CARDS, CHIPS
from bercail.core.errors import UsageError
from bercail.core.machine import Gpu, Machine
from bercail.core.units import MIB, Bytes


class Maker(StrEnum):
    """Who makes GPUs."""

    NVIDIA = "NVIDIA"
    AMD = "AMD"
    INTEL = "Intel"
    APPLE = "Apple"


_MAKERS = (
    (Maker.NVIDIA, re.compile(r"nvidia|geforce|quadro|tesla|\brtx\b|\bgtx\b", re.IGNORECASE)),
    (Maker.AMD, re.compile(r"\bamd\b|radeon|instinct|\bgfx\d", re.IGNORECASE)),
    (Maker.INTEL, re.compile(r"\bintel\b|\barc\b", re.IGNORECASE)),
    (Maker.APPLE, re.compile(r"\bapple\b", re.IGNORECASE)),
)
_SOFTWARE = re.compile(r"llvmpipe|lavapipe|swiftshader|softpipe", re.IGNORECASE)
_SHARED = re.compile(
    r"\bGB10\b|\bOrin\b|\bTegra|\bApple\b|\bRadeon(?:\(TM\))? (?:Graphics|\d{3,4}[MS]\b|Vega \d+ Graphics)"
    r"|\b(?:U?HD|Iris|Xe)\b.*Graphics|Intel\(R\) (?:Graphics|Arc\(TM\) (?:\d+[VT] )?(?:GPU|Graphics))",
    re.IGNORECASE,
)
"""Names of GPUs that are a part of a processor, and work in its memory."""
_FILLING = frozenset((
    "nvidia", "geforce", "amd", "radeon", "intel", "apple", "graphics", "corporation", "tesla", "generation",
    "blackwell", "workstation", "server", "edition", "sxm4", "sxm5", "hbm3", "hbm3e",
))  # fmt: skip
"""Words of a name that do not tell one card from another."""
_NEAR = 0.1
"""By what share a driver may count the memory of a card lower or higher than its data sheet."""
SYSTEM_SHARE = 4
"""Of main memory that a GPU shares, one part in so many stays with the processor."""


def maker_of(name: str) -> Maker | None:
    """Who makes the GPU of that name, or None."""
    return next((maker for maker, pattern in _MAKERS if pattern.search(name)), None)


def is_software(name: str) -> bool:
    """Whether, by its name, it is a processor that plays a GPU."""
    return bool(_SOFTWARE.search(name))


def shares_memory(name: str) -> bool:
    """Whether, by its name, a GPU has no memory of its own."""
    return bool(_SHARED.search(name)) or is_software(name)


def data_sheet_speed(name: str, total_bytes: Bytes) -> float | None:
    """Reading speed of its memory in bytes/s of the card that a driver calls ``name``; None without a data sheet.

    Names are no keys: some are sold with more or less memory, behind narrower or wider buses. Both must agree.
    """
    wanted = _words(name)
    for known, card in CARDS.items():
        near = abs(total_bytes - card.memory_mib * MIB) <= _NEAR * card.memory_mib * MIB
        if near and _words(known) == wanted:
            return card.bandwidth_bytes_per_s
    chip = CHIPS.get("-".join(re.findall(r"[a-z0-9]+", name.lower().removeprefix("apple "))))
    return chip[1] * 1e9 if chip and maker_of(name) is Maker.APPLE else None


def _words(name: str) -> frozenset[str]:
    """What tells a card from others in its name; what drivers add in parentheses, and sizes, does not."""
    plain = re.sub(r"\([^)]*\)", " ", name.lower())
    words = re.findall(r"[a-z0-9]+", plain)
    return frozenset(word for word in words if word not in _FILLING and not re.fullmatch(r"\d+gb", word))


def usable(gpus: Sequence[Gpu], asked: str | None, *, forced: bool) -> tuple[Gpu, ...]:
    """Of the GPUs that an engine sees those that a model may be put on.

    By themselves, cards with memory of their own if there are any, else what shares the main memory; never a
    processor that plays a GPU, unless the engine was asked for.

    Args:
        gpus: as the engine lists them.
        asked: their numbers or the engine's names for them, joined by commas; ``none`` is none of them, None leaves it
            to us.
        forced: the engine was asked for by name.

    Raises:
        UsageError: one that was asked for is not there.
    """
    if asked is not None:
        return () if asked.strip().lower() == "none" else tuple(_named(gpus, word.strip()) for word in asked.split(","))
    real = [gpu for gpu in gpus if forced or not is_software(gpu.name)]
    own = [gpu for gpu in real if not gpu.shared]
    return tuple(own or real)


def _named(gpus: Sequence[Gpu], word: str) -> Gpu:
    for gpu in gpus:
        if word.lower() == gpu.device.lower() or (word.isdigit() and int(word) == gpu.number):
            return gpu
    there = ", ".join(f"{gpu.device} ({gpu.name})" for gpu in gpus) or "none"
    raise UsageError(f"--gpus: there is no GPU {word!r}", hint=f"this engine sees: {there}")


def beside(machine: Machine, gpus: Sequence[Gpu]) -> Machine:
    """``machine`` with ``gpus``; what one of them takes of the main memory is the processor's no more.

    Of several that share it, each is left an equal part.
    """
    sharing = sum(gpu.shared for gpu in gpus)
    if not sharing:
        return replace(machine, gpus=tuple(gpus))
    memory = machine.memory
    most = memory.available_bytes * (SYSTEM_SHARE - 1) // SYSTEM_SHARE // sharing
    granted = [replace(gpu, available_bytes=min(gpu.available_bytes, most)) if gpu.shared else gpu for gpu in gpus]
    given = sum(gpu.available_bytes for gpu in granted if gpu.shared)
    left = replace(memory, available_bytes=memory.available_bytes - given)
    note = "the GPU works in main memory: three quarters of what is free may be its, the rest stays with the processor"
    return replace(machine, memory=left, gpus=tuple(granted), notes=(*machine.notes, note))


def one_card_each(sights: Sequence[Sequence[Gpu]]) -> tuple[tuple[Gpu, ...], ...]:
    """What several engines see, each GPU with the name under which its memory is counted.

    The same card has one name, whichever engine sees it: that of the first that does. Cards of the same name are taken
    to be listed in the same order. What has no memory of its own counts as main memory.
    """
    names: dict[tuple[frozenset[str], int], str] = {}
    found: list[tuple[Gpu, ...]] = []
    for gpus in sights:
        seen: dict[frozenset[str], int] = {}
        named = []
        for gpu in gpus:
            words = _words(gpu.name)
            turn = seen[words] = seen.get(words, -1) + 1
            card = "cpu" if gpu.shared else names.setdefault((words, turn), gpu.device.lower())
            named.append(replace(gpu, card=card))
        found.append(tuple(named))
    return tuple(found)


def emptiest_first(gpus: Sequence[Gpu], promised: Mapping[str, Bytes]) -> tuple[Gpu, ...]:
    """``gpus`` with those first of which least is promised to other models, by card; else in their order."""
    return tuple(sorted(gpus, key=lambda gpu: promised.get(gpu.card, 0)))


def makers(gpus: Sequence[Gpu]) -> tuple[Maker, ...]:
    """Whose GPUs these are, as far as is known, each once."""
    return tuple(dict.fromkeys(maker for gpu in gpus if (maker := maker_of(gpu.name))))
