"""The libraries that our workers host, called as their documentation does and with nothing around them.

A baseline: a process of its own holds the model, with the settings that the worker beside it has. A line of JSON on
standard input tells engine, model and settings; each line after that is prompts that come at once and the tokens to
make for each, and is answered by the seconds that took.
"""

import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from bercail.core.engine import EngineSettings
from bercail.core.launch import LaunchSpec
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.engines.llama_cpp.library import library_path
from bercail.engines.llama_cpp.oracle import FIELDS, LOG, ContextParameters, ModelParameters

Prompts = Sequence[Sequence[int]]
Calls = Callable[[Prompts, int], None]
"""Reads prompts and makes so many tokens for each, all at once."""


@contextmanager
def called_directly(engine: str, spec: LaunchSpec) -> Iterator[Callable[[Prompts, int], float]]:
    """Seconds that prompts and answers take in a process that does nothing else."""
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.library"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    stdin, stdout = child.stdin, child.stdout

    def tell(what: object) -> None:
        stdin.write(json.dumps(what) + "\n")
        stdin.flush()

    def ask(prompts: Prompts, count: int) -> float:
        tell([prompts, count])
        return float(stdout.readline())

    try:
        tell([engine, spec.model_path, asdict(spec.settings)])
        yield ask
    finally:
        child.terminate()
        child.wait()


def main() -> int:
    engine, path, settings = json.loads(sys.stdin.readline())
    for name in ("layer_split", "devices", "cores"):
        settings[name] = tuple(settings[name])
    spec = LaunchSpec(model_id="m", model_path=path, weights_bytes=1, settings=EngineSettings(**settings))
    answer = {"embedded": llama_cpp, "openvino": openvino, "onnxruntime": onnxruntime}[engine](spec)
    for line in sys.stdin:
        prompts, count = json.loads(line)
        begun = time.perf_counter()
        answer(prompts, count)
        print(time.perf_counter() - begun, flush=True)
    return 0


def openvino(spec: LaunchSpec) -> Calls:
    """With its continuous batching."""
    import numpy
    import openvino_genai as genai
    from openvino import Tensor

    from bercail.engines.openvino.parameters import Parameters

    given = Parameters.of(spec, "")
    scheduler: Any = genai.SchedulerConfig()
    scheduler.num_kv_blocks, scheduler.max_num_batched_tokens = given.blocks, given.batch_tokens
    scheduler.max_num_seqs, scheduler.enable_prefix_caching = given.slots, True
    pipeline = genai.ContinuousBatchingPipeline(given.model_path, scheduler, "CPU", dict(given.properties))
    config = genai.GenerationConfig()
    config.ignore_eos, config.do_sample = True, False

    def answer(prompts: Prompts, count: int) -> None:
        config.max_new_tokens = count
        handles = [
            pipeline.add_request(number, Tensor(numpy.array([prompt], dtype=numpy.int64)), config)
            for number, prompt in enumerate(prompts)
        ]
        made = [0] * len(handles)
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for number, handle in enumerate(handles):
                while handle.can_read():
                    handle.read()
                    made[number] += 1
        assert set(made) == {count}, made

    return answer


def onnxruntime(spec: LaunchSpec) -> Calls:
    """With a generator for each answer, one after the other."""
    import onnxruntime_genai as genai

    from bercail.engines.onnxruntime.parameters import Parameters

    given = Parameters.of(spec, "")
    config = genai.Config(given.model_path)
    config.overlay(json.dumps(given.overlay))
    model = genai.Model(config)

    def answer(prompts: Prompts, count: int) -> None:
        for prompt in prompts:
            options = genai.GeneratorParams(model)
            options.set_search_options(
                max_length=given.context_tokens, min_length=given.context_tokens, do_sample=False
            )
            generator = genai.Generator(model, options)
            generator.append_tokens(prompt)
            for _ in range(count):
                generator.generate_next_token()
                generator.get_next_tokens()

    return answer


class Batch(ctypes.Structure):
    """`llama_batch`."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8)),
    )  # fmt: skip


Row = tuple[int, int, int, bool]
"""Token, position, sequence, and whether the next one is to be told."""


def llama_cpp(spec: LaunchSpec) -> Calls:
    """As `llama-batched-bench` does: prompts in full batches, then a token of each sequence at a step; none sampled."""
    llama, settings = _loaded(), spec.settings
    model_given = llama.llama_model_default_params()
    model_given.n_gpu_layers, model_given.use_extra_bufts = 0, settings.repack
    model = llama.llama_model_load_from_file(spec.model_path.encode(), model_given)
    assert model, spec.model_path
    given = llama.llama_context_default_params()
    for ours, theirs in FIELDS.items():
        setattr(given, theirs, getattr(settings, ours))
    given.type_k = TENSOR_TYPES_BY_NAME[settings.kv_type_k].id
    given.type_v = TENSOR_TYPES_BY_NAME[settings.kv_type_v].id
    given.flash_attn_type, given.n_outputs_max = int(settings.flash_attention), settings.slots
    given.n_threads, given.n_threads_batch = settings.threads, settings.threads_batch
    context = llama.llama_init_from_model(model, given)
    assert context
    batch = llama.llama_batch_init(settings.batch_tokens, 0, 1)

    def decode(rows: Sequence[Row]) -> None:
        for begin in range(0, len(rows), settings.batch_tokens):
            part = rows[begin : begin + settings.batch_tokens]
            batch.n_tokens = len(part)
            for place, (token, position, sequence, told) in enumerate(part):
                batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, position, 1
                batch.seq_id[place][0], batch.logits[place] = sequence, told
            failure = llama.llama_decode(context, batch)
            assert failure == 0, failure
        llama.llama_synchronize(context)

    def answer(prompts: Prompts, count: int) -> None:
        llama.llama_memory_clear(llama.llama_get_memory(context), 0)
        decode([
            (token, place, number, place == len(prompt) - 1)
            for number, prompt in enumerate(prompts) for place, token in enumerate(prompt)
        ])  # fmt: skip
        for turn in range(count):
            decode(
                [
                    (prompt[turn % len(prompt)], len(prompt) + turn, number, True)
                    for number, prompt in enumerate(prompts)
                ]
            )

    return answer


def _loaded() -> ctypes.CDLL:
    """The library of the engine in the box, with the types of what is called; it says nothing."""
    llama = ctypes.CDLL(str(library_path()))
    llama.llama_model_default_params.restype = ModelParameters
    llama.llama_context_default_params.restype = ContextParameters
    for name, given, found in _TYPES:
        function = getattr(llama, name)  # by name in brackets it would be another object each time
        function.argtypes, function.restype = given, found
    llama.llama_log_set(_QUIET, None)
    return llama


_TYPES: Sequence[tuple[str, Sequence[Any], Any]] = (
    ("llama_model_load_from_file", [ctypes.c_char_p, ModelParameters], ctypes.c_void_p),
    ("llama_init_from_model", [ctypes.c_void_p, ContextParameters], ctypes.c_void_p),
    ("llama_batch_init", [ctypes.c_int32, ctypes.c_int32, ctypes.c_int32], Batch),
    ("llama_get_memory", [ctypes.c_void_p], ctypes.c_void_p),
    ("llama_memory_clear", [ctypes.c_void_p, ctypes.c_bool], None),
    ("llama_decode", [ctypes.c_void_p, Batch], ctypes.c_int32),
    ("llama_synchronize", [ctypes.c_void_p], None),
)
"""Functions, what they are given, what they give."""
_QUIET = LOG(lambda *_: None)
"""The library calls it back for as long as it lives."""

if __name__ == "__main__":
    sys.exit(main())
