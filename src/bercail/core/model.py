"""A model as its files describe it: shape, tensors, tokenizer, capabilities."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from bercail.core.quant import TensorType
from bercail.core.units import Bytes, Tokens


class Role(StrEnum):
    """What a model file is for."""

    GENERATE = "generate"
    EMBED = "embed"
    RERANK = "rerank"
    PROJECTOR = "projector"
    """A vision or audio encoder that goes with another model (``mmproj``)."""
    ADAPTER = "adapter"
    """A LoRA or control vector: nothing that can be served alone."""
    DRAFT = "draft"
    """A drafting head that reads another model's state and cannot be served alone."""


class Format(StrEnum):
    """How a model is kept on disk."""

    GGUF = "gguf"
    ONNX = "onnx"
    """A folder with ``genai_config.json``, for ONNX Runtime GenAI."""
    OPENVINO = "openvino"
    """A folder with ``openvino_model.xml``: OpenVINO's intermediate representation (IR)."""


class Capability(StrEnum):
    """What clients may ask of a model."""

    CHAT = "chat"
    COMPLETION = "completion"
    TOOLS = "tools"
    VISION = "vision"
    AUDIO = "audio"
    THINKING = "thinking"
    MTP = "mtp"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    INFILL = "infill"


class Pooling(StrEnum):
    """How token states become one embedding; numbers in GGUF: none 0, mean 1, cls 2, last 3, rank 4."""

    NONE = "none"
    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    RANK = "rank"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySummary:
    """An array of a GGUF header that was not read, only measured.

    Attributes:
        element: ``string``, ``int32``, ``float32`` ...
        count: number of elements.
        offset: byte offset of the first element in the file that holds it.
    """

    element: str
    count: int
    offset: int


