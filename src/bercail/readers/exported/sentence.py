"""What the papers beside an encoder say of embeddings: how it pools, how long texts may be.

Source: the files of Sentence Transformers (``modules.json``, ``1_Pooling/config.json``, ``sentence_bert_config.json``),
and the configurations of Hugging Face.
"""

from collections.abc import Mapping
from pathlib import Path

from bercail.core.errors import ReadError
from bercail.core.model import Pooling
from bercail.core.units import Tokens
from bercail.readers.exported.papers import Paper, read_list, read_paper

_FLAGS: Mapping[str, Pooling | None] = {
    "pooling_mode_cls_token": Pooling.CLS, "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_lasttoken": Pooling.LAST, "pooling_mode_max_tokens": None,
    "pooling_mode_mean_sqrt_len_tokens": None, "pooling_mode_weightedmean_tokens": None,
}  # fmt: skip
"""Ways of pooling by the flag that asks for them; None is one that no engine of ours has."""
_WORDS: Mapping[str, Pooling] = {"cls": Pooling.CLS, "mean": Pooling.MEAN, "lasttoken": Pooling.LAST}
"""The same as newer files name it."""
_SERVED_MODULES = ("Transformer", "Pooling", "Normalize")
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("dim", "n_embd", "d_model"),
    "num_hidden_layers": ("n_layers", "n_layer", "num_layers"),
    "num_attention_heads": ("n_heads", "n_head", "num_heads"),
    "intermediate_size": ("hidden_dim", "n_inner", "d_ff"),
    "max_position_embeddings": ("n_positions",),
}
_ENCODERS = frozenset((
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "eurobert", "jina_bert",
    "modernbert", "mpnet", "new", "nomic_bert", "roberta", "t5", "xlm-roberta", "xlm-roberta-xl",
))  # fmt: skip
_COUNT_FROM_PADDING = frozenset(("camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"))
"""Their first position is the one after the number of the padding token, so that many rows of the table are lost."""
_MOST_LENGTH = 1_000_000_000
"""Tokenizers without a limit write 10^30."""


def renamed(config: Paper) -> Paper:
    """``config`` with the usual names for the sizes."""
    known = config.values
    found = {
        usual: known[other]
        for usual, others in _OTHER_NAMES.items()
        for other in others
        if usual not in known and other in known
    }
    return Paper(config.path, {**known, **found}, config.within)


def pooling(folder: Path) -> Pooling | None:
    """How the model was made to pool; None if nothing in the folder says so.

    Raises:
        ReadError: it pools in a way, or has a part, that is not served.
    """
    place = _pooling_place(folder)
    paper = read_paper(folder / place / "config.json", must_exist=False)
    word = paper.values.get("pooling_mode")
    if isinstance(word, str):
        if word not in _WORDS:
            raise _unserved(paper, "pooling_mode", f"pooling {word} is not served; {', '.join(_WORDS)} are")
        return _WORDS[word]
    asked = [flag for flag in paper.values if flag.startswith("pooling_mode_") and paper.values[flag] is True]
    if not asked:
        return None
    found = _FLAGS.get(asked[0])
    if found is None or len(asked) > 1:
        raise _unserved(paper, asked[-1], f"pooling by {' and '.join(asked)} is not served; cls, mean and last are")
    return found


def _pooling_place(folder: Path) -> str:
    """Where the folder says how it pools.

    Raises:
        ReadError: after pooling comes what an exported graph does not hold.
    """
    found = "1_Pooling"
    for module in read_list(folder / "modules.json"):
        kind, place = module.text("type").rpartition(".")[2], module.text("path")
        if kind not in _SERVED_MODULES:
            raise _unserved(module, "type", f"its vectors go through {kind or 'a part'}, which an exported graph lacks")
        if kind == "Pooling" and Path(place).name == place:
            found = place
    return found


def _unserved(paper: Paper, name: str, message: str) -> ReadError:
    hint = "take a GGUF file of it with the engine in the box"
    return ReadError(message, path=str(paper.path), field=f"{paper.within}{name}", hint=hint, code="not_servable")


def longest(folder: Path, config: Paper) -> Tokens:
    """Tokens of a text at most: the rows of the table of positions, or less where the model was made for less.

    Raises:
        ReadError: nobody says how many.
    """
    said = (
        read_paper(folder / "sentence_bert_config.json", must_exist=False).values.get("max_seq_length"),
        read_paper(folder / "tokenizer_config.json", must_exist=False).values.get("model_max_length"),
    )
    known = [count for count in said if isinstance(count, int) and 0 < count <= _MOST_LENGTH]
    rows = config.count("max_position_embeddings", min(known, default=None))
    if config.text("model_type") in _COUNT_FROM_PADDING:
        rows -= config.count("pad_token_id", 1, least=0) + 1
    return min((rows, *known))


def reads_one_way(config: Paper) -> bool:
    """Whether a token sees only those before it, as in models that generate."""
    return config.text("model_type") not in _ENCODERS
