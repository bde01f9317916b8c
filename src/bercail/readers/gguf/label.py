"""A name for the mix of tensor types in a model."""

import re
from collections import Counter
from collections.abc import Iterable

from bercail.core.model import Tensor

# Numbers of enum llama_ftype in llama.h of b11549, with the types that such a file must hold.
_FILE_TYPES: dict[int, tuple[str, tuple[str, ...]]] = {
    0: ("F32", ("f32",)),
    1: ("F16", ("f16",)),
    2: ("Q4_0", ("q4_0",)),
    3: ("Q4_1", ("q4_1",)),
    7: ("Q8_0", ("q8_0",)),
    8: ("Q5_0", ("q5_0",)),
    9: ("Q5_1", ("q5_1",)),
    10: ("Q2_K", ("q2_k", "q3_k")),
    11: ("Q3_K_S", ("q3_k",)),
    12: ("Q3_K_M", ("q3_k",)),
    13: ("Q3_K_L", ("q3_k",)),
    14: ("Q4_K_S", ("q4_k",)),
    15: ("Q4_K_M", ("q4_k",)),
    16: ("Q5_K_S", ("q5_k",)),
    17: ("Q5_K_M", ("q5_k",)),
    18: ("Q6_K", ("q6_k",)),
    19: ("IQ2_XXS", ("iq2_xxs",)),
    20: ("IQ2_XS", ("iq2_xs",)),
    21: ("Q2_K_S", ("q2_k",)),
    22: ("IQ3_XS", ("iq3_s", "iq3_xxs")),
    23: ("IQ3_XXS", ("iq3_xxs",)),
    24: ("IQ1_S", ("iq1_s",)),
    25: ("IQ4_NL", ("iq4_nl",)),
    26: ("IQ3_S", ("iq3_s",)),
    27: ("IQ3_M", ("iq3_s",)),
    28: ("IQ2_S", ("iq2_xs", "iq2_s")),
    29: ("IQ2_M", ("iq2_s",)),
    30: ("IQ4_XS", ("iq4_xs",)),
    31: ("IQ1_M", ("iq1_m",)),
    32: ("BF16", ("bf16",)),
    36: ("TQ1_0", ("tq1_0",)),
    37: ("TQ2_0", ("tq2_0",)),
    38: ("MXFP4_MOE", ("mxfp4",)),
    39: ("NVFP4", ("nvfp4",)),
    40: ("Q1_0", ("q1_0",)),
    41: ("Q2_0", ("q2_0",)),
}
_GUESSED = 1024
_MIN_SHARE = 0.05
"""A type with a smaller share of the weights does not make a name plausible."""

_DIGIT = re.compile(r"\d")
_DYNAMIC = re.compile(r"(?<![A-Za-z0-9])(UD-[A-Z0-9_]+|(?:I?Q|TQ)\d\w*_XL)(?![A-Za-z0-9_])", re.IGNORECASE)


def label(tensors: Iterable[Tensor], file_type: object, file_name: str) -> tuple[str, tuple[str, ...]]:
    """The name of the mix, and words if the file's own label does not fit its tensors.

    A dynamic mix (``UD-Q4_K_XL``) is known only by the name of the file; it counts if the tensors bear it out. Then
    the file's own label counts, if they do. Else it is the type with the most weights.
    """
    weights: Counter[str] = Counter()
    for tensor in tensors:
        weights[tensor.type.name] += tensor.weights
    if not weights:
        return "none", ()
    total = weights.total()
    there = {kind for kind, count in weights.items() if count >= total * _MIN_SHARE}
    dominant = weights.most_common(1)[0][0].upper()
    named = _DYNAMIC.search(file_name)
    if named and _bears_out(named[1], there):
        return named[1].upper(), ()
    known = _FILE_TYPES.get(file_type & ~_GUESSED) if isinstance(file_type, int) else None
    if known is None:
        return dominant, ()
    if there.intersection(known[1]):
        return known[0], ()
    return dominant, (f"general.file_type says {known[0]}, but most weights are {dominant}",)


def _bears_out(name: str, there: set[str]) -> bool:
    """Whether types of as many bits as the dynamic name says hold much of the model."""
    bits = _DIGIT.search(name)
    return bits is not None and any(_DIGIT.findall(kind)[:1] == [bits.group()] for kind in there)
