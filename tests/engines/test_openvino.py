"""OpenVINO GenAI behind our worker: what it is started with, what it lacks, and that it reaches nobody."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bercail.core.errors import EngineError
from bercail.core.launch import LaunchSpec
from bercail.core.model import Format, Pooling
from bercail.demo import demo_path
from bercail.engines import HttpUpstream, OpenVino
from bercail.engines.llama_cpp.tiny import write_llama
from bercail.engines.openvino.parameters import Parameters
from bercail.engines.openvino.stepping import stepper
from bercail.engines.openvino.worker import Library, Pool
from bercail.engines.question import Question
from bercail.ports import EngineProcess
from bercail.readers import Readers
from engines.sockets import connections
from fakes.hearer import Hearer
from fakes.models import some_settings

SPEC = LaunchSpec(model_id="m", model_path=str(demo_path()), weights_bytes=1, settings=some_settings(slots=2))


def test_every_setting_reaches_it() -> None:
    found = Parameters.of(SPEC, "/r/s.sock")
    assert (found.context_tokens, found.slots, found.batch_tokens) == (2048, 2, 512)
    assert found.blocks == 4096 // 32 + 2
    assert found.properties["KV_CACHE_PRECISION"] == "f16"
    assert found.properties["INFERENCE_NUM_THREADS"] == 4
    assert Parameters.read(json.loads(json.dumps(found.document()))) == found
    small = Parameters.of(replace(SPEC, settings=some_settings(kv_type_k="q8_0", kv_type_v="q8_0")), "")
    assert small.properties["KV_CACHE_PRECISION"] == "u8"
    assert small.properties["INFERENCE_PRECISION_HINT"] == "f32"
    short = Parameters.of(replace(SPEC, settings=some_settings(precision="bf16")), "")
    assert short.properties["INFERENCE_PRECISION_HINT"] == "bf16"


def test_what_embeds_has_no_cache_and_one_precision_on_every_processor() -> None:
    settings = some_settings(embedding=True, pooling=Pooling.CLS, batch_tokens=8192, ubatch_tokens=8192)
    found = Parameters.of(replace(SPEC, model_path="/m/bge", settings=settings), "")
    assert (found.pooling, found.blocks, found.batch_tokens) == ("cls", 0, 1024)
    assert found.properties["INFERENCE_PRECISION_HINT"] == "f32"
    assert "KV_CACHE_PRECISION" not in found.properties
    with pytest.raises(ValueError, match="pools by mean, cls, last, not as nobody says: name one with --pooling"):
        Parameters.of(replace(SPEC, model_path="/m/bge", settings=some_settings(embedding=True)), "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kv_type_k": "q8_0"}, "must be equal"),
        ({"kv_type_k": "q5_1", "kv_type_v": "q5_1"}, "has no q5_1 cache; it has f32, f16"),
        ({"embedding": True}, "embeds with folders of its own format"),
        ({"draft_tokens": 2}, "drafting is not served"),
    ],
)
def test_what_it_has_not_is_told_before_it_starts(changes: dict[str, Any], words: str) -> None:
    spec = replace(SPEC, settings=some_settings(**changes))
    with pytest.raises(ValueError, match=words):
        Parameters.of(spec, "")
    if OpenVino().installed():
        with pytest.raises(EngineError, match=words):
            asyncio.run(OpenVino().start(spec, lambda _: None))


def test_what_lies_in_the_cache_is_told_as_long_as_it_is_certain() -> None:
    pool = Pool(room=100)
    pool.add(list(range(41)))
    assert pool.shared([*range(40), 999]) == 32  # whole blocks of 32
    assert pool.shared(range(32)) == 0  # the last token of a prompt is always computed
    pool.add([7] * 34)
    assert pool.shared([7] * 64) == 32
    pool.add([8] * 60)  # now something was thrown out, and nobody says what
    assert (pool.shared(range(41)), pool.kept) == (0, [])
    pool.add(list(range(41)))
    assert pool.kept == []


real = pytest.mark.skipif(not OpenVino().installed(), reason="openvino-genai is not installed (extra openvino)")


async def post(process: EngineProcess, upstream: HttpUpstream, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json")]
    response = await upstream.send(process.address, "POST", path, headers, json.dumps(body).encode())
    found: dict[str, Any] = json.loads(b"".join([piece async for piece in response.chunks()]))
    return found


@real
@pytest.mark.engine
def test_it_chats_keeps_to_a_schema_reuses_what_it_read_and_reaches_nobody() -> None:
    chat = {"messages": [{"role": "user", "content": "What is a KV cache?"}], "temperature": 0, "max_tokens": 60}
    whole = {"a": {"type": "integer"}}
    schema = {"type": "object", "properties": whole, "required": ["a"], "additionalProperties": False}

    async def story() -> None:
        process, upstream = await OpenVino().start(SPEC, lambda _: None), HttpUpstream()
        try:
            first = await post(process, upstream, "/v1/chat/completions", chat)
            assert "keys and values" in first["choices"][0]["message"]["content"]
            again = await post(process, upstream, "/v1/chat/completions", chat)
            assert again["choices"] == first["choices"]
            long = {"prompt": list(range(300, 400)), "max_tokens": 2, "temperature": 0}
            assert (await post(process, upstream, "/v1/completions", long))["timings"]["cache_n"] == 0
            assert (await post(process, upstream, "/v1/completions", long))["timings"]["cache_n"] == 96
            form = {"type": "json_schema", "json_schema": {"schema": schema}}
            shaped = await post(
                process, upstream, "/v1/chat/completions", {**chat, "response_format": form, "max_tokens": 40}
            )
            text = shaped["choices"][0]["message"]["content"]
            assert text.lstrip().startswith("{")
            marked = "<|im_start|>user"
            tokens = (await post(process, upstream, "/tokenize", {"content": marked}))["tokens"]
            assert tokens[0] not in (await post(process, upstream, "/tokenize", {"content": "user"}))["tokens"]
            assert (await post(process, upstream, "/detokenize", {"tokens": tokens}))["content"] == marked
            assert connections(process.pid) == []
        finally:
            await upstream.close()
            await process.stop(2)

    asyncio.run(story())


def write_ir(folder: Path) -> None:
    """The demo in OpenVINO's own format, written by OpenVINO, with the papers that an export has beside it."""
    path = folder / "demo.gguf"
    shutil.copy(str(demo_path()), path)
    code = (
        "import sys, openvino_genai as genai; save = {'enable_save_ov_model': True}; path = sys.argv[1]\n"
        "genai.ContinuousBatchingPipeline(path, genai.SchedulerConfig(), 'CPU', save); genai.Tokenizer(path, save)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(path)], check=True, timeout=120)
    path.unlink()
    model = Readers({}, folder, folder).read(str(demo_path()))
    config = {
        "model_type": "llama", "hidden_size": model.shape.embedding, "num_hidden_layers": model.shape.layers,
        "num_attention_heads": model.shape.heads[0], "num_key_value_heads": model.shape.kv_heads[0],
        "intermediate_size": model.shape.feed_forward[0], "vocab_size": model.shape.vocabulary,
        "max_position_embeddings": model.context_length,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(model.chat_template or "")


@real
@pytest.mark.engine
def test_a_folder_of_its_own_format_answers_as_the_gguf_file_does(tmp_path: Path) -> None:
    """And it is read as what it is: as many weights, within the packing of its own."""
    write_ir(tmp_path)
    model = Readers({}, tmp_path, tmp_path).read(str(tmp_path))
    original = Readers({}, tmp_path, tmp_path).read(str(demo_path()))
    assert model.format is Format.OPENVINO
    assert 0.9 < model.parameter_count / original.parameter_count < 1.1
    chat = {"messages": [{"role": "user", "content": "What is a KV cache?"}], "temperature": 0, "max_tokens": 40}

    async def story(path: str) -> str:
        engine = await OpenVino().start(replace(SPEC, model_path=path), lambda _: None)
        upstream = HttpUpstream()
        try:
            answer = await post(engine, upstream, "/v1/chat/completions", chat)
            return str(answer["choices"][0]["message"]["content"])
        finally:
            await upstream.close()
            await engine.stop(2)

    exported = asyncio.run(story(str(tmp_path)))
    assert "keys and values" in exported
    assert exported == asyncio.run(story(str(demo_path())))


@real
@pytest.mark.engine
def test_a_file_that_its_reader_does_not_take_is_told_with_what_to_do(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf")
    spec = replace(SPEC, model_path=str(tmp_path / "tiny.gguf"))
    with pytest.raises(EngineError, match="m could not be loaded: OpenVINO") as caught:
        asyncio.run(OpenVino().start(spec, lambda _: None))
    assert caught.value.code == "unsupported_model"
    assert "take --engine embedded" in caught.value.hint


@real
def test_its_telemetry_cannot_be_imported() -> None:
    code = (
        "from bercail.engines.openvino.worker import without_telemetry; without_telemetry(); import openvino_genai\n"
        "try: import openvino_telemetry\nexcept ImportError: print('cannot')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == "cannot\n"


def test_another_version_is_stepped_by_its_own_method_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    pipeline = SimpleNamespace(step=lambda: None)
    assert stepper(SimpleNamespace(__version__="2031.1.0"), pipeline) is pipeline.step
    assert "requests wait to be read" in capfd.readouterr().err


@pytest.mark.engine
def test_requests_are_read_while_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of Python goes on during a step that takes long: it would else stand still from its begin to its end."""
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)
    genai = pytest.importorskip("openvino_genai", reason="openvino-genai is not installed (extra openvino)")
    settings = some_settings(context_tokens=2048, batch_tokens=2048, ubatch_tokens=2048, threads=1, threads_batch=1)
    library = Library(genai, Parameters.of(replace(SPEC, settings=settings), ""))
    step, steps_s, gaps_s = library._step_once, [0.0], [0.0]

    def watched() -> None:
        begun_s = time.perf_counter()
        step()
        steps_s.append(time.perf_counter() - begun_s)

    library._step_once = watched

    def goes_on(first: int) -> bool:
        hearer = Hearer()
        steps_s[:], gaps_s[:] = [0.0], [0.0]
        library.begin([first, 6, 7] * 600, 2, Question(prompt="a", ignore_eos=True), hearer)
        last_s = time.perf_counter()
        over = threading.Thread(target=hearer.whole)
        over.start()
        while over.is_alive():
            time.sleep(0.001)
            now_s = time.perf_counter()
            gaps_s.append(now_s - last_s)
            last_s = now_s
        return max(gaps_s) < max(steps_s) / 2

    # A busy machine may keep any thread from running for a while; one that a step holds up never passes.
    assert any(goes_on(first) for first in range(10, 15))
