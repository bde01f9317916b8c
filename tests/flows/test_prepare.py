from dataclasses import replace
from typing import Any

import pytest

from bercail.core import news
from bercail.core.engine import Make, Offer
from bercail.core.errors import EngineError, ReadError, RefusedError, StoreError
from bercail.core.launch import PLAIN_TEMPLATE, TemplateVerdict
from bercail.core.model import Format, Role, Stored
from bercail.core.options import EngineOptions, LibraryOptions, Settings
from bercail.flows.prepare import Prepared, prepare
from fakes.house import FakeEngine, Fakes, run
from fakes.models import a_found, a_gpu, a_machine, a_model, a_shape, a_tensor

UNUSABLE = TemplateVerdict(usable=False, why="raises an error")


def made(**model: Any) -> Fakes:
    fakes = Fakes()
    (found,) = fakes.add("a")
    fakes.reader.models[found.path] = replace(fakes.reader.models[found.path], **model)
    return fakes


def do(fakes: Fakes) -> tuple[Prepared, list[news.News]]:
    told: list[news.News] = []
    return run(lambda: prepare(fakes.house(), a_found("a"), told.append)), told


def warnings(told: list[news.News]) -> list[str]:
    return [item.text for item in told if isinstance(item, news.Warned)]


def test_a_launch_has_everything_the_engine_needs() -> None:
    fakes = made(projector="/m/mmproj.gguf", projector_bytes=1000)
    prepared, told = do(fakes)
    spec = prepared.spec
    assert (spec.model_id, spec.model_path, spec.projector_path) == ("a", "/m/a.gguf", "/m/mmproj.gguf")
    assert spec.weights_bytes == prepared.model.weights_bytes
    assert spec.settings == prepared.plan.settings
    assert (spec.chat_template, prepared.chat_refusal) == (None, "")
    assert [type(item) for item in told] == [news.ModelRead]


def test_a_draft_model_is_read_audited_and_launched_with() -> None:
    fakes = made()
    fakes.settings = Settings(engine=EngineOptions(draft="small"))
    fakes.add("small")
    fakes.reader.models["/m/small.gguf"] = a_model("small", tensors=(a_tensor(rows=16),))
    prepared, _ = do(fakes)
    assert prepared.spec.draft_path == "/m/small.gguf"
    assert fakes.reader.audited == ["a", "small"]


def test_the_model_goes_by_the_name_it_was_found_under() -> None:
    prepared, _ = do(made(id="other"))
    assert prepared.model.id == prepared.plan.model_id == "a"


def test_a_template_is_tried_once_per_engine_build() -> None:
    fakes = made()
    fakes.settings = Settings(library=LibraryOptions(template_timeout=2.5))
    do(fakes)
    do(fakes)
    assert fakes.engine.tried == [("{{ messages }}", 2.5)]
    fakes.engine.build = "b2"
    do(fakes)
    assert len(fakes.engine.tried) == 2


@pytest.mark.parametrize("times", [1, 2])
def test_a_template_that_fails_disables_chat_with_words_also_from_the_cache(times: int) -> None:
    fakes = made()
    fakes.engine.verdict = UNUSABLE
    for _ in range(times):
        prepared, told = do(fakes)
    assert prepared.spec.chat_template == PLAIN_TEMPLATE
    assert "raises an error" in prepared.chat_refusal
    (text,) = warnings(told)
    assert "chat is disabled for a" in text
    assert "completions work" in text
    assert len(fakes.engine.tried) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_what_is_no_template_at_all_is_refused_as_a_bad_file(times: int) -> None:
    fakes = made()
    fakes.engine.verdict = TemplateVerdict(usable=False, why="unexpected end", malformed=True)
    for _ in range(times):
        with pytest.raises(ReadError) as caught:
            do(fakes)
    assert (caught.value.path, caught.value.field) == ("/m/a.gguf", "tokenizer.chat_template")
    assert "unexpected end" in caught.value.message
    assert len(fakes.engine.tried) == 1


def test_a_verdict_that_another_try_may_change_is_not_kept() -> None:
    fakes = made()
    fakes.engine.verdict = replace(UNUSABLE, lasting=False)
    do(fakes)
    assert fakes.cache.facts == {}


def test_a_template_that_cannot_be_tried_disables_chat_and_is_tried_again_next_time() -> None:
    fakes = made()
    fakes.engine.verdict = EngineError("no room for a child")
    prepared, _ = do(fakes)
    assert "it could not be tried: no room for a child" in prepared.chat_refusal
    fakes.engine.verdict = TemplateVerdict(usable=True)
    assert do(fakes)[0].chat_refusal == ""


def test_a_verdict_that_cannot_be_kept_is_told_and_used() -> None:
    fakes = made()
    fakes.cache.refusal = StoreError("disk full", hint="make room")
    prepared, told = do(fakes)
    assert prepared.chat_refusal == ""
    assert warnings(told) == ["disk full (make room)"]


