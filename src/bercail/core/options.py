"""Every option and setting, once: command line, environment, settings file and reference derive from it.

An option ``port`` of the group ``server`` is ``server.port`` in the settings file, ``BERCAIL_SERVER_PORT`` in the
environment and ``--port`` on the command lines that take the group.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace

from bercail.core.alike import alike
from bercail.core.errors import SettingsError
from bercail.core.option import Kind, Option, option, variable_of
from bercail.core.overflow import OVERFLOWS
from bercail.core.quant import CACHE_TYPES
from bercail.core.units import GIB, MIB, Bytes, Seconds, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The gateway."""

    host: str = option("127.0.0.1", Kind.TEXT, "Address to listen on; 127.0.0.1 is this machine alone.")
    port: int = option(8123, Kind.COUNT, "Port to listen on; 0 takes a free one.", minimum=0, maximum=65535)
    origins: str = option(
        "", Kind.TEXT, "Pages of the web that may use the server beside those of this machine, such as "
        "https://chat.example, several with commas; * is all.",
    )  # fmt: skip
    hosts: str = option(
        "", Kind.TEXT, "Names by which the server may be asked beside its own ones, such as ai.example behind a proxy, "
        "several with commas; * is any.",
    )  # fmt: skip
    body_limit: Bytes = option(
        64 * MIB, Kind.BYTES, "Largest request body accepted; longer ones get 413.", minimum=1024
    )
    connections: int = option(
        768, Kind.COUNT, "Connections of clients at once; beyond these an idle one is closed for each new one, and "
        "while none is idle new ones get 503.", minimum=1, maximum=100_000,
    )  # fmt: skip
    header_timeout: Seconds = option(
        30.0, Kind.SECONDS, "How long the line and the headers of a request may take to arrive; slower ones get 408.",
        minimum=0.1, maximum=600,
    )  # fmt: skip
    header_hold: Seconds = option(
        15.0, Kind.SECONDS, "How long the headers of a stream wait for its first byte; errors then keep their status.",
        minimum=0, maximum=600,
    )  # fmt: skip
    keep_alive: Seconds = option(
        15.0, Kind.SECONDS, "Longest silence in a stream before a keep-alive comment is sent.", minimum=0.1, maximum=600
    )
    max_wait: Seconds = option(
        60.0, Kind.SECONDS, "Longest wait for a swap in one's favour to begin, while the model in memory is in use.",
        minimum=0, maximum=3600,
    )  # fmt: skip
    wait_limit: Seconds = option(
        600.0, Kind.SECONDS, "A request that has waited so long is refused, unless its model is just loading.",
        minimum=1, maximum=86400,
    )  # fmt: skip
    queue: int = option(1024, Kind.COUNT, "Requests that may wait in all; more get 503.", minimum=1, maximum=100_000)
    queue_per_key: int = option(
        128, Kind.COUNT, "Requests of one key, or of all without one, that may wait; more get 429.",
        minimum=1, maximum=100_000,
    )  # fmt: skip
    health_interval: Seconds = option(
        10.0, Kind.SECONDS, "Time between two looks whether a loaded engine still answers; 0 never looks.",
        minimum=0, maximum=3600,
    )  # fmt: skip
    saved_contexts: Bytes = option(
        2 * GIB, Kind.BYTES, "Disk for what models had read before they left memory, brought back when they return; 0 "
        "keeps none.", minimum=0,
    )  # fmt: skip
    overflow: str = option(
        "error", Kind.CHOICE, "What becomes of a prompt that is longer than the context, where neither its API key nor "
        "its model says: it is refused, or cut, and the answer says by how much.", choices=OVERFLOWS,
    )  # fmt: skip
    capture: Bytes = option(
        0, Kind.BYTES, "Memory for the texts of the latest requests and answers, to be looked at; 0 keeps none.",
        minimum=0,
    )  # fmt: skip
    capture_folder: str | None = option(
        None, Kind.TEXT, "Folder that gets these texts as well, one file of this user alone for each request."
    )
    capture_disk: Bytes = option(
        GIB, Kind.BYTES, "Size of these files together, beyond which the oldest are deleted.", minimum=MIB
    )
    drain: Seconds = option(
        30.0, Kind.SECONDS, "How long running requests may finish after the first Ctrl-C or SIGTERM.", minimum=0
    )
    require_key: str = option(
        "auto",
        Kind.CHOICE,
        "Whether requests need an API key: auto is once one was made, never looks at none.",
        choices=("auto", "always", "never"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryOptions:
    """Where models are looked for, and what is allowed with them."""

    folders: tuple[str, ...] = option(
        (), Kind.PATHS, "Folders searched for models when none is named; if empty, where other tools keep theirs."
    )
    offline: bool = option(
        False,  # noqa: FBT003 - its default
        Kind.FLAG,
        "Never ask another machine; only an address given to plan or inspect would.",
    )
    template_timeout: Seconds = option(
        5.0, Kind.SECONDS, "How long a chat template may take to prove itself before chat is disabled for the model.",
        minimum=0.5, maximum=60,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a use of a model prefers, where the user does not say.

    Attributes:
        slots: requests at once, at most.
        share: of the budget that more slots than one may fill.
        context: no more than this per slot, or None for the most that fits.
        cpu_context: the same where all of it runs on a CPU, which takes an hour to read more.
        smaller_cache: q8_0 keys and values are taken where they make room for more context.
        embedding: serve embeddings.
        prompt: tokens of a usual request's prompt.
        answer: tokens of its answer.
        clients: so many of them at once, as a rule.
    """

    slots: int
    share: float = 0.5
    context: Tokens | None = None
    cpu_context: Tokens | None = None
    smaller_cache: bool = False
    embedding: bool = False
    prompt: Tokens = 256
    answer: Tokens = 128
    clients: int = 1


PURPOSES: Mapping[str, Purpose] = {
    "chat": Purpose(slots=4, cpu_context=32_768),
    "coding-agent": Purpose(slots=2, smaller_cache=True, prompt=8192, answer=256),
    "long-documents": Purpose(slots=1, smaller_cache=True, prompt=16_384, answer=256),
    "batch": Purpose(slots=16, share=0.9, context=8192, clients=8),
    "embedding": Purpose(slots=1, embedding=True, prompt=512, answer=0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Wishes for the engine; what is not set is chosen by the plan."""

    engine: str | None = option(
        None,
        Kind.TEXT,
        "Engine: auto, embedded, openvino or onnxruntime (extras), a build of `bercail engine list`, the path of a "
        "llama-server.",
    )
    purpose: str | None = option(
        None, Kind.CHOICE, "What it is for; decides what is traded for what.", choices=tuple(PURPOSES), word="for"
    )
    context: Tokens | None = option(None, Kind.TOKENS, "Context per slot, such as 8192 or 32k.", minimum=1)
    slots: int | None = option(None, Kind.COUNT, "Requests that run at once.", minimum=1, maximum=256)
    kv_unified: bool | None = option(None, Kind.FLAG, "One KV pool for all slots instead of an equal share each.")
    kv: str | None = option(None, Kind.CHOICE, "Type of the key and the value cache alike.", choices=CACHE_TYPES)
    kv_type_k: str | None = option(None, Kind.CHOICE, "Type of the key cache.", choices=CACHE_TYPES)
    kv_type_v: str | None = option(None, Kind.CHOICE, "Type of the value cache.", choices=CACHE_TYPES)
    precision: str | None = option(
        None, Kind.CHOICE, "Type that OpenVINO computes in; other engines have types of their own.",
        choices=("f32", "bf16"),
    )  # fmt: skip
    flash_attention: bool | None = option(None, Kind.FLAG, "Flash attention; needed for a quantized value cache.")
    batch: Tokens | None = option(None, Kind.TOKENS, "Logical batch in tokens.", minimum=32, maximum=16384)
    ubatch: Tokens | None = option(None, Kind.TOKENS, "Physical batch in tokens.", minimum=32, maximum=16384)
    threads: int | None = option(None, Kind.COUNT, "Threads for decode.", minimum=1, maximum=512)
    threads_batch: int | None = option(None, Kind.COUNT, "Threads for prefill.", minimum=1, maximum=512)
    cores: str | None = option(
        None, Kind.TEXT, "CPUs that the engine is kept to, such as 0-3,8; threads follow. auto shares the machine's "
        "cores out among the models that may be in memory side by side.",
    )  # fmt: skip
    numa: int | None = option(
        None,
        Kind.COUNT,
        "NUMA node whose CPUs run the engine and whose memory holds all of it.",
        minimum=0,
        maximum=1023,
    )
    min_speed: float | None = option(
        None, Kind.NUMBER, "Least tokens/s of one request alone; what is predicted to decode slower is refused.",
        minimum=0.01,
    )  # fmt: skip
    mtp: int | None = option(
        None, Kind.COUNT, "Tokens that the model's own drafting head guesses ahead (MTP); 0 is none.",
        minimum=0, maximum=16,
    )  # fmt: skip
    draft: str | None = option(
        None,
        Kind.TEXT,
        "Model file of the same vocabulary, much smaller, that guesses tokens ahead.",
        word="draft-model",
    )
    draft_tokens: int | None = option(
        None, Kind.COUNT, "Tokens that the draft model guesses ahead.", minimum=1, maximum=16
    )
    split: str | None = option(
        None, Kind.CHOICE, "How GPUs share the model: one of them, whole layers, or a slice of every layer.",
        choices=("none", "layer", "row", "tensor"),
    )  # fmt: skip
    gpus: str | None = option(
        None, Kind.TEXT, "GPUs that it may be put on, by number or by the engine's name for them, such as 0,2 or "
        "Vulkan1; none is the CPU alone.",
    )  # fmt: skip
    gpu_layers: int | None = option(
        None, Kind.COUNT, "Layers on GPUs, counted from the last; the others stay in main memory.", minimum=0
    )
    mmap: bool | None = option(None, Kind.FLAG, "Map the weights instead of reading them into memory.")
    repack: bool | None = option(None, Kind.FLAG, "Rearrange quantized weights for this CPU while loading.")
    embedding: bool | None = option(None, Kind.FLAG, "Serve embeddings instead of text.")
    pooling: str | None = option(
        None, Kind.CHOICE, "How embeddings are pooled.", choices=("none", "mean", "cls", "last", "rank")
    )
    vision: bool | None = option(None, Kind.FLAG, "Use the mmproj file beside the model, if there is one.")
    prompt_cache: Bytes | None = option(
        None, Kind.BYTES, "RAM for the saved prompts of idle slots; 0 is none.", minimum=0
    )
    memory: Bytes | None = option(
        None, Kind.BYTES, "Most memory the engine may take; never more than is really available.", minimum=64 * MIB
    )
    allow_spill: bool = option(
        False,  # noqa: FBT003 - its default
        Kind.FLAG,
        "Go on where a load took more than planned, or landed elsewhere, instead of ending it.",
    )
    startup_timeout: Seconds = option(
        600.0, Kind.SECONDS, "How long an engine may take to become ready.", minimum=1, maximum=86400
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityOptions:
    """The record of requests: numbers, never text."""

    days: int = option(
        90, Kind.COUNT, "Days that the record of requests goes back; 0 keeps none.", minimum=0, maximum=36_500,
        word="activity-days",
    )  # fmt: skip
    size: Bytes = option(
        256 * MIB,
        Kind.BYTES,
        "Size of that record beyond which its oldest entries are forgotten.",
        minimum=MIB,
        word="activity-size",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All groups together."""

    server: ServerOptions = field(default_factory=ServerOptions)
    library: LibraryOptions = field(default_factory=LibraryOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    activity: ActivityOptions = field(default_factory=ActivityOptions)


GROUPS: tuple[type, ...] = (ServerOptions, LibraryOptions, EngineOptions, ActivityOptions)
_GROUP_NAMES: Mapping[type, str] = {
    ServerOptions: "server", LibraryOptions: "library", EngineOptions: "engine", ActivityOptions: "activity",
}  # fmt: skip


def settled(wish: EngineOptions) -> EngineOptions:
    """``wish`` with both types of the cache where one word names them."""
    return replace(wish, kv_type_k=wish.kv_type_k or wish.kv, kv_type_v=wish.kv_type_v or wish.kv)


def purpose_name(wish: EngineOptions) -> str:
    """What the wish is for, by name; a chat if it does not say."""
    return wish.purpose or "chat"


def purpose_of(wish: EngineOptions) -> Purpose:
    """What the wish is for."""
    return PURPOSES[purpose_name(wish)]


def options_of(group: type) -> Iterator[Option]:
    """The options that a group declares, in its order."""
    for item in fields(group):
        default = None if item.default is MISSING else item.default
        yield Option(group=_GROUP_NAMES[group], name=item.name, default=default, **item.metadata)


def every_option() -> tuple[Option, ...]:
    """All options of all groups."""
    return tuple(found for group in GROUPS for found in options_of(group))


MOVED: Mapping[str, str] = {f"models.{name}": f"library.{name}" for name in ("folders", "offline", "template_timeout")}
"""Settings by the key they once had; ``models`` is the map of models now."""


def unknown_key(name: str, known: tuple[str, ...], *, origin: str) -> SettingsError:
    """The error for a key that does not exist, with its new name if it has moved, or the nearest that does exist."""
    if moved := MOVED.get(name) or _MOVED_VARIABLES.get(name):
        hint = f"it is called {moved} now"
    else:
        near = alike(name, known)
        hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(known)
    return SettingsError(f"{origin}: unknown setting {name!r}", hint=hint, code="unknown_setting")


_MOVED_VARIABLES = {variable_of(old): variable_of(new) for old, new in MOVED.items()}
