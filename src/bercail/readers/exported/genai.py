"""A folder for ONNX Runtime GenAI: ``genai_config.json``, a graph, weights in it or beside it, a tokenizer.

Source: the configuration of onnxruntime-genai 0.18; operators of ONNX Runtime's contrib domain (``MatMulNBits``).
"""

from pathlib import Path

from bercail.core.errors import ReadError
from bercail.core.model import Format, Model, Role, Stored
from bercail.readers.exported import papers
from bercail.readers.exported.onnx_graph import read_graph

SIGN = "genai_config.json"
_MANY = ("vision", "speech", "embedding", "encoder")
_CACHE_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def read(folder: Path) -> Model:
    """The model in ``folder``.

    Raises:
        ReadError: it is incomplete, of several graphs, or its descriptions contradict themselves.
    """
    model = papers.read_paper(folder / SIGN).part("model")
    others = [name for name in _MANY if name in model.values]
    if others:
        raise ReadError(
            f"a model of several graphs (decoder, {', '.join(others)}), which is not served yet",
            path=str(folder / SIGN), field="model", hint="take its text-only export, or a GGUF with a projector",
            code="not_servable",
        )  # fmt: skip
    decoder = model.part("decoder")
    if "pipeline" in decoder.values:
        raise decoder.refuse("pipeline", "its decoder is cut in parts, which is not served yet")
    name = decoder.text("filename")
    if not name or Path(name).name != name:
        raise decoder.refuse("filename", f"{name!r} is no name of a file in the folder")
    graph = read_graph(folder / name)
    beside = [folder / file for file in graph.external]
    files = papers.files_of([folder / name, *beside])
    layers, vocabulary = decoder.count("num_hidden_layers"), model.count("vocab_size")
    sizes = _sizes(decoder, folder)
    template = papers.chat_template(folder)
    return Model(
        id=folder.name,
        path=str(folder),
        files=files,
        format=Format.ONNX,
        architecture=model.text("type", "unknown"),
        name=None,
        role=Role.GENERATE,
        context_length=model.count("context_length"),
        tensors=(),
        stored=Stored(
            bytes=sum(file.bytes for file in files),
            weights=graph.weights,
            cache_type=_CACHE_TYPES.get(graph.cache_type),
        ),
        shape=papers.dense_shape(sizes, layers=layers, vocabulary=vocabulary),
        tokenizer=papers.tokenizer(folder, vocabulary),
        quantization=graph.quantization,
        capabilities=papers.capabilities(template),
        chat_template=template,
    )


def _sizes(decoder: papers.Paper, folder: Path) -> papers.Paper:
    """Sizes of the decoder in the words of ``config.json``, which is asked for what the other file does not tell."""
    config = papers.read_paper(folder / "config.json", must_exist=False)
    own = dict(decoder.values)
    if "head_size" in own:
        own["head_dim"] = own["head_size"]
    heads, head = own.get("num_attention_heads"), own.get("head_dim")
    if "num_attention_heads" not in own:  # old exports name the cache's heads alone
        own["num_attention_heads"] = heads = own.get("num_key_value_heads")
    if "hidden_size" not in own and isinstance(heads, int) and isinstance(head, int):
        own["hidden_size"] = heads * head
    return papers.Paper(decoder.path, {**config.values, **own}, decoder.within)
