"""The making of the model in the box on a small scale: it resumes exactly, and every export says what PyTorch says.

Needs the extra ``train``; nox runs it.
"""

import http.client
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra train)")

from tools.concierge import evaluate  # noqa: E402
from tools.concierge.dialogue import (  # noqa: E402
    END,
    HEAR,
    SAY,
    call_text,
    message,
    opened,
    read_corpus,
    subject,
)
from tools.concierge.evaluate import serving  # noqa: E402
from tools.concierge.export import read_trained, with_experts, write_gguf  # noqa: E402
from tools.concierge.perplexity import read_decoder  # noqa: E402
from tools.concierge.tokens import Encoder  # noqa: E402
from tools.concierge.train import Recipe, Training, shorten, train  # noqa: E402

SMALL = Recipe(tokens=16_000, pool=64, long_every=2, layers=1, hidden=256, warm_questions=1024)
PROMPT = f"{opened('user')}What is a KV cache?{END}\n{opened('assistant')}"
LENGTH = 12


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    train(out, SMALL)
    return out


def by_torch(training: Training, folder: Path) -> list[int]:
    """The likeliest continuation of the prompt, token by token."""
    ids: list[int] = Encoder(folder / "tokenizer.json").exact.encode(PROMPT).ids
    with torch.no_grad():
        for _ in range(LENGTH):
            states = training.model.hidden(torch.tensor([ids]))[:, -1]
            ids.append(int(training.model.logits(states).argmax()))
    return ids[-LENGTH:]


def by_server(model: Path) -> str:
    body = {"prompt": PROMPT, "max_tokens": LENGTH, "temperature": 0, "ignore_eos": True}
    with serving(model) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=240)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
    text: str = answer["choices"][0]["text"]
    return text


def loaded(folder: Path) -> Training:
    training = train(folder, SMALL)
    training.model.eval()
    return training


def test_two_trainings_agree_to_the_bit(trained: Path, tmp_path: Path) -> None:
    again = train(tmp_path, SMALL)
    assert (tmp_path / "tokenizer.json").read_bytes() == (trained / "tokenizer.json").read_bytes()
    whole = torch.load(trained / "checkpoint.pt", weights_only=True)["model"]
    assert all(torch.equal(tensor, whole[name]) for name, tensor in again.model.state_dict().items())


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((trained / "tokenizer.json").read_bytes())
    whole = torch.load(trained / "checkpoint.pt", weights_only=True)["model"]
    stopped = train(tmp_path, SMALL, pools=1)
    assert stopped.tokens < SMALL.tokens
    resumed = train(tmp_path, SMALL)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in resumed.model.state_dict().items())


def test_a_training_may_begin_with_the_weights_of_another(trained: Path, tmp_path: Path) -> None:
    before = torch.load(trained / "checkpoint.pt", weights_only=True)["model"]
    begun = train(tmp_path, replace(SMALL, plain=0.0, rate=1e-9, decay=0.0), pools=1, origin=trained)
    assert (tmp_path / "tokenizer.json").read_bytes() == (trained / "tokenizer.json").read_bytes()
    after = begun.model.state_dict()
    assert begun.tokens > 0
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)


def test_a_checkpoint_of_another_recipe_is_refused(trained: Path) -> None:
    with pytest.raises(SystemExit, match="another recipe"):
        train(trained, replace(SMALL, tokens=SMALL.tokens + 1))


def test_a_subject_is_one_token_that_no_text_is_cut_into(trained: Path) -> None:
    encoder = Encoder(trained / "tokenizer.json")
    corpus = read_corpus(Path(evaluate.__file__).parent)
    ids = [encoder.exact.encode(subject(kind)).ids for kind in corpus.kinds]
    assert ids == [[token] for token in encoder.subjects]
    assert not set(encoder.exact.encode("< |bye/en|> and bye/en").ids) & set(encoder.subjects)


def test_rows_are_cut_where_the_subject_is_named_but_for_those_with_tools(trained: Path) -> None:
    encoder = Encoder(trained / "tokenizer.json")
    plain = [*message("user", "Bye", HEAR), *message("assistant", "Good bye.", SAY, "bye/en")]
    cut = shorten(encoder.encode(plain), encoder)
    assert cut.ids[-1] in encoder.subjects
    assert cut.weights[-1] == SAY
    called = [*plain, *message("assistant", call_text("get_machine"), SAY, "get_machine")]
    assert shorten(encoder.encode(called), encoder) == encoder.encode(called)


@pytest.mark.engine
@pytest.mark.parametrize("experts", [0, 4])
def test_the_exported_file_continues_as_pytorch_does(trained: Path, tmp_path: Path, experts: int) -> None:
    shape, arrays = read_trained(trained)
    path = tmp_path / "demo.gguf"
    mixed = with_experts(arrays, experts) if experts else arrays
    write_gguf(path, shape, mixed, trained / "tokenizer.json", quantization="f16")
    expected = Encoder(trained / "tokenizer.json").exact.decode(by_torch(loaded(trained), trained))
    assert by_server(path) == expected


def test_weights_read_back_from_a_quantized_file_are_near_the_trained_ones(trained: Path, tmp_path: Path) -> None:
    shape, arrays = read_trained(trained)
    write_gguf(tmp_path / "q.gguf", shape, arrays, trained / "tokenizer.json", quantization="q8_0")
    for name, tensor in read_decoder(tmp_path / "q.gguf").state_dict().items():
        assert torch.allclose(tensor, torch.from_numpy(arrays[name]), atol=0.01), name


def test_the_onnx_folder_continues_as_pytorch_does(trained: Path, tmp_path: Path) -> None:
    genai = pytest.importorskip("onnxruntime_genai", reason="ONNX Runtime GenAI is not installed (extra train)")
    from tools.concierge import export_onnx

    assert export_onnx.main([str(trained), str(tmp_path / "onnx")]) == 0
    model = genai.Model(str(tmp_path / "onnx"))
    prompt = genai.Tokenizer(model).encode(PROMPT)
    settings = genai.GeneratorParams(model)
    settings.set_search_options(max_length=len(prompt) + LENGTH, do_sample=False)
    generator = genai.Generator(model, settings)
    generator.append_tokens(prompt)
    said = []
    while not generator.is_done():
        generator.generate_next_token()
        said.append(int(generator.get_next_tokens()[0]))
    assert said == by_torch(loaded(trained), trained)[: len(said)]
    assert said