def test_a_model_without_a_template_says_what_happens_instead() -> None:
    fakes = made(chat_template=None)
    prepared, told = do(fakes)
    assert (prepared.chat_refusal, prepared.spec.chat_template) == ("", None)
    assert "ChatML" in warnings(told)[0]
    assert fakes.engine.tried == []


def test_a_template_with_lone_surrogates_is_tried_like_any_other() -> None:
    fakes = made(chat_template="\udc80")
    do(fakes)
    assert fakes.engine.tried == [("\udc80", 5.0)]


@pytest.mark.parametrize(
    ("model", "wish"),
    [
        ({"role": Role.EMBED, "shape": a_shape(causal=False)}, {}),
        ({"role": Role.RERANK}, {}),
        ({}, {"embedding": True}),
    ],
)
def test_what_embeds_needs_no_chat_template(model: dict[str, Any], wish: dict[str, Any]) -> None:
    fakes = made(**model)
    fakes.settings = Settings(engine=EngineOptions(**wish))
    prepared, told = do(fakes)
    assert prepared.plan.settings.embedding
    assert fakes.engine.tried == []
    assert warnings(told) == []


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"context": 1000}, ["a: context 1,000 becomes 1,024: the engine works in whole steps"]),
        ({"context": 1024}, []),
        ({}, []),
        ({"embedding": True, "context": 1024, "batch": 64, "ubatch": 64}, [
            "a: batch 64 becomes 1,024: pooling needs the whole text in one batch",
            "a: ubatch 64 becomes 1,024: pooling needs the whole text in one batch",
        ]),
        ({"batch": 64}, []),
    ],
)  # fmt: skip
def test_whoever_gets_something_else_than_was_asked_for_is_told(wish: dict[str, Any], words: list[str]) -> None:
    fakes = made()
    fakes.settings = Settings(engine=EngineOptions(**wish))
    assert warnings(do(fakes)[1]) == words


@pytest.mark.parametrize(
    ("role", "words"),
    [(Role.PROJECTOR, "an image or audio encoder"), (Role.ADAPTER, "an adapter"), (Role.DRAFT, "a drafting head")],
)
def test_what_cannot_be_served_alone_is_refused_before_anything_is_tried(role: Role, words: str) -> None:
    fakes = made(role=role)
    with pytest.raises(RefusedError) as caught:
        do(fakes)
    assert caught.value.code == "not_servable"
    assert f"/m/a.gguf is {words}" in caught.value.message
    assert caught.value.hint.startswith("name the model")
    assert fakes.engine.tried == []


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    fakes = made()
    fakes.settings = Settings(engine=EngineOptions(context=9000))
    with pytest.raises(RefusedError) as caught:
        do(fakes)
    assert caught.value.code == "cannot_be_had", "and no memory would change that"
    assert "context 8,192 fits" in caught.value.hint
    fakes.prober.machine = a_machine(0)
    with pytest.raises(RefusedError, match="more than the 8,192 tokens"):
        do(fakes)
    fakes.settings = Settings()
    with pytest.raises(RefusedError) as caught:
        do(fakes)
    assert caught.value.code == "does_not_fit"


def test_a_vocabulary_that_would_abort_the_engine_is_refused() -> None:
    fakes = made()
    fakes.reader.bad_vocabulary = ReadError("token 7 is empty", path="/m/a.gguf")
    with pytest.raises(ReadError, match="token 7"):
        do(fakes)


@pytest.mark.parametrize(("template", "refusal"), [("{{ m }}", ""), (None, "it brings no chat template")])
def test_what_another_engine_reads_is_rendered_by_that_engine(template: str | None, refusal: str) -> None:
    """Nothing of llama.cpp is asked, and there is no ChatML to fall back to."""
    fakes = made(chat_template=template, format=Format.ONNX, tensors=(), stored=Stored(bytes=9, weights=9))
    fakes.others = (FakeEngine(Offer(name="onnx", id="onnx", make=Make.LIBRARY, reads=(Format.ONNX,))),)
    prepared, _ = do(fakes)
    assert prepared.chat_refusal == refusal
    assert prepared.engine is fakes.others[0]
    assert fakes.engine.tried == []


def test_what_keeps_a_model_from_gpus_is_told() -> None:
    fakes = made()
    build = FakeEngine(Offer(name="fake", id="b1-cuda", make=Make.PORTABLE, target="cuda"))
    build.seen = replace(build.offer, trouble="sees no GPU")
    fakes.others = (build,)
    prepared, told = do(fakes)
    assert prepared.engine is fakes.engine
    assert "a runs on fake: b1-cuda sees no GPU" in warnings(told)


def test_a_launch_on_a_gpu_names_it() -> None:
    fakes = made()
    build = FakeEngine(Offer(name="fake", id="b1-cuda", make=Make.PORTABLE, target="cuda"))
    build.seen = replace(build.offer, gpus=(a_gpu(),))
    fakes.others = (build,)
    prepared, _ = do(fakes)
    assert prepared.engine is build
    assert prepared.spec.settings.devices == ("CUDA0",)
    assert [gpu.device for gpu in prepared.machine.gpus] == ["CUDA0"]
