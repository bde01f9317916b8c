"""The JSON files beside exported weights: sizes, tokenizer, chat template. Their form is that of Hugging Face."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bercail.core.errors import ReadError
from bercail.core.model import Capability, ModelFile, Shape, Tokenizer
from bercail.core.units import MIB, Bytes

_LARGEST: Bytes = 16 * MIB
_REMAKE = "export the model again, or copy the folder whole"
_MOST = 1_000_000_000
_TOOL_WORDS = ("tool_calls", "tools", "tool_call")
_THINKING_WORDS = ("<think>", "enable_thinking", "reasoning_content")


@dataclass(frozen=True, slots=True)
class Paper:
    """A JSON object in a file, or a part of one; what it lacks is told with its place."""

    path: Path
    values: Mapping[str, Any]
    within: str = ""

    def refuse(self, name: str, message: str) -> ReadError:
        """An error about the value ``name``."""
        return ReadError(message, path=str(self.path), field=f"{self.within}{name}", hint=_REMAKE, code="bad_export")

    def count(self, name: str, otherwise: int | None = None, *, least: int = 1) -> int:
        """A whole number.

        Raises:
            ReadError: it is missing with nothing to take its place, or no sensible number.
        """
        value = self.values.get(name)
        if value is None and otherwise is not None:
            return otherwise
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
            raise self.refuse(name, "is missing" if value is None else f"{value!r} is no number from {least} up")
        return value

    def text(self, name: str, otherwise: str = "") -> str:
        """A text, or ``otherwise``."""
        value = self.values.get(name)
        return value if isinstance(value, str) and value else otherwise

    def part(self, name: str) -> "Paper":
        """A part of it, empty if it is missing.

        Raises:
            ReadError: it is no object.
        """
        value = self.values.get(name, {})
        if not isinstance(value, dict):
            raise self.refuse(name, "holds no object")
        return Paper(self.path, value, f"{self.within}{name}.")


def read_paper(path: Path, *, must_exist: bool = True) -> Paper:
    """The JSON object in a file; an empty one if it need not exist and does not.

    Raises:
        ReadError: it cannot be read, or is none.
    """
    values = _read_json(path, must_exist=must_exist)
    if values is not None and not isinstance(values, dict):
        raise ReadError("holds no object", path=str(path), hint=_REMAKE, code="bad_export")
    return Paper(path, values or {})


def read_list(path: Path) -> tuple[Paper, ...]:
    """The JSON objects of a list in a file; none if there is no such file.

    Raises:
        ReadError: it cannot be read, or holds something else.
    """
    values = _read_json(path, must_exist=False)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ReadError("holds no list of objects", path=str(path), hint=_REMAKE, code="bad_export")
    return tuple(Paper(path, value, f"{place}.") for place, value in enumerate(values))


def _read_json(path: Path, *, must_exist: bool) -> object:
    """What a JSON file holds; None if it need not exist and does not."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        if must_exist:
            raise ReadError("is missing", path=str(path), hint=_REMAKE, code="bad_export") from None
        return None
    except OSError as error:
        raise ReadError(error.strerror or str(error), path=str(path), hint=_REMAKE) from error
    if len(data) > _LARGEST:
        raise ReadError("is longer than 16 MiB", path=str(path), hint=_REMAKE, code="bad_export")
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ReadError(f"is no JSON: {error}", path=str(path), hint=_REMAKE, code="bad_export") from error
    return found


def chat_template(folder: Path) -> str | None:
    """The template of chats: a file of its own, or in the tokenizer's; of several the one named default.

    Raises:
        ReadError: the tokenizer's file cannot be read.
    """
    own = folder / "chat_template.jinja"
    try:
        return own.read_text(encoding="utf-8")[:_LARGEST]
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise ReadError(f"cannot be read: {error}", path=str(own), hint=_REMAKE) from error
    value = read_paper(folder / "tokenizer_config.json", must_exist=False).values.get("chat_template")
    if isinstance(value, list):
        named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
        value = named.get("default") or next(iter(named.values()), None)
    return value if isinstance(value, str) and value else None


def capabilities(template: str | None) -> tuple[Capability, ...]:
    """What clients may ask of a model with this template; tools are read out of no answer by these engines."""
    thinks = template is not None and any(word in template for word in _THINKING_WORDS)
    wanted = {Capability.CHAT: template is not None, Capability.COMPLETION: True, Capability.THINKING: thinks}
    return tuple(capability for capability, there in wanted.items() if there)


def tokenizer(folder: Path, tokens: int) -> Tokenizer:
    """The tokenizer in ``folder``, by the name of its kind.

    Raises:
        ReadError: its file cannot be read.
    """
    kind = read_paper(folder / "tokenizer_config.json", must_exist=False).text("tokenizer_class")
    return Tokenizer(model=kind or None, pre=None, tokens=tokens)


def dense_shape(sizes: Paper, *, layers: int, vocabulary: int) -> Shape:
    """The shape of a decoder in the words of ``config.json``, as far as memory follows from it.

    Raises:
        ReadError: a size is missing or senseless.
    """
    width, heads = sizes.count("hidden_size"), sizes.count("num_attention_heads")
    head = sizes.count("head_dim", width // heads)
    experts = sizes.count("num_experts", sizes.count("num_local_experts", 0, least=0), least=0)
    slides = _sliding(sizes, layers)
    return Shape(
        layers=layers,
        embedding=width,
        feed_forward=(sizes.count("intermediate_size", 4 * width),) * layers,
        heads=(heads,) * layers,
        kv_heads=(sizes.count("num_key_value_heads", heads),) * layers,
        key_length=head,
        value_length=head,
        key_length_swa=head,
        value_length_swa=head,
        vocabulary=vocabulary,
        sliding_window=sizes.count("sliding_window", 0, least=0) if any(slides) else 0,
        swa_layers=slides,
        experts=experts,
        experts_used=min(experts, sizes.count("num_experts_per_tok", 0, least=0)),
        expert_feed_forward=sizes.count("moe_intermediate_size", 0, least=0),
    )


def _sliding(sizes: Paper, layers: int) -> tuple[bool, ...]:
    """Which layers see a window only, if the file says so of each; otherwise all are planned to see everything."""
    kinds: Sequence[object] = sizes.values.get("layer_types") or ()
    if isinstance(kinds, list) and len(kinds) == layers:
        return tuple(kind == "sliding_attention" for kind in kinds)
    return ()


def files_of(paths: Sequence[Path]) -> tuple[ModelFile, ...]:
    """The files that hold weights.

    Raises:
        ReadError: one is missing.
    """
    found = []
    for path in paths:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ReadError(error.strerror or str(error), path=str(path), hint=_REMAKE, code="bad_export") from error
        found.append(ModelFile(path=str(path), bytes=size, data_offset=0))
    return tuple(found)
