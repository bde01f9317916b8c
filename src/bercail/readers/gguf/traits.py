"""What a model is for, what clients may ask of it, and what its file says about its making."""

import re
from collections.abc import Mapping

from bercail.core.model import Capability, MetadataValue, Pooling, Role
from bercail.readers.gguf import architectures
from bercail.readers.gguf.header import Header
from bercail.readers.gguf.keys import Keys

# Numbers of enum llama_pooling_type in llama.h.
_POOLINGS = {0: Pooling.NONE, 1: Pooling.MEAN, 2: Pooling.CLS, 3: Pooling.LAST, 4: Pooling.RANK}
_TOOL_WORDS = ("tool_calls", "tools", "tool_call")
_THINKING_WORDS = (
    "<think>",
    "enable_thinking",
    "reasoning_content",
    "<|channel|>",
    "<|channel>",
    "[THINK]",
    "<seed:think>",
)
_FIM_PREFIXES = ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id")
_FIM_SUFFIXES = ("tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id")
_QAT = re.compile(r"(?<![a-z])qat(?![a-z])", re.IGNORECASE)


def role(header: Header, architecture: str) -> Role:
    """What the file is for, before its hyper-parameters are looked at."""
    kind = header.metadata.get("general.type")
    if kind in ("adapter", "control_vector", "controlvector") or "adapter.type" in header.metadata:
        return Role.ADAPTER
    if architecture in architectures.PROJECTORS or kind == "mmproj":
        return Role.PROJECTOR
    if architecture in architectures.DRAFTS:
        return Role.DRAFT
    pooled = _POOLINGS.get(_whole(header.metadata.get(f"{architecture}.pooling_type")))
    if pooled is Pooling.RANK:
        return Role.RERANK
    if architecture in architectures.EMBEDDERS or pooled not in (None, Pooling.NONE):
        return Role.EMBED
    return Role.GENERATE


def pooling(keys: Keys, kind: Role) -> Pooling | None:
    """How an embedding model pools; None for others and where the file leaves it open."""
    if kind not in (Role.EMBED, Role.RERANK) or not keys.has("pooling_type"):
        return None
    number = keys.count("pooling_type")
    if number not in _POOLINGS:
        raise keys.refuse("pooling_type", f"pooling {number} does not exist; 0 to 4 do")
    return _POOLINGS[number]


def capabilities(
    keys: Keys, kind: Role, template: str | None, nextn: int, projector: Header | None
) -> tuple[Capability, ...]:
    """What clients may ask of it, in a fixed order."""
    if kind is Role.EMBED:
        return (Capability.EMBEDDINGS,)
    if kind is Role.RERANK:
        return (Capability.RERANK,)
    if kind is not Role.GENERATE:
        return ()
    metadata = keys.header.metadata
    wanted = {
        Capability.CHAT: template is not None,
        Capability.COMPLETION: True,
        Capability.TOOLS: template is not None and any(word in template for word in _TOOL_WORDS),
        Capability.VISION: projector is not None and sees(projector),
        Capability.AUDIO: projector is not None and hears(projector),
        Capability.THINKING: template is not None and any(word in template for word in _THINKING_WORDS),
        Capability.MTP: nextn > 0,
        Capability.INFILL: _any(metadata, _FIM_PREFIXES) and _any(metadata, _FIM_SUFFIXES),
    }
    return tuple(capability for capability, there in wanted.items() if there)


def sees(projector: Header) -> bool:
    """Whether a projector holds a vision encoder; old files without the key all do."""
    return bool(projector.metadata.get("clip.has_vision_encoder", not hears(projector)))


def hears(projector: Header) -> bool:
    """Whether a projector holds an audio encoder."""
    return bool(projector.metadata.get("clip.has_audio_encoder", False))


def licence(metadata: Mapping[str, MetadataValue]) -> str | None:
    """The licence as the file names it."""
    for key in ("general.license", "general.license.name", "general.license.link"):
        value = metadata.get(key)
        if isinstance(value, str) and value:
            return value
    return None


def is_qat(metadata: Mapping[str, MetadataValue], file_name: str) -> bool:
    """Whether a name in the file, a tag or the file's own name says quantization-aware training."""
    words = [file_name]
    for key in ("general.name", "general.basename", "general.finetune", "general.tags"):
        value = metadata.get(key)
        if isinstance(value, str):
            words.append(value)
        elif isinstance(value, tuple):
            words.extend(str(entry) for entry in value)
    return any(_QAT.search(word) for word in words)


def _any(metadata: Mapping[str, MetadataValue], keys: tuple[str, ...]) -> bool:
    return any(key in metadata for key in keys)


def _whole(value: MetadataValue | None) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
