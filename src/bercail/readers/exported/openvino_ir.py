"""OpenVINO's intermediate representation: ``openvino_model.xml`` with ``.bin``, a tokenizer, ``config.json``.

Source: what ``optimum-cli export openvino`` of optimum-intel writes; layers, ports and edges of IR version 11.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree as Xml

from bercail.core.errors import ReadError
from bercail.core.model import Capability, Format, Model, Role, Stored
from bercail.core.units import Tokens
from bercail.readers.exported import papers, sentence

SIGN = "openvino_model.xml"
_NEEDED = ("openvino_model.bin", "openvino_tokenizer.xml")
_TO_GENERATE = ("openvino_detokenizer.xml",)
_REMAKE = "export it again: `optimum-cli export openvino --model NAME FOLDER`"
_WEIGHTS = frozenset(("u4", "i4", "nf4", "u8", "i8", "f8e4m3", "f16", "bf16", "f32"))
_NAMES = {"u4": "int4", "i4": "int4", "u8": "int8", "i8": "int8"}
_STATED_TEXT = ("text_config",)
_HIDDEN = "last_hidden_state"
_SENTENCE = "sentence_embedding"
_UNSAID = (
    "nothing in the folder says how it pools (1_Pooling/config.json): the plan takes what is usual, --pooling says it"
)
_TO_EMBED = "`optimum-cli export openvino --task feature-extraction --library transformers --model NAME FOLDER`"


@dataclass(slots=True)
class _Graph:
    """What of a graph matters here.

    Attributes:
        counts: of weights, by their type; scales and zero points, one per group, are left out.
        ranks: number of dimensions of every named port, by layer and port.
        results: layers that hand something out.
        outputs: rank by name of what is handed out.
    """

    counts: Counter[str] = field(default_factory=Counter)
    ranks: dict[tuple[str, str], Mapping[str, int]] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)
    outputs: dict[str, int] = field(default_factory=dict)

    def take(self, node: Xml.Element) -> None:
        """A layer, or an edge between two; edges come after all layers."""
        if node.tag == "edge" and node.get("to-layer") in self.results:
            self.outputs |= self.ranks.get((node.get("from-layer", ""), node.get("from-port", "")), {})
        if node.tag != "layer":
            return
        identity = node.get("id", "")
        if node.get("type") == "Result":
            self.results.add(identity)
        elif node.get("type") == "Const":
            self._weigh(node)
        for port in node.findall("output/port"):
            if names := port.get("names"):
                rank = len(port.findall("dim"))
                self.ranks[identity, port.get("id", "")] = dict.fromkeys(names.split(","), rank)
        node.clear()

    def _weigh(self, node: Xml.Element) -> None:
        data = node.find("data")
        kind = data.get("element_type", "") if data is not None else ""
        if data is not None and kind in _WEIGHTS:
            extents = [int(extent) for extent in data.get("shape", "").split(",") if extent.strip()]
            if len(extents) > 1 and extents[-1] > 1:
                self.counts[_NAMES.get(kind, kind)] += math.prod(extents)


def read(folder: Path) -> Model:
    """The model in ``folder``.

    Raises:
        ReadError: it is incomplete, its descriptions contradict themselves, or it is for something not served.
    """
    _check_files(folder, _NEEDED)
    config = papers.read_paper(folder / "config.json")
    for name in _STATED_TEXT:
        config = config.part(name) if name in config.values else config
    graph = _graph(folder / SIGN)
    files = papers.files_of([folder / SIGN, folder / "openvino_model.bin"])
    stored = Stored(bytes=sum(file.bytes for file in files), weights=graph.counts.total())
    make = _embedder if _embeds(folder, graph) else _generator
    model = make(folder, config)
    common = graph.counts.most_common(1)
    return replace(model, files=files, stored=stored, quantization=common[0][0] if common else "unknown")


def _check_files(folder: Path, names: tuple[str, ...]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ReadError(f"{', '.join(missing)} is missing", path=str(folder), hint=_REMAKE, code="bad_export")


def _embeds(folder: Path, graph: _Graph) -> bool:
    """Whether it hands out the states of its tokens.

    Raises:
        ReadError: it hands out what no engine of ours knows what to do with.
    """
    outputs = graph.outputs
    why, hint = "", "take another export, or a GGUF file"
    if _SENTENCE in outputs or (_HIDDEN in outputs and len(graph.results) > 1):
        why = "its graph hands out more than the states of its tokens, which OpenVINO's pipeline does not take"
        hint = f"export it with {_TO_EMBED}"
    elif outputs.get("logits", 3) < 3:
        why = "it classifies or ranks texts, which is not served yet"
    if why:
        raise ReadError(why, path=str(folder / SIGN), hint=hint, code="not_servable")
    return _HIDDEN in outputs


def _generator(folder: Path, config: papers.Paper) -> Model:
    _check_files(folder, _TO_GENERATE)
    template = papers.chat_template(folder)
    return replace(
        _common(folder, config, config.count("max_position_embeddings")),
        role=Role.GENERATE,
        capabilities=papers.capabilities(template),
        chat_template=template,
    )


def _embedder(folder: Path, config: papers.Paper) -> Model:
    config = sentence.renamed(config)
    pooling = sentence.pooling(folder)
    model = _common(folder, config, sentence.longest(folder, config))
    return replace(
        model,
        role=Role.EMBED,
        shape=replace(model.shape, causal=sentence.reads_one_way(config)),
        capabilities=(Capability.EMBEDDINGS,),
        pooling=pooling,
        notes=() if pooling else (_UNSAID,),
    )


def _common(folder: Path, config: papers.Paper, context_length: Tokens) -> Model:
    """What is read alike, whatever the model is for."""
    layers, vocabulary = config.count("num_hidden_layers"), config.count("vocab_size")
    return Model(
        id=folder.name,
        path=str(folder),
        files=(),
        format=Format.OPENVINO,
        architecture=config.text("model_type", "unknown"),
        name=None,
        role=Role.GENERATE,
        context_length=context_length,
        tensors=(),
        shape=papers.dense_shape(config, layers=layers, vocabulary=vocabulary),
        tokenizer=papers.tokenizer(folder, vocabulary),
        quantization="",
        capabilities=(),
    )


def _graph(path: Path) -> _Graph:
    """The graph in an IR file."""
    graph = _Graph()
    try:
        for _, node in Xml.iterparse(path):
            graph.take(node)
    except (Xml.ParseError, OSError, ValueError) as error:
        raise ReadError(f"cannot be read: {error}", path=str(path), hint=_REMAKE, code="bad_export") from error
    return graph