MetadataValue: TypeAlias = str | int | float | bool | tuple[int | float | bool | str, ...] | ArraySummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a model.

    Attributes:
        shape: dimensions in GGUF order, fastest first.
        offset: byte offset of its data from the start of the file that holds it.
        file_index: which of the model's files holds it.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    file_index: int = 0

    @property
    def block(self) -> int:
        """Number of the layer it belongs to, or -1."""
        prefix, _, rest = self.name.partition(".")
        number = rest.partition(".")[0]
        return int(number) if prefix == "blk" and number.isdigit() else -1

    @property
    def weights(self) -> int:
        """Number of weights."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def bytes(self) -> Bytes:
        """Size of the data without padding."""
        return self.weights // self.type.block_weights * self.type.block_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent:
    """State-space or gated-delta-net layers: a state of fixed size per sequence, always f32.

    Attributes:
        conv_bytes: convolution state of one layer and sequence.
        state_bytes: recurrent state of one layer and sequence.
        layers: which layers hold such a state, one flag per layer.
        channels: width of the convolution, or 0 if it is not known; with `inner` it gives the working memory.
        inner: width of the values that the state is made of.
        scan: a state-space scan (Mamba); otherwise a delta rule.
    """

    conv_bytes: Bytes
    state_bytes: Bytes
    layers: tuple[bool, ...]
    channels: int = 0
    inner: int = 0
    scan: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The numbers that memory follows from. Per-layer tuples have one entry per block of ``block_count``.

    Attributes:
        layers: blocks that run in plain generation (``block_count`` less the nextn blocks).
        nextn_layers: extra blocks of a built-in drafting head (MTP).
        embedding: width of the residual stream.
        feed_forward: width of the dense feed-forward network, per layer; 0 where a layer has none.
        heads: query heads per layer.
        kv_heads: key/value heads per layer; 0 where a layer keeps no cache of its own.
        key_length: width of one key head on full-attention layers.
        value_length: width of one value head there.
        key_length_swa: the same on sliding-window layers.
        value_length_swa: the same on sliding-window layers.
        sliding_window: tokens a sliding-window layer sees; 0 is none.
        swa_layers: which layers slide, one flag per layer.
        shared_kv_layers: last layers that reuse the cache of earlier ones and hold none.
        kv_lora_rank: compressed width of multi-head latent attention; 0 is ordinary attention.
        rope_dimensions: rotated width of a head.
        key_length_mla: width of one uncompressed query head there.
        mla_compressed: the cache holds the compressed form (the file has ``attn_k_b`` tensors).
        experts: routed experts per layer; 0 is dense.
        experts_used: of these, active per token.
        expert_feed_forward: width of one expert.
        shared_feed_forward: width of the shared experts together; 0 is none.
        vocabulary: rows of the token embedding.
        vector: values of one embedding that it answers with; 0 where the file does not tell.
        causal: False for encoders.
        recurrent: state layers, or None.
    """

    layers: int
    embedding: int
    feed_forward: tuple[int, ...]
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    key_length_swa: int
    value_length_swa: int
    vocabulary: int
    nextn_layers: int = 0
    sliding_window: int = 0
    swa_layers: tuple[bool, ...] = ()
    shared_kv_layers: int = 0
    kv_lora_rank: int = 0
    rope_dimensions: int = 0
    mla_compressed: bool = False
    key_length_mla: int = 0
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0
    shared_feed_forward: int = 0
    vector: int = 0
    causal: bool = True
    recurrent: Recurrent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """The tokenizer in the file.

    Attributes:
        model: ``gpt2``, ``llama``, ``bert`` ..., or None if the file has none.
        pre: name of the pre-tokenizer, or None.
        tokens: vocabulary size, or None.
    """

    model: str | None
    pre: str | None
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model.

    Attributes:
        path: absolute.
        bytes: its size on disk.
        data_offset: where tensor data begins.
    """

    path: str
    bytes: Bytes
    data_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Weights whose tensors are not listed one by one.

    Attributes:
        bytes: on disk, with what describes them.
        weights: how many there are.
        cache_type: of the KV cache, if the model was exported for one; None leaves it to the engine.
    """

    bytes: Bytes
    weights: int
    cache_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A readable model.

    Attributes:
        id: the name clients use: the file name without ``.gguf`` and without the part number.
        path: the (first) file, or the folder of a format that has one; absolute.
        files: all parts in order.
        format: how it is kept.
        stored: its weights, where ``tensors`` does not list them; None where it does.
        architecture: ``general.architecture``.
        name: ``general.name`` or None.
        context_length: tokens it was made for.
        quantization: a name for the mix: the file's own label checked against the tensors, or the dominant type.
        chat_template: the default template (Jinja), or None.
        license: as the file names it, or None.
        qat: trained for its quantization, if the file says so by name.
        pooling: how it pools if it embeds, or None.
        metadata: every key; arrays that were skipped as ArraySummary.
        projector: path of the ``mmproj`` file that goes with it, or None.
        draft: a smaller model of the same vocabulary that guesses ahead for it, or None.
        notes: oddities worth a word that do not stop it.
    """

    id: str
    path: str
    files: tuple[ModelFile, ...]
    architecture: str
    name: str | None
    role: Role
    context_length: Tokens
    tensors: tuple[Tensor, ...]
    shape: Shape
    tokenizer: Tokenizer
    quantization: str
    capabilities: tuple[Capability, ...]
    format: Format = Format.GGUF
    stored: Stored | None = None
    chat_template: str | None = None
    license: str | None = None
    qat: bool = False
    pooling: Pooling | None = None
    projector: str | None = None
    projector_bytes: Bytes = 0
    draft: "Model | None" = None
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)

    @property
    def parameter_count(self) -> int:
        """All weights of all tensors."""
        if self.stored is not None:
            return self.stored.weights
        return sum(tensor.weights for tensor in self.tensors)

    @property
    def weights_bytes(self) -> Bytes:
        """All tensor data, without headers and padding."""
        if self.stored is not None:
            return self.stored.bytes
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def file_bytes(self) -> Bytes:
        """All files together."""
        return sum(file.bytes for file in self.files)

    @property
    def bits_per_weight(self) -> float:
        """Mean over all tensors; 0 for a file without tensors."""
        count = self.parameter_count
        return self.weights_bytes * 8 / count if count else 0.0


DEMO_ID = "bercail-demo"
"""The model in the box: what clients call it, and the name that always means it."""


def on_the_web(name: str) -> bool:
    """Whether ``name`` is the address of a file on a web server, not a path or an id."""
    return name.lower().startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model file, or folder, that a search came across.

    Attributes:
        id: the name clients use; unique within one search.
        path: the (first) file.
        source: who keeps it there: ``argument``, ``settings``, ``huggingface``, ``lmstudio``, ``ollama``,
            ``llama.cpp``, ``./models``, or ``demo`` for the one in the box.
        bytes: all parts together.
        projector: path of the ``mmproj`` file beside it, or None.
        modified_s: when the (first) file was last changed, unix seconds; 0 if unknown.
        damage: why its header says that it cannot be loaded alone; empty if it does not, None if nobody looked.
    """

    id: str
    path: str
    source: str
    bytes: Bytes
    projector: str | None = None
    modified_s: int = 0
    damage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a search for models found.

    Attributes:
        models: in the order of the places searched, then by name.
        looked: each place that was searched and what came of it, in words.
        problems: files and folders that could not be used, in words.
    """

    models: tuple[FoundModel, ...]
    looked: tuple[str, ...]
    problems: tuple[str, ...] = ()
