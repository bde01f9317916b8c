"""OpenVINO's intermediate representation: ``openvino_model.xml`` with ``.bin``, a tokenizer, ``config.json``.

Source: what ``optimum-cli export openvino`` of optimum-intel writes; ``Const`` layers of IR version 11.
"""

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as Xml

from bercail.core.errors import ReadError
from bercail.core.model import Format, Model, Role, Stored
from bercail.readers.exported import papers

SIGN = "openvino_model.xml"
_NEEDED = ("openvino_model.bin", "openvino_tokenizer.xml", "openvino_detokenizer.xml")
_REMAKE = "export it again: `optimum-cli export openvino --model NAME FOLDER`"
_WEIGHTS = frozenset(("u4", "i4", "nf4", "u8", "i8", "f8e4m3", "f16", "bf16", "f32"))
_NAMES = {"u4": "int4", "i4": "int4", "u8": "int8", "i8": "int8"}
_STATED_TEXT = ("text_config",)


def read(folder: Path) -> Model:
    """The model in ``folder``.

    Raises:
        ReadError: it is incomplete, or its descriptions contradict themselves.
    """
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise ReadError(f"{', '.join(missing)} is missing", path=str(folder), hint=_REMAKE, code="bad_export")
    config = papers.read_paper(folder / "config.json")
    for name in _STATED_TEXT:
        config = config.part(name) if name in config.values else config
    weights, quantization = _weights(folder / SIGN)
    files = papers.files_of([folder / SIGN, folder / "openvino_model.bin"])
    layers, vocabulary = config.count("num_hidden_layers"), config.count("vocab_size")
    template = papers.chat_template(folder)
    return Model(
        id=folder.name,
        path=str(folder),
        files=files,
        format=Format.OPENVINO,
        architecture=config.text("model_type", "unknown"),
        name=None,
        role=Role.GENERATE,
        context_length=config.count("max_position_embeddings"),
        tensors=(),
        stored=Stored(bytes=sum(file.bytes for file in files), weights=weights),
        shape=papers.dense_shape(config, layers=layers, vocabulary=vocabulary),
        tokenizer=papers.tokenizer(folder, vocabulary),
        quantization=quantization,
        capabilities=papers.capabilities(template),
        chat_template=template,
    )


def _weights(path: Path) -> tuple[int, str]:
    """How many there are, and what most of them are; scales and zero points, one per group, are not counted."""
    counts: Counter[str] = Counter()
    try:
        for _, node in Xml.iterparse(path):
            if node.tag != "layer":
                continue
            data = node.find("data")
            kind = data.get("element_type", "") if data is not None else ""
            if node.get("type") == "Const" and data is not None and kind in _WEIGHTS:
                extents = [int(extent) for extent in data.get("shape", "").split(",") if extent.strip()]
                if len(extents) > 1 and extents[-1] > 1:
                    counts[_NAMES.get(kind, kind)] += _product(extents)
            node.clear()
    except (Xml.ParseError, OSError, ValueError) as error:
        raise ReadError(f"cannot be read: {error}", path=str(path), hint=_REMAKE, code="bad_export") from error
    return counts.total(), counts.most_common(1)[0][0] if counts else "unknown"


def _product(extents: list[int]) -> int:
    count = 1
    for extent in extents:
        count *= extent
    return count
