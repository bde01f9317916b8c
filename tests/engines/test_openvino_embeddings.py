"""Encoders in OpenVINO's own format behind our worker: vectors as numpy computes them, nothing cut, nobody reached."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bercail.core.launch import LaunchSpec
from bercail.core.model import Pooling
from bercail.engines import HttpUpstream, OpenVino
from bercail.ports import EngineProcess
from engines.encoder_ir import a_small_encoder, vector_of
from engines.sockets import connections
from fakes.models import some_settings

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not OpenVino().installed(), reason="openvino-genai is not installed (extra openvino)"),
]
TEXTS = {
    "the cats sat unabs.": [2, 8, 9, 12, 11, 1, 15, 3],
    "a": [2, 4, 3],
    "The dog sat. The cat sat.": [2, 8, 10, 11, 15, 8, 9, 11, 15, 3],
    "a b c d a b c d": [2, 4, 5, 6, 7, 4, 5, 6, 7, 3],
}
"""Texts and their tokens, by the vocabulary of word pieces."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_small_encoder(tmp_path_factory.mktemp("encoder"))


@asynccontextmanager
async def running(folder: Path, pooling: str = "mean") -> AsyncIterator[tuple[EngineProcess, HttpUpstream]]:
    settings = some_settings(
        context_tokens=64, batch_tokens=64, ubatch_tokens=64, embedding=True, pooling=Pooling(pooling), threads_batch=1
    )
    spec = LaunchSpec(model_id="m", model_path=str(folder), weights_bytes=1, settings=settings)
    process, upstream = await OpenVino().start(spec, lambda _: None), HttpUpstream()
    try:
        yield process, upstream
    finally:
        await upstream.close()
        await process.stop(2)


async def post(process: EngineProcess, upstream: HttpUpstream, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    headers = [(b"content-type", b"application/json")]
    response = await upstream.send(process.address, "POST", "/v1/embeddings", headers, json.dumps(body).encode())
    return response.status, json.loads(b"".join([piece async for piece in response.chunks()]))


async def vectors(process: EngineProcess, upstream: HttpUpstream, texts: Sequence[str], **more: object) -> list[Any]:
    status, found = await post(process, upstream, {"input": list(texts), **more})
    assert status == 200, found
    return [row["embedding"] for row in found["data"]]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_vectors_are_those_that_numpy_computes(folder: Path, pooling: str) -> None:
    """Of texts of many lengths in one batch, unscaled; and it reaches nobody."""

    async def story() -> list[Any]:
        async with running(folder, pooling) as (process, upstream):
            found = await vectors(process, upstream, list(TEXTS), embd_normalize=-1)
            assert connections(process.pid) == []
            return found

    for vector, ids in zip(asyncio.run(story()), TEXTS.values(), strict=True):
        assert vector == pytest.approx(list(vector_of(ids, pooling)), abs=1e-5)


def test_tokens_are_counted_to_the_last_and_too_many_are_refused(folder: Path) -> None:
    async def story() -> None:
        async with running(folder) as (process, upstream):
            _, found = await post(process, upstream, {"input": list(TEXTS)})
            assert found["usage"]["prompt_tokens"] == sum(map(len, TEXTS.values()))
            status, full = await post(process, upstream, {"input": "a " * 62})
            assert (status, full["usage"]["prompt_tokens"]) == (200, 64)
            status, refused = await post(process, upstream, {"input": ["a", "a " * 63]})
            assert status == 400
            assert refused["error"]["message"].startswith("input 1: request (65 tokens) exceeds")

    asyncio.run(story())


def test_a_tokenizer_that_cuts_is_found_out(tmp_path: Path) -> None:
    """What it may have cut is refused, for nobody can tell."""
    folder = a_small_encoder(tmp_path, cuts=True)

    async def story() -> None:
        async with running(folder) as (process, upstream):
            status, full = await post(process, upstream, {"input": "a " * 61})
            assert (status, full["usage"]["prompt_tokens"]) == (200, 63)
            status, refused = await post(process, upstream, {"input": "a " * 100})
            assert (status, refused["error"]["n_ctx"]) == (400, 63)
            end = await process.stop(2)
            assert any("its tokenizer cuts texts at 64 tokens" in line for line in end.log_tail)

    asyncio.run(story())


def test_many_at_once_get_what_each_alone_would(folder: Path) -> None:
    async def story() -> None:
        async with running(folder) as (process, upstream):
            alone = [(await vectors(process, upstream, [text]))[0] for text in TEXTS]
            found = await asyncio.gather(*(vectors(process, upstream, [text] * 9) for text in TEXTS))
            for one, many in zip(alone, found, strict=True):
                assert len(many) == 9
                for vector in many:
                    assert vector == pytest.approx(one, abs=1e-5)

    asyncio.run(story())


def test_a_long_list_keeps_no_short_one_waiting_and_ends_when_its_client_leaves(folder: Path) -> None:
    async def story() -> None:
        async with running(folder) as (process, upstream):
            body = json.dumps({"input": ["a b c d " * 15] * 20_000}).encode()
            headers = [(b"content-type", b"application/json")]
            long = asyncio.create_task(upstream.send(process.address, "POST", "/v1/embeddings", headers, body))
            await vectors(process, upstream, ["a"])
            assert len(await vectors(process, upstream, ["a"] * 20)) == 20
            assert not long.done()
            long.cancel()
            await asyncio.gather(long, return_exceptions=True)
            assert len(await vectors(process, upstream, ["a"])) == 1

    asyncio.run(story())
