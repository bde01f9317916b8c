"""Typed access to the keys of a header: what the engine would read as a number must be that very number type."""

import math
from collections.abc import Mapping

from bercail.core.errors import ReadError
from bercail.core.model import ArraySummary, MetadataValue, Tensor
from bercail.readers.gguf.header import Header


class Keys:
    """The keys and tensors of a model, by their names without the architecture's prefix.

    Attributes:
        header: the (first) file.
        architecture: the prefix.
        tensors: by name, of all files.
        blocks: ``block_count``; set once it has been checked, else 0.
    """

    def __init__(self, header: Header, architecture: str, tensors: tuple[Tensor, ...]) -> None:
        self.header = header
        self.architecture = architecture
        self.tensors: Mapping[str, Tensor] = {tensor.name: tensor for tensor in tensors}
        self.blocks = 0

    def name(self, key: str) -> str:
        """The full key."""
        return f"{self.architecture}.{key}"

    def has(self, key: str) -> bool:
        """Whether the architecture has this key."""
        return self.name(key) in self.header.metadata

    def value(self, key: str) -> MetadataValue | None:
        """Whatever the key holds."""
        return self.header.metadata.get(self.name(key))

    def refuse(self, key: str, message: str, hint: str = "") -> ReadError:
        """An error about a key of the architecture."""
        return self.header.refuse(message, self.name(key), hint=hint)

    def missing(self, key: str) -> ReadError:
        """The error for a key that must be there."""
        return self.refuse(key, "the key is missing; no engine can load the model without it")

    def count(self, key: str, default: int = 0) -> int:
        """A scalar ``uint32``, or ``default`` without the key."""
        value = self.value(key)
        if value is None:
            return default
        kind = self.header.types[self.name(key)]
        if kind != "uint32" or not isinstance(value, int):
            raise self.refuse(key, f"is {kind}, but must be uint32")
        return value

    def lenient_count(self, key: str, default: int = 0) -> int:
        """A whole number of any width, or ``default``: for files that are described, not served."""
        value = self.value(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default

    def per_layer(self, key: str, default: int = 0) -> tuple[int, ...]:
        """One number per block: from an array of exactly that many, or a scalar repeated."""
        value = self.value(key)
        if not isinstance(value, tuple | ArraySummary):
            return (self.count(key, default),) * self.blocks
        kind = self.header.types[self.name(key)]
        if kind not in ("array[uint32]", "array[int32]", "array[bool]"):
            raise self.refuse(key, f"is {kind}, but must be numbers of 32 bits")
        length = value.count if isinstance(value, ArraySummary) else len(value)
        if isinstance(value, ArraySummary) or length != self.blocks:
            raise self.refuse(key, f"has {length:,} entries for {self.blocks} blocks")
        numbers = tuple(int(entry) for entry in value if isinstance(entry, int))
        if any(number < 0 for number in numbers):
            raise self.refuse(key, "holds a negative number")
        return numbers

    def is_array(self, key: str) -> bool:
        """Whether the key holds one number per block."""
        return isinstance(self.value(key), tuple | ArraySummary)

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean."""
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(key, f"is {self.header.types[self.name(key)]}, but must be bool")
        return value

    def real(self, key: str) -> float | None:
        """A finite ``float32``, or None without the key."""
        value = self.value(key)
        if value is None:
            return None
        kind = self.header.types[self.name(key)]
        if kind != "float32" or not isinstance(value, float):
            raise self.refuse(key, f"is {kind}, but must be float32")
        if not math.isfinite(value):
            raise self.refuse(key, f"is {value}, not a finite number")
        return value

    def text(self, full_key: str) -> str | None:
        """A string under its full name, or None if it is absent or something else."""
        value = self.header.metadata.get(full_key)
        return value if isinstance(value, str) else None
