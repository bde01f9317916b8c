"""Variables of the environment that stand for flags of ``llama-server``: those that b11549 has lost -> flags. Pure.

It passes over a variable that it does not know, without a word.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from bercail.core.alike import alike
from bercail.core.errors import UsageError

_PREFIX = "LLAMA_ARG_"
_TODAY = """
    AGENT ALIAS API_KEY_FILE API_PREFIX BACKEND_SAMPLING BATCH CACHE_IDLE_SLOTS CACHE_PROMPT CACHE_RAM CACHE_REUSE
    CACHE_TYPE_K CACHE_TYPE_V CHAT_TEMPLATE CHAT_TEMPLATE_FILE CHAT_TEMPLATE_KWARGS CHECKPOINT_MIN_SPACING_NT
    CONTEXT_SHIFT CONT_BATCHING CORS_CREDENTIALS CORS_HEADERS CORS_METHODS CORS_ORIGINS CPU_MOE CTX_CHECKPOINTS
    CTX_SIZE DEVICE DOCKER_REPO EMBEDDINGS ENDPOINT_METRICS ENDPOINT_PROPS ENDPOINT_SLOTS FIT FIT_CTX FIT_TARGET
    FLASH_ATTN FREQUENCY_PENALTY HF_FILE HF_REPO HOST IMAGE_MAX_TOKENS IMAGE_MIN_TOKENS JINJA KV_OFFLOAD KV_UNIFIED
    KV_UNIFIED_PER_SLOT LAZY_MODE LOAD_MODE LOG_COLORS LOG_FILE LOG_JSONL LOG_PREFIX LOG_TIMESTAMPS LOG_VERBOSITY
    MAIN_GPU MCP_SERVERS_CONFIG MCP_SERVERS_JSON MIN_P MMPROJ MMPROJ_AUTO MMPROJ_OFFLOAD MMPROJ_URL MODEL
    MODELS_AUTOLOAD MODELS_DIR MODELS_MAX MODELS_PRESET MODEL_URL MOE_CACHE_MIB MTMD_BATCH_MAX_TOKENS NO_HOST NUMA
    N_CPU_FFN N_CPU_MOE N_GPU_LAYERS N_GPU_LAYERS_DRAFT N_PARALLEL N_PREDICT OFFLINE OVERRIDE_TENSOR PERF POOLING
    PORT PREFILL_ASSISTANT PRESENCE_PENALTY REASONING REASONING_EFFORT REASONING_PRESERVE REPACK REPEAT_PENALTY
    RERANKING REUSE_PORT ROPE_FREQ_BASE ROPE_FREQ_SCALE ROPE_SCALE ROPE_SCALING_TYPE RPC SKIP_CHAT_PARSING
    SLOT_SAVE_PATH SPEC_DRAFT_BACKEND_SAMPLING SPEC_DRAFT_CACHE_TYPE_K SPEC_DRAFT_CACHE_TYPE_V SPEC_DRAFT_CPU_MOE
    SPEC_DRAFT_HF_REPO SPEC_DRAFT_MODEL SPEC_DRAFT_N_CPU_MOE SPEC_DRAFT_N_MAX SPEC_DRAFT_N_MIN SPEC_DRAFT_P_MIN
    SPEC_DRAFT_P_SPLIT SPEC_DRAFT_SAMPLING SPEC_SYNTH_LEN SPEC_SYNTH_RATES SPEC_TYPE SPLIT_MODE SSE_PING_INTERVAL
    SSL_CERT_FILE SSL_KEY_FILE STATIC_PATH SWA_FULL TAGS TEMPERATURE TENSOR_SPLIT THINK THINK_BUDGET
    THINK_BUDGET_MESSAGE THREADS THREADS_HTTP TIMEOUT TOOLS TOOLS_RUNTIME TOP_K TOP_P UBATCH UI UI_CONFIG
    UI_CONFIG_FILE UI_MCP_PROXY VIDEO_FFMPEG_DIR VIDEO_FPS VIDEO_TIMESTAMP_INTERVAL YARN_ATTN_FACTOR YARN_BETA_FAST
    YARN_BETA_SLOW YARN_EXT_FACTOR YARN_ORIG_CTX
