"""From the engine's words to values; the logs were recorded from b11549."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.launch import Landed, Progress
from bercail.core.units import MIB
from bercail.engines.failure import telling_lines
from bercail.engines.llama_cpp import output
from bercail.engines.llama_cpp.output import diagnose, parse_landing
from bercail.engines.words import Ready, Said, parse_line, render_listening, render_progress

STATE = "cmd_child_to_router:state:"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            STATE + '{"state":"loading","payload":{"stages":["text_model"],"current":"text_model","value":0.5}}',
            Progress(stage="weights", fraction=0.5),
        ),
        (
            STATE + '{"state":"loading","payload":{"current":"mmproj_model","value":1.0000001}}',
            Progress(stage="projector", fraction=1.0),
        ),
        (STATE + '{"state":"loading","payload":{"stage":"mmproj_model"}}', None),
        (STATE + '{"state":"ready","payload":{}}', Ready()),
        (STATE + '{"state":"sleeping","payload":{}}', None),
        (STATE + "not json", None),
        (STATE + "[1]", None),
        ("something else", None),
        (render_progress("weights", 0.25), Progress(stage="weights", fraction=0.25)),
        (render_listening("unix:///tmp/a.sock"), Ready(address="unix:///tmp/a.sock")),
    ],
)
def test_lines_of_the_worker(line: str, expected: Said) -> None:
    assert parse_line(line) == expected


@pytest.mark.parametrize(
    ("line", "landed"),
    [
        (
            "0.00.674.043 I load_tensors:   CPU_Mapped model buffer size =   762.81 MiB",
            Landed(place="CPU_Mapped", part="weights", bytes=round(762.81 * MIB)),
        ),
        (
            "0.02.098.620 I llama_kv_cache:        CPU KV buffer size =   512.00 MiB",
            Landed(place="CPU", part="KV cache", bytes=512 * MIB),
        ),
        (
            "0.1 I llama_memory_recurrent:      CUDA0 RS buffer size =     1.50 MiB",
            Landed(place="CUDA0", part="recurrent state", bytes=3 * MIB // 2),
        ),
        (
            "0.02.098.291 I llama_context:  CUDA_Host  output buffer size =     1.00 MiB",
            Landed(place="CUDA_Host", part="output", bytes=MIB),
        ),
        (
            "0.02.999.222 I sched_reserve:        CPU compute buffer size =    19.00 MiB",
            Landed(place="CPU", part="compute", bytes=19 * MIB),
        ),
        ("0.1 I llama_kv_cache: size =  512.00 MiB (  8192 cells,  16 layers,  2/2 seqs)", None),
        ("0.1 I alloc_compute_meta:        CPU compute buffer size =    19.00 MiB", None),  # of a projector
        ("something else", None),
    ],
)
def test_lines_of_a_load(line: str, landed: Landed | None) -> None:
    assert parse_landing(line) == landed


@given(st.text())
def test_no_line_is_too_strange(text: str) -> None:
    assert parse_line("plain " + text) is None
    assert isinstance(parse_line(STATE + text), Progress | Ready | None)


FAILED_MAGIC = (
    "0.00.006.288 I srv    load_model: loading model '/m.gguf'",
    "0.00.006.315 E gguf_init_from_reader: failed to read magic",
    "0.00.006.445 E llama_model_load: error loading model: llama_model_loader: failed to load model from /m.gguf",
    "0.00.006.452 E llama_model_load_from_file_impl: failed to load model",
    "0.00.006.456 E srv    load_model: failed to load model, '/m.gguf'",
    "0.00.006.458 I srv    operator(): operator(): cleaning up before exit...",
    "0.00.006.824 E srv          init: exiting due to model loading error",
    "Failed to init server, please check the input params.",
)


def test_telling_lines_leave_out_noise_and_stamps() -> None:
    assert telling_lines(FAILED_MAGIC) == (
        "gguf_init_from_reader: failed to read magic",
        "llama_model_load: error loading model: llama_model_loader: failed to load model from /m.gguf",
        "llama_model_load_from_file_impl: failed to load model",
        "srv    load_model: failed to load model, '/m.gguf'",
    )


@pytest.mark.parametrize(
    ("log", "exit_code", "code", "words"),
    [
        (FAILED_MAGIC, 1, "damaged_model", "cannot read it as GGUF"),
        (
            ("E llama_model_load: error loading model: unknown model architecture: 'frob'",),
            1, "unknown_architecture", "'frob'",
        ),
        (
            ("E llama_model_load: error loading model: missing tensor 'blk.0.attn_q.weight'",),
            1, "damaged_model", "blk.0.attn_q.weight",
        ),
        (
            ("E llama_model_load: error loading model: key not found in model: llama.block_count",),
            1, "damaged_model", "llama.block_count",
        ),
        (
            ("E alloc_tensor_range: failed to allocate CPU buffer of size 99", "E error loading model: x"),
            1, "out_of_memory", "not enough memory",
        ),
        (("terminate called after throwing an instance of 'std::bad_alloc'",), -6, "out_of_memory", "memory"),
        (("/x/ggml.c:1: GGML_ASSERT(n_vocab > 0) failed",), -6, "engine_assert", "n_vocab > 0"),
        (
            ("E error loading model: something quite new",),
            1, "unloadable_model", "something quite new",
        ),
        (
            ("E llama_model_load: error loading model: check_tensor_dims: tensor 'blk.5.attn_norm.weight' not found",),
            1, "damaged_model", "blk.5.attn_norm.weight is missing",
        ),
        (
            (
                "0.00.1 E gguf_init_from_reader: key 'x' has invalid GGUF type 13",
                "0.00.1 E llama_model_load: error loading model: llama_model_loader: failed to load model from /m",
            ),
            1, "damaged_model", "key 'x' has invalid GGUF type 13",
        ),
        (
            (
                "0.00.1 E srv  init: init: chat template parsing error: ",
                "Error: Jinja Exception: no system role",
            ),
            1, "chat_template", "no system role",
        ),
        (("E srv  load_model: draft model vocab type must match target model",), 1, "draft_model", "tokens"),
        ((), -9, "out_of_memory", "killed"),
        ((), -4, "engine_instructions", "AVX2"),
        ((), -11, "engine_failed", "SIGSEGV"),
        ((), -64, "engine_failed", "signal 64"),
        (("I all is well",), 3, "engine_failed", "status 3"),
        (("0.00.001.000 E something broke",), None, "engine_failed", "something broke"),
    ],
)  # fmt: skip
def test_diagnosis(log: tuple[str, ...], exit_code: int | None, code: str, words: str) -> None:
    found = diagnose(log, exit_code)
    assert (found.code, words in found.sentence) == (code, True), found
    assert found.hint
    assert not found.sentence.endswith(".")


@given(st.lists(st.text()), st.none() | st.integers(-64, 255))
def test_every_failure_gets_a_sentence(log: list[str], exit_code: int | None) -> None:
    assert diagnose(log, exit_code).sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("While executing\n...\n     ^\nError: Jinja Exception: no system role\n", "no system role"),
        ("Error: Callee is not a function: got Undefined", "Callee is not a function: got Undefined"),
        ("0.1 E srv  init: init: chat template parsing error: std::exception", "std::exception"),
        ("nothing", ""),
    ],
)
def test_template_complaint(text: str, expected: str) -> None:
    assert output.template_complaint(text) == expected
