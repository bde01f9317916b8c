"""What is changed in llama.cpp's source before it is built: as little as helps, each with its reason. Pure.

Each change replaces words that stand once in one file of the release that is pinned, so that a new release says at
once which of them no longer apply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bercail.core.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """Words of a source file that are replaced.

    Attributes:
        file: below the source's folder.
        before: stands there once, line ends included.
        after: what stands there afterwards.
        reason: one sentence, shown with builds.
    """

    file: str
    before: str
    after: str
    reason: str


AMENDMENTS = (
    Amendment(
        file="ggml/src/ggml-cpu/amx/mmq.cpp",
        before="    _tile_loadconfig(&tc);\n",
        # Seen with GCC 12.2, which Debian 12 has, on a Sapphire Rapids: the other 56 bytes are never written.
        after=(
            "#if defined(__GNUC__) && !defined(__clang__)\n"
            '    __asm__ volatile("ldtilecfg %0" : : "m"(tc));\n'
            "#else\n"
            "    _tile_loadconfig(&tc);\n"
            "#endif\n"
        ),
        reason="AMX's tiles are set up from all 64 bytes; GCC before 11.5, 12.4 and 13.3 keeps 8 (its bug 114098)",
    ),
    Amendment(
        file="ggml/src/ggml-cpu/simd-mappings.h",
        before="#define GGML_F16_STEP 128\n",
        # A vector holds 32 of them: 64 are two vectors, as in the branch for processors without AVX512-FP16.
        after="#define GGML_F16_STEP 64\n",
        reason="with AVX512-FP16, values of heads narrower than 128 are added up in vectors of 64, not one by one",
    ),
)


def amended(texts: Mapping[str, str], amendments: Sequence[Amendment]) -> dict[str, str]:
    """The files that change, as they are afterwards.

    Args:
        texts: file -> its text; all that `amendments` name.
        amendments: one file may have several.

    Raises:
        EngineError: the source is not the one that they are for.
    """
    changed: dict[str, str] = {}
    for one in amendments:
        text = changed.get(one.file, texts[one.file])
        if (times := text.count(one.before)) != 1:
            raise EngineError(
                f"{one.file} holds what is to be changed there {times} times, not once",
                hint="this Bercail knows another release of llama.cpp than this source is",
                code="other_source",
            )
        changed[one.file] = text.replace(one.before, one.after)
    return changed
