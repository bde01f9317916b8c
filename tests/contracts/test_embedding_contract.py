"""What every engine promises that was started to embed: one suite, run against each that can."""

import asyncio
import base64
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bercail.core.model import Pooling
from bercail.engines import FakeEngine, LlamaCpp, OpenVino
from bercail.engines.llama_cpp.tiny import write_llama
from contracts.test_engine_contract import SETTINGS, Bench, a_host, ask, kill_child, kill_fake
from engines.encoder_ir import a_small_encoder

TO_EMBED = replace(
    SETTINGS, embedding=True, pooling=Pooling.MEAN, context_tokens=128, batch_tokens=64, ubatch_tokens=64
)

IN_ONE_POOL = replace(TO_EMBED, kv_unified=True, context_tokens=64)
"""As a plan has it for llama.cpp, which pools texts in part where each slot has a cache of its own."""


@pytest.fixture(
    params=[
        "fake",
        pytest.param("llama.cpp", marks=pytest.mark.engine),
        pytest.param("llama-server", marks=pytest.mark.engine),
        pytest.param("openvino", marks=pytest.mark.engine),
    ]
)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    model, runtime = tmp_path / "tiny.gguf", tmp_path / "r"
    runtime.mkdir()
    write_llama(model)
    if request.param == "fake":
        return Bench(FakeEngine(runtime_dir=runtime), tmp_path, runtime, model, kill_fake, settings=TO_EMBED)
    if request.param == "openvino":
        if not OpenVino().installed():
            pytest.skip("openvino-genai is not installed (extra openvino)")
        folder = a_small_encoder(tmp_path / "encoder")
        return Bench(OpenVino(runtime_dir=runtime), tmp_path, runtime, folder, kill_child, settings=TO_EMBED)
    engine = LlamaCpp(a_host(request.param), runtime_dir=runtime)
    return Bench(engine, tmp_path, runtime, model, kill_child, settings=IN_ONE_POOL)


def answered(bench: Bench, *bodies: dict[str, object]) -> list[tuple[int, dict[str, Any]]]:
    """Status and answer of each request, all of them at once."""

    async def story() -> list[tuple[int, dict[str, Any]]]:
        async with bench.running() as (process, upstream):
            found = await asyncio.gather(*(ask(upstream, process, "POST", "/v1/embeddings", body) for body in bodies))
            return [(status, json.loads(answer)) for status, answer in found]

    return asyncio.run(story())


def rows(answer: tuple[int, dict[str, Any]]) -> list[Any]:
    status, body = answer
    assert status == 200, body
    assert [row["index"] for row in body["data"]] == list(range(len(body["data"])))
    return [row["embedding"] for row in body["data"]]


def test_a_text_has_the_same_vector_alone_in_a_list_and_among_others(bench: Bench) -> None:
    texts = ["the cat sat.", "a", "the dog sat on a b c d"]
    inputs: list[object] = [texts, *texts]
    together, *alone = answered(bench, *[{"input": given} for given in inputs])
    vectors = rows(together)
    assert len(vectors) == 3
    assert vectors[0] != pytest.approx(vectors[1], abs=1e-2)
    for vector, one in zip(vectors, alone, strict=True):
        (found,) = rows(one)
        assert found == pytest.approx(vector, abs=1e-4)


def test_tokens_of_a_list_are_those_of_its_texts(bench: Bench) -> None:
    both, *each = answered(bench, {"input": ["a b c", "the cat"]}, {"input": "a b c"}, {"input": "the cat"})
    counts = [body["usage"]["prompt_tokens"] for _, body in each]
    assert both[1]["usage"]["prompt_tokens"] == both[1]["usage"]["total_tokens"] == sum(counts)
    assert min(counts) > 0


def test_base64_holds_the_same_numbers(bench: Bench) -> None:
    plain, packed = answered(bench, {"input": "the cat"}, {"input": "the cat", "encoding_format": "base64"})
    (vector,), (text,) = rows(plain), rows(packed)
    assert struct.unpack(f"<{len(vector)}f", base64.b64decode(text)) == pytest.approx(vector, abs=1e-4)


def test_a_text_that_is_too_long_is_refused_with_both_numbers(bench: Bench) -> None:
    """And those beside it, in other requests, are not."""
    refused, fine = answered(bench, {"input": "a b c d " * 40}, {"input": "a b c d"})
    status, body = refused
    assert status in (400, 500)
    assert "64" in body["error"]["message"]
    assert "tokens)" in body["error"]["message"]
    assert len(rows(fine)) == 1


def test_a_request_without_texts_is_refused(bench: Bench) -> None:
    ((status, body),) = answered(bench, {"input": [{}]})
    assert status == 400
    assert body["error"]["message"]
