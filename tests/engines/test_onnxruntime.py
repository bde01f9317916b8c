"""ONNX Runtime GenAI behind our worker: what it is started with, what it lacks, and that what it reuses is right."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bercail.core.errors import EngineError
from bercail.core.launch import LaunchSpec
from bercail.engines import HttpUpstream, OnnxRuntime, OpenVino
from bercail.engines.onnxruntime.parameters import LACKS, Parameters
from bercail.engines.onnxruntime.worker import marks_in, sampling_of
from bercail.engines.question import Question
from engines.sockets import connections
from fakes.models import some_settings

SPEC = LaunchSpec(
    model_id="m", model_path="/m", weights_bytes=1,
    settings=some_settings(context_tokens=512, slots=2, ubatch_tokens=16, threads_batch=2),
)  # fmt: skip
real = pytest.mark.skipif(not OnnxRuntime().installed(), reason="onnxruntime-genai is not installed")


def test_every_setting_reaches_it() -> None:
    found = Parameters.of(SPEC, "/r/s.sock")
    assert (found.context_tokens, found.slots, found.step_tokens) == (256, 2, 16)
    assert found.overlay["model"]["decoder"]["session_options"]["intra_op_num_threads"] == 2
    assert Parameters.read(json.loads(json.dumps(found.document()))) == found


def test_it_declares_that_answers_take_turns() -> None:
    assert not OnnxRuntime().offer.batches
    assert OpenVino().offer.batches


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embedding": True}, "an embedding engine is not served"),
        ({"draft_tokens": 2}, "drafting is not served"),
        ({"kv_unified": True}, "one pool for all slots is not served"),
    ],
)
def test_what_it_has_not_is_told_before_it_starts(changes: dict[str, Any], words: str) -> None:
    spec = replace(SPEC, settings=some_settings(**changes))
    with pytest.raises(ValueError, match=words):
        Parameters.of(spec, "")
    if OnnxRuntime().installed():
        with pytest.raises(EngineError, match=words):
            asyncio.run(OnnxRuntime().start(spec, lambda _: None))


def test_a_generator_goes_on_only_where_the_answer_cannot_tell() -> None:
    plain = sampling_of(Question(temperature=0), 512)
    assert plain == sampling_of(Question(temperature=0, seed=3), 512)
    assert not plain.alone
    drawn = sampling_of(Question(temperature=1.0, top_k=0), 512)
    assert not drawn.alone
    assert dict(drawn.options) == {"do_sample": True, "temperature": 1.0, "top_p": 0.95, "top_k": 0}
    assert sampling_of(Question(temperature=1.0, seed=3), 512).alone
    whole = dict(sampling_of(Question(temperature=0, repeat_penalty=1.1, ignore_eos=True), 512).options)
    assert whole == {"do_sample": False, "repetition_penalty": 1.1, "min_length": 512}


def test_marks_of_a_model_are_known_by_its_tokenizer(tmp_path: Path) -> None:
    assert marks_in(tmp_path) == {}
    tokens = [{"id": 5, "content": "<s>", "special": True}, {"id": 6, "content": "x", "special": False}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    assert marks_in(tmp_path) == {5: "<s>"}
    (tmp_path / "tokenizer.json").write_text("[5]")
    assert marks_in(tmp_path) == {}


async def post(
    engine: Any, upstream: HttpUpstream, body: dict[str, Any], path: str = "/v1/completions"
) -> tuple[int, dict[str, Any]]:
    headers = [(b"content-type", b"application/json")]
    response = await upstream.send(engine.address, "POST", path, headers, json.dumps(body).encode())
    return response.status, json.loads(b"".join([piece async for piece in response.chunks()]))


@real
@pytest.mark.engine
@pytest.mark.shared
def test_what_is_reused_changes_no_answer_and_nobody_is_reached(shared: Path) -> None:
    """A prompt whose beginning was read before, by an answer that went on otherwise, is answered as by a new engine."""
    spec = replace(SPEC, model_path=str(shared / "models" / "onnx" / "onnx-stories260K"))
    begin = "Once upon a time, there was a little girl named Lily. She loved to play"
    asked: list[dict[str, Any]] = [
        {"prompt": begin, "max_tokens": 20, "temperature": 0},
        {"prompt": begin + " with her dog. One day,", "max_tokens": 20, "temperature": 0},
        {"prompt": begin, "max_tokens": 20, "temperature": 0},
    ]

    async def story(*, fresh: bool) -> list[tuple[str, int]]:
        found = []
        engine, upstream = await OnnxRuntime().start(spec, lambda _: None), HttpUpstream()
        try:
            for body in asked:
                status, answer = await post(engine, upstream, body)
                assert status == 200, answer
                found.append((answer["choices"][0]["text"], answer["timings"]["cache_n"]))
                if fresh:
                    await engine.stop(2)
                    engine = await OnnxRuntime().start(spec, lambda _: None)
            for name in LACKS:
                status, answer = await post(engine, upstream, {**asked[0], name: LACKING[name]})
                assert (status, name in answer["error"]["message"]) == (400, True)
            assert connections(engine.pid) == []
        finally:
            await upstream.close()
            await engine.stop(2)
        return found

    alone, together = asyncio.run(story(fresh=True)), asyncio.run(story(fresh=False))
    assert [text for text, _ in together] == [text for text, _ in alone]
    assert [count for _, count in alone] == [0, 0, 0]
    assert together[1][1] > 10
    assert together[2][1] > 10


@real
@pytest.mark.engine
@pytest.mark.shared
def test_marks_in_a_text_are_tokens_and_are_written_out_again(shared: Path) -> None:
    spec = replace(SPEC, model_path=str(shared / "models" / "onnx" / "onnx-stories260K"))

    async def story() -> None:
        engine, upstream = await OnnxRuntime().start(spec, lambda _: None), HttpUpstream()
        try:
            _, told = await post(engine, upstream, {"content": "<s>Once upon"}, "/tokenize")
            assert told["tokens"][0] == 1
            _, text = await post(engine, upstream, {"tokens": [*told["tokens"], 2]}, "/detokenize")
            assert text["content"].replace(" ", "") == "<s>Onceupon</s>"
        finally:
            await upstream.close()
            await engine.stop(2)

    asyncio.run(story())


@real
@pytest.mark.engine
@pytest.mark.shared
def test_a_request_that_breaks_a_generator_is_told_and_the_next_one_is_answered(shared: Path) -> None:
    """Its words lead to rows that this model has not."""
    spec = replace(SPEC, model_path=str(shared / "models" / "onnx" / "tiny-random-gpt2-fp32"))

    async def story() -> None:
        engine, upstream = await OnnxRuntime().start(spec, lambda _: None), HttpUpstream()
        try:
            status, answer = await post(engine, upstream, {"prompt": [5000, 6000], "max_tokens": 2})
            assert (status, answer["error"]["message"].startswith("the engine failed: ")) == (500, True)
            status, answer = await post(engine, upstream, {"prompt": [5, 6], "max_tokens": 2, "temperature": 0})
            assert (status, answer["usage"]["completion_tokens"]) == (200, 2)
        finally:
            await upstream.close()
            await engine.stop(2)

    asyncio.run(story())


LACKING: dict[str, Any] = {
    "logprobs": 1, "tools": [{"type": "function"}], "grammar": "root ::= x", "logit_bias": {"1": 1}, "n": 2,
    "min_p": 0.1, "presence_penalty": 0.5, "frequency_penalty": 0.5,
}  # fmt: skip


@real
@pytest.mark.engine
def test_a_folder_that_it_cannot_read_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text("{}")
    with pytest.raises(EngineError, match="m could not be loaded: ONNX Runtime cannot read it") as caught:
        asyncio.run(OnnxRuntime().start(replace(SPEC, model_path=str(tmp_path)), lambda _: None))
    assert caught.value.code == "unsupported_model"
    assert "genai_config.json" in caught.value.hint


def test_without_the_library_the_worker_says_so() -> None:
    code = (
        "import sys; sys.modules['onnxruntime_genai'] = None\n"
        "from bercail.engines.onnxruntime.worker import load; from bercail.engines.serving import live; live(load)"
    )
    said = json.dumps({"model_id": "m", "listen": "127.0.0.1"}) + "\n"
    done = subprocess.run([sys.executable, "-c", code], input=said, capture_output=True, text=True, timeout=240)
    assert done.returncode == 78
    assert "cannot be imported" in done.stderr
