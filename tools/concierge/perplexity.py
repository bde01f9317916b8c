"""Perplexity of files on the held-out questions: `python -m tools.concierge.perplexity TOKENIZER F16 Q8_0 Q4_0`.

The weights are read back from each file and dequantized, so what is compared is the files and nothing else.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import gguf
import torch
from torch.nn import functional

from tools.concierge.dialogue import END, REFUSAL, REFUSALS, kind, opened, read_corpus, subject
from tools.concierge.judge import Question, read_questions
from tools.concierge.network import Decoder, Shape
from tools.concierge.tokens import Encoder
from tools.figures import publish


def read_decoder(path: Path) -> Decoder:
    """The decoder of the file at `path`, its weights dequantized to f32."""
    reader = gguf.GGUFReader(path)
    arrays = {
        tensor.name: torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        for tensor in reader.tensors
    }
    layers = sum(name.endswith("attn_q.weight") for name in arrays)
    hidden = len(arrays["blk.0.ffn_up.weight"])
    model = Decoder(Shape(vocabulary=len(arrays["token_embd.weight"]), layers=layers, hidden=hidden))
    model.load_state_dict(arrays)
    return model.eval()


def losses(model: Decoder, encoder: Encoder, asked: str, about: str, said: str) -> torch.Tensor:
    """Cross-entropy in nats of every token of the answer `said`, its subject `about` first, to the question `asked`."""
    question, answer = f"{opened('user')}{asked}{END}\n{opened('assistant')}", f"{subject(about)}{said}{END}"
    ids = [encoder.exact.encode(text).ids for text in (question, answer)]
    tokens = torch.tensor([list(chain.from_iterable(ids))])
    with torch.no_grad():
        logits = model.logits(model.hidden(tokens[:, :-1]))[0]
    return functional.cross_entropy(logits, tokens[0, 1:], reduction="none")[-len(ids[1]) :]


def perplexity(
    model: Decoder, encoder: Encoder, questions: Sequence[Question], says: Mapping[tuple[str, str], str]
) -> float:
    """Perplexity per token of the right answers to the held-out questions."""
    found = []
    for question in questions:
        topic, language = question.topic or REFUSAL, question.language
        if question.kind != "tools":
            found.append(losses(model, encoder, question.ask, kind(topic, language), says[topic, language]))
    return round(math.exp(torch.cat(found).mean().item()), 4)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path, help="tokenizer.json that the training wrote")
    parser.add_argument("files", type=Path, nargs="+", help="GGUF files to compare")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    corpus = read_corpus(Path(__file__).parent)
    says = {(wording.topic, wording.language): wording.say for wording in corpus.wordings}
    says |= {(REFUSAL, language): say for language, say in REFUSALS.items()}
    encoder, questions = Encoder(given.tokenizer), read_questions()
    found = {path.name: perplexity(read_decoder(path), encoder, questions, says) for path in given.files}
    publish(found, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
