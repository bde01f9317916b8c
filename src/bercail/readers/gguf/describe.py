"""From the headers of a model's files to ``core.model.Model``."""

from pathlib import Path

from bercail.core.model import Model, ModelFile, Role, Shape
from bercail.readers.gguf import architectures, audit, layout, traits, vocabulary
from bercail.readers.gguf import shape as shapes
from bercail.readers.gguf.header import Header
from bercail.readers.gguf.keys import Keys
from bercail.readers.gguf.label import label
from bercail.readers.gguf.source import read_header
from bercail.readers.gguf.split import Parts, part_of, read_parts

_ALONE = (Role.PROJECTOR, Role.ADAPTER, Role.DRAFT)


def read_model(path: str, projector: str | None) -> Model:
    """The model at ``path``, checked.

    Raises:
        ReadError: it, or its projector, cannot be read or must not be loaded.
    """
    parts = read_parts(path)
    companion = _read_projector(projector) if projector is not None else None
    return describe(parts, companion)


def describe(parts: Parts, projector: Header | None) -> Model:
    """The model that the parts make up, checked."""
    header = parts.first
    architecture = audit.architecture(header)
    keys = Keys(header, architecture, parts.tensors)
    kind = traits.role(header, architecture)
    shape, context, notes = _described(keys) if kind in _ALONE else _served(keys)
    audit.template(header)
    template = keys.text("tokenizer.chat_template")
    projector, misfit = _fitting(projector, shape)
    quantization, doubts = label(parts.tensors, header.metadata.get("general.file_type"), Path(header.path).name)
    return Model(
        id=identity(header.path),
        path=header.path,
        files=tuple(ModelFile(path=h.path, bytes=h.file_bytes, data_offset=h.data_offset) for h in parts.headers),
        architecture=architecture,
        name=keys.text("general.name") or None,
        role=kind,
        context_length=context,
        tensors=parts.tensors,
        shape=shape,
        tokenizer=vocabulary.describe(header),
        quantization=quantization,
        capabilities=traits.capabilities(keys, kind, template, shape.nextn_layers, projector),
        chat_template=template,
        license=traits.licence(header.metadata),
        qat=traits.is_qat(header.metadata, Path(header.path).name),
        pooling=traits.pooling(keys, kind),
        projector=projector.path if projector else None,
        projector_bytes=sum(tensor.bytes for tensor in projector.tensors) if projector else 0,
        notes=notes + misfit + doubts + _oddities(parts, architecture),
        metadata=header.metadata,
    )


def identity(path: str) -> str:
    """The name clients use: the file name without ``.gguf`` and without the part number."""
    name = Path(path).name
    part = part_of(name)
    if part is not None:
        return part.stem
    return name[: -len(".gguf")] if name.lower().endswith(".gguf") and len(name) > len(".gguf") else name


def _served(keys: Keys) -> tuple[Shape, int, tuple[str, ...]]:
    """Every check, then shape, context length and notes of a model that an engine is to load."""
    if not keys.tensors:
        raise keys.header.refuse(
            "the file holds keys but no tensors: a vocabulary or a template, not a model",
            "tensor count",
            code="no_tensors",
            hint="give the path of a complete model",
        )
    audit.hyper_parameters(keys)
    tokens = vocabulary.check(keys)
    if tokens is not None:
        audit.tokens_match(keys, tokens)
    layout.check(keys)
    shape, notes = shapes.shape(keys)
    return shape, keys.count("context_length"), notes + tuple(vocabulary.odd_ids(keys.header, tokens))


def _described(keys: Keys) -> tuple[Shape, int, tuple[str, ...]]:
    """The same for a file that goes with another model and is not loaded alone."""
    prefix = next((p for p in ("vision.", "audio.") if keys.has(f"{p}block_count")), "")
    return shapes.described_only(keys, prefix), keys.lenient_count("context_length"), ()


def _fitting(projector: Header | None, shape: Shape) -> tuple[Header | None, tuple[str, ...]]:
    """The projector if it was made for a model of this width, and words if it was not: the engine would refuse both."""
    if projector is None:
        return None, ()
    widths = [projector.metadata.get(f"clip.{sense}.projection_dim") for sense in ("vision", "audio")]
    stated = [width for width in widths if isinstance(width, int)]
    if not stated or shape.embedding in stated:
        return projector, ()
    name = Path(projector.path).name
    return None, (f"{name} is left out: it was made for a model of width {stated[0]:,}, not {shape.embedding:,}",)


def _oddities(parts: Parts, architecture: str) -> tuple[str, ...]:
    """Words about what does not stop the model."""
    notes: list[str] = []
    for header in parts.headers:
        rest = header.file_bytes - header.data_end
        # The last tensor may be padded; some writers pad to the alignment, others do not.
        if rest >= header.alignment and header.tensors:
            notes.append(f"{rest:,} bytes follow the last tensor of {Path(header.path).name}; nothing reads them")
    if parts.first.big_endian:
        notes.append("big-endian: it can be inspected, but the engine does not load it on this machine")
    if architecture in architectures.DIFFUSION:
        notes.append("a diffusion model: the engine's server does not generate with it")
    if architecture in architectures.SPEECH:
        notes.append("a speech model: the engine's server does not chat with it")
    return tuple(notes)


def _read_projector(path: str) -> Header:
    header = read_header(path)
    architecture = audit.architecture(header)
    if traits.role(header, architecture) is not Role.PROJECTOR:
        raise header.refuse(
            f"a {architecture} model, not a projector",
            "general.architecture",
            code="not_a_projector",
            hint="a projector's file is usually named mmproj-...gguf",
        )
    return header
