"""The child that asks llama.cpp what a model would take, on a header alone: `python -m ...oracle MODEL [DRAFTING]`.

The library loads the model without its tensors (`no_alloc`), makes a context without allocating it, and logs the size
of every buffer, to a hundredth of a MiB. Each line of standard input is one set of settings as JSON, each line of
standard output the answer. It runs in a process of its own, because some settings make the library abort.

Only plain C functions of the library are called, by `ctypes`: the structures below are those of `llama.h` of b11549,
and another build is refused.
"""

import ctypes
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.engines.leash import tie_to_parent
from bercail.engines.llama_cpp.flags import RELEASE
from bercail.engines.llama_cpp.library import library_path
from bercail.engines.llama_cpp.output import memory_account
from bercail.engines.llama_cpp.worker import FAREWELL


class ModelParameters(ctypes.Structure):
    """`llama_model_params`."""

    _fields_ = (
        ("devices", ctypes.c_void_p), ("tensor_buft_overrides", ctypes.c_void_p), ("n_gpu_layers", ctypes.c_int32),
        ("split_mode", ctypes.c_int), ("load_mode", ctypes.c_int), ("lazy_mode", ctypes.c_int),
        ("main_gpu", ctypes.c_int32), ("tensor_split", ctypes.c_void_p), ("progress_callback", ctypes.c_void_p),
        ("progress_callback_user_data", ctypes.c_void_p), ("kv_overrides", ctypes.c_void_p),
        ("vocab_only", ctypes.c_bool), ("check_tensors", ctypes.c_bool), ("use_extra_bufts", ctypes.c_bool),
        ("no_host", ctypes.c_bool), ("no_alloc", ctypes.c_bool), ("load_mtp", ctypes.c_bool),
    )  # fmt: skip


class ContextParameters(ctypes.Structure):
    """`llama_context_params`."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq",
                                               "n_outputs_max", "n_outputs_max_per_seq")),
        ("n_threads", ctypes.c_int32), ("n_threads_batch", ctypes.c_int32),
        *((name, ctypes.c_int) for name in ("ctx_type", "rope_scaling_type", "pooling_type", "attention_type",
                                            "flash_attn_type")),
        *((name, ctypes.c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor",
                                              "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow")),
        ("yarn_orig_ctx", ctypes.c_uint32), ("defrag_thold", ctypes.c_float), ("cb_eval", ctypes.c_void_p),
        ("cb_eval_user_data", ctypes.c_void_p), ("type_k", ctypes.c_int), ("type_v", ctypes.c_int),
        ("moe_cache_size", ctypes.c_size_t), ("abort_callback", ctypes.c_void_p),
        ("abort_callback_data", ctypes.c_void_p),
        *((name, ctypes.c_bool) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full",
                                             "kv_unified")),
        ("samplers", ctypes.c_void_p), ("n_samplers", ctypes.c_size_t), ("ctx_other", ctypes.c_void_p),
    )  # fmt: skip


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class Library:
    """The functions of llama.cpp that are needed here, and what they log.

    Raises:
        SystemExit: the library is not there, or of another build.
    """

    def __init__(self) -> None:
        try:
            path = library_path()
        except FileNotFoundError as error:
            raise SystemExit(str(error)) from error
        if (release := version("xllamacpp")) != RELEASE:
            raise SystemExit(f"xllamacpp is {release}; the structures of llama.cpp are known for {RELEASE} only")
        self.said: list[str] = []
        self._llama = ctypes.CDLL(str(path))
        self._log = LOG(lambda _level, text, _data: self.said.append(text.decode(errors="replace")))
        self._llama.llama_log_set.argtypes = [LOG, ctypes.c_void_p]
        self._llama.llama_log_set(self._log, None)
        self._llama.llama_model_default_params.restype = ModelParameters
        self._llama.llama_context_default_params.restype = ContextParameters
        self._llama.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParameters]
        self._llama.llama_model_load_from_file.restype = ctypes.c_void_p
        self._llama.llama_init_from_model.argtypes = [ctypes.c_void_p, ContextParameters]
        self._llama.llama_init_from_model.restype = ctypes.c_void_p
        self._llama.llama_free.argtypes = [ctypes.c_void_p]

    def load(self, path: str, *, drafting: bool = False) -> int:
        """The model at `path` without its tensors, as a handle; with its drafting head if it is to guess.

        Raises:
            SystemExit: the library refuses it; its last words follow.
        """
        parameters = self._llama.llama_model_default_params()
        parameters.no_alloc, parameters.load_mode, parameters.load_mtp = True, 0, drafting
        model: int | None = self._llama.llama_model_load_from_file(path.encode(), parameters)
        if not model:
            raise SystemExit(f"llama.cpp does not load {path}: {''.join(self.said[-3:]).strip()}")
        return model

    def account(self, model: int, settings: Mapping[str, object], draft: int | None = None) -> Mapping[str, object]:
        """Bytes by part under `settings` (fields of `EngineSettings`), or the library's last words as `refused`.

        What guesses ahead is counted as well: the model `draft`, or else the drafting head of `model`.
        """
        parameters = self._llama.llama_context_default_params()
        for ours, theirs in FIELDS.items():
            setattr(parameters, theirs, settings[ours])
        parameters.type_k = TENSOR_TYPES_BY_NAME[str(settings["kv_type_k"])].id
        parameters.type_v = TENSOR_TYPES_BY_NAME[str(settings["kv_type_v"])].id
        parameters.flash_attn_type = int(bool(settings["flash_attention"]))
        parameters.n_outputs_max = settings["batch_tokens"] if settings["embedding"] else settings["slots"]
        parameters.n_rs_seq = settings["draft_tokens"]
        self.said.clear()
        contexts = [self._llama.llama_init_from_model(model, parameters)]
        if settings["draft_tokens"] and contexts[0]:
            parameters.n_rs_seq, parameters.n_outputs_max = 0, settings["slots"]
            if draft is None:
                parameters.ctx_type, parameters.ctx_other = DRAFTING, contexts[0]
            parameters.type_k = parameters.type_v = TENSOR_TYPES_BY_NAME["f16"].id
            contexts.append(self._llama.llama_init_from_model(model if draft is None else draft, parameters))
        for context in filter(None, reversed(contexts)):
            self._llama.llama_free(context)
        if not all(contexts):
            return {"refused": "".join(self.said).splitlines()[-5:]}
        return memory_account("".join(self.said).splitlines())


DRAFTING = 1
"""`LLAMA_CONTEXT_TYPE_MTP`."""

FIELDS = {
    "context_tokens": "n_ctx",
    "batch_tokens": "n_batch",
    "ubatch_tokens": "n_ubatch",
    "slots": "n_seq_max",
    "kv_unified": "kv_unified",
    "swa_full": "swa_full",
    "embedding": "embeddings",
}


def main(argv: Sequence[str]) -> int:
    """Answer every line of standard input."""
    tie_to_parent()
    library = Library()
    model = library.load(argv[0], drafting="--drafting" in argv[1:])
    draft = library.load(argv[2]) if argv[1:2] == ["--draft"] else None
    for line in sys.stdin:
        if line.encode() == FAREWELL:
            break
        sys.stdout.write(json.dumps(library.account(model, json.loads(line), draft)) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