"""
_READ = frozenset(_TODAY.split())
"""What b11549 reads after ``LLAMA_ARG_``, as its help tells."""

_TRUE, _FALSE = frozenset(("on", "enabled", "true", "1")), frozenset(("off", "disabled", "false", "0"))
"""As llama.cpp reads them."""
_SWITCHED_ON: Mapping[str, str] = {
    "LLAMA_ARG_NO_MMAP": "--no-mmap", "LLAMA_ARG_MLOCK": "--mlock", "LLAMA_ARG_DIO": "--direct-io",
    "LLAMA_ARG_NO_WEBUI": "--no-ui", "LLAMA_ARG_CPU_MOE_DRAFT": "--spec-draft-cpu-moe",
    "LLAMA_LOG_PREFIX": "--log-prefix", "LLAMA_LOG_TIMESTAMPS": "--log-timestamps", "LLAMA_OFFLINE": "--offline",
}  # fmt: skip
_SWITCHED_OFF: Mapping[str, str] = {"LLAMA_ARG_MMAP": "--no-mmap", "LLAMA_ARG_WEBUI": "--no-ui"}
_VALUED: Mapping[str, str] = {
    "LLAMA_ARG_DRAFT_MAX": "--draft-max", "LLAMA_ARG_DRAFT_MIN": "--draft-min",
    "LLAMA_ARG_DRAFT_P_MIN": "--spec-draft-p-min", "LLAMA_ARG_CTX_SIZE_DRAFT": "--ctx-size-draft",
    "LLAMA_ARG_MODEL_DRAFT": "--spec-draft-model", "LLAMA_ARG_HFD_REPO": "--spec-draft-hf",
    "LLAMA_ARG_CACHE_TYPE_K_DRAFT": "--spec-draft-type-k", "LLAMA_ARG_CACHE_TYPE_V_DRAFT": "--spec-draft-type-v",
    "LLAMA_ARG_N_CPU_MOE_DRAFT": "--spec-draft-n-cpu-moe", "LLAMA_ARG_DEFRAG_THOLD": "--defrag-thold",
    "LLAMA_ARG_GRP_ATTN_N": "--grp-attn-n", "LLAMA_ARG_GRP_ATTN_W": "--grp-attn-w",
    "LLAMA_ARG_SWA_CHECKPOINTS": "--ctx-checkpoints", "LLAMA_ARG_CHECKPOINT_EVERY_NT": "--checkpoint-every-n-tokens",
    "LLAMA_ARG_HF_REPO_V": "--hf-repo-v", "LLAMA_ARG_HF_FILE_V": "--hf-file-v",
    "LLAMA_ARG_WEBUI_CONFIG": "--ui-config", "LLAMA_ARG_WEBUI_CONFIG_FILE": "--ui-config-file",
    "LLAMA_LOG_FILE": "--log-file", "LLAMA_LOG_COLORS": "--log-colors", "LLAMA_LOG_VERBOSITY": "--log-verbosity",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What variables of older builds say today.

    Attributes:
        arguments: flags, which may be of an older build themselves.
        notices: what was changed and what is passed over, in words.
        spent: variables that are not to be handed on.
    """

    arguments: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    spent: frozenset[str] = field(default_factory=frozenset)


def said_by(environment: Mapping[str, str]) -> Said:
    """What the variables say that b11549 does not read."""
    arguments: list[str] = []
    notices: list[str] = []
    spent: set[str] = set()
    for name, value in sorted(environment.items()):
        if (words := _words(name, value)) is not None:
            spent.add(name)
            arguments += words
            notices.append(f"{name}={value} of an older build: {' '.join(words) or 'left out, it is so anyway'}")
        elif name.startswith(_PREFIX) and not _is_read(name):
            near = "".join(f"; did you mean {_PREFIX}{one}?" for one in alike(name.removeprefix(_PREFIX), _READ))
            notices.append(f"{name}: passed over, llama-server has no such variable{near}")
    return Said(arguments=tuple(arguments), notices=tuple(notices), spent=frozenset(spent))


def _words(name: str, value: str) -> tuple[str, ...] | None:
    """The flag that a variable of an older build stands for, none where it is so anyway; None for other variables."""
    switch = value.lower()
    if (flag := _VALUED.get(name)) is not None:
        return (flag, value)
    for flags, acts in ((_SWITCHED_ON, _TRUE), (_SWITCHED_OFF, _FALSE)):
        if (flag := flags.get(name)) is not None:
            return (flag,) if switch in acts else ()
    return None


def _is_read(name: str) -> bool:
    """With ``NO_`` a switch is read that is a pair of flags today."""
    bare = name.removeprefix(_PREFIX)
    return bare in _READ or bare.removeprefix("NO_") in _READ


MOST_PORT = 65535
_OLD_PORT, _PORT = 8080, 9931


def port_notice(arguments: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """Where it listens if nobody says; empty if somebody does.

    The library takes any number, says that it listens there, and does not.

    Raises:
        UsageError: what is said is no port.
    """
    hosts = [value for flag, value in pairwise(arguments) if flag == "--host"] or [
        environment.get("LLAMA_ARG_HOST", "")
    ]
    named = [(flag, value) for flag, value in pairwise(arguments) if flag == "--port"]
    said = named[-1] if named else ("LLAMA_ARG_PORT", environment.get("LLAMA_ARG_PORT", ""))
    if not said[1] and hosts[-1].endswith(".sock"):
        return ""
    if not said[1]:
        older = f"older builds did at {_OLD_PORT} (--port {_OLD_PORT})"
        return f"no port is given: llama-server listens at {_PORT} today, {older}"
    if not (said[1].isascii() and said[1].isdigit() and int(said[1]) <= MOST_PORT):
        hint = f"name one from 0 to {MOST_PORT}; 0 is any that is free"
        raise UsageError(f"{said[0]} {said[1]}: that is no port", hint=hint)
    return ""
