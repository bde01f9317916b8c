"""Every key of a configuration: llama-swap's, and those that only Bercail has."""

from bercail.core.keys import Key, Keys, Shape
from bercail.core.options import EngineOptions, options_of
from bercail.core.overflow import OVERFLOWS

TIMEOUTS: Keys = tuple(
    Key(name=name, shape=Shape.COUNT, help=f"Seconds {what}; 0 is no limit.", minimum=0)
    for name, what in (
        ("connect", "to connect"),
        ("keepalive", "between the probes of an idle connection"),
        ("responseHeader", "until the headers of an answer"),
        ("tlsHandshake", "for the TLS handshake"),
        ("expectContinue", "to wait for 100 Continue, which nothing here waits for"),
        ("idleConn", "that an idle connection is kept"),
    )
)
_STRIP = Key(name="stripParams", shape=Shape.TEXT, help="Keys taken out of request bodies, separated by commas.")
_SET = Key(name="setParams", shape=Shape.PAIRS, help="Keys set in request bodies.")
PEER_FILTERS: Keys = (_STRIP, _SET)
MODEL_FILTERS: Keys = (
    _STRIP,
    Key(name="strip_params", shape=Shape.TEXT, help="The old name of stripParams."),
    _SET,
    Key(name="setParamsByID", shape=Shape.PAIRS, help="Keys set in request bodies, by the name that was asked for."),
)
MODALITIES = ("text", "audio", "image")
CAPABILITIES: Keys = (
    Key(name="in", shape=Shape.TEXTS, help="What it reads: text, audio, image.", choices=MODALITIES),
    Key(name="out", shape=Shape.TEXTS, help="What it writes: text, audio, image.", choices=MODALITIES),
    Key(name="tools", shape=Shape.FLAG, help="It calls tools."),
    Key(name="reranker", shape=Shape.FLAG, help="It ranks documents."),
    Key(name="context", shape=Shape.COUNT, help="Its context in tokens; 0 is unknown.", minimum=0),
)
COMPAT: Keys = (
    Key(name="ignoreWebsockets", shape=Shape.FLAG, help="Websockets never load it, and do not keep it loaded."),
)
COMMAND: Keys = (
    Key(name="cmd", shape=Shape.TEXT, help="Program and arguments; no shell reads them. ${PORT} is its port."),
    Key(name="cmdStop", shape=Shape.TEXT, help="Program that ends it, instead of SIGTERM. ${PID} is its process."),
    Key(name="proxy", shape=Shape.TEXT, help="Where it answers; http://localhost:${PORT} if it is left out."),
    Key(name="checkEndpoint", shape=Shape.TEXT, help="Path that answers 200 when it is ready, or none."),
    Key(name="env", shape=Shape.TEXTS, help="Variables added to its environment, each NAME=VALUE."),
    Key(name="healthCheckTimeout", shape=Shape.COUNT, help="Seconds until it must be ready.", minimum=0),
    Key(name="unloadTimeout", shape=Shape.COUNT, help="Seconds to end before it is killed; 0 is the general one.",
        minimum=0),
)  # fmt: skip
COMMON: Keys = (
    Key(name="name", shape=Shape.TEXT, help="Its name for people."),
    Key(name="description", shape=Shape.TEXT, help="What it is, for people."),
    Key(name="aliases", shape=Shape.TEXTS, help="Other names that clients may use; * in one stands for any letters."),
    Key(name="unlisted", shape=Shape.FLAG, help="Not listed in /v1/models; requests may still name it."),
    Key(name="ttl", shape=Shape.COUNT, help="Seconds without a request until it is unloaded; 0 never, -1 globalTTL.",
        minimum=-1),
    Key(name="concurrencyLimit", shape=Shape.COUNT, help="Requests taken at once; 0 is the default.", minimum=0),
    Key(name="useModelName", shape=Shape.TEXT, help="The name of the model that it is sent."),
    Key(name="filters", shape=Shape.OBJECT, help="What is changed in request bodies.", below=MODEL_FILTERS),
    Key(name="macros", shape=Shape.PAIRS, help="Macros of this model alone."),
    Key(name="metadata", shape=Shape.PAIRS, help="Shown in /v1/models."),
    Key(name="sendLoadingState", shape=Shape.FLAG, help="Streams tell how loading goes."),
    Key(name="timeouts", shape=Shape.OBJECT, help="Limits of its connections.", below=TIMEOUTS),
    Key(name="compat", shape=Shape.OBJECT, help="What it needs to get along with others.", below=COMPAT),
    Key(name="capabilities", shape=Shape.OBJECT, help="What it can do.", below=CAPABILITIES),
    Key(name="keep", shape=Shape.TEXT, help="Eviction for others: pinned never, warm comes back, evictable goes first.",
        choices=("pinned", "warm", "normal", "evictable"), ours=True),
    Key(name="priority", shape=Shape.COUNT, help="Waiting requests for a higher number come first.", ours=True),
    Key(name="overflow", shape=Shape.TEXT, help="What becomes of a prompt that is longer than the context.",
        choices=OVERFLOWS, ours=True),
)  # fmt: skip
WISHES: Keys = tuple(
    Key(name=spec.name, shape=Shape.OPTION, help=spec.help, ours=True)
    for spec in options_of(EngineOptions)
    if spec.name != "gpus"  # a list here
)
FILE: Keys = (
    Key(name="model", shape=Shape.TEXT, help="A GGUF file, or the id of a model that `bercail models` lists.",
        instead=("file", "path", "gguf"),
        ours=True),
    Key(name="gpus", shape=Shape.TEXTS, help="GPUs that it may use, by number or by the engine's "
        "name for them, such as Vulkan1; none is the CPU alone.", ours=True),
    *WISHES,
)  # fmt: skip
MODEL: Keys = (*FILE, *COMMAND, *COMMON)

PEER: Keys = (
    Key(name="proxy", shape=Shape.TEXT, help="Where it answers, such as https://models.example/api."),
    Key(name="models", shape=Shape.TEXTS, help="The models that it has."),
    Key(name="apiKey", shape=Shape.TEXT, help="Sent to it as Bearer and x-api-key."),
    Key(name="filters", shape=Shape.OBJECT, help="What is changed in request bodies.", below=PEER_FILTERS),
    Key(name="timeouts", shape=Shape.OBJECT, help="Limits of its connections.", below=TIMEOUTS),
)
PROFILE: Keys = (
    Key(name="description", shape=Shape.TEXT, help="What it is, for people."),
    Key(name="pins", shape=Shape.PAIRS, help="Which name stands for which model; nothing is 404."),
)
STRATEGIES = ("warm", "pin", "spillover")
SELECTOR: Keys = (
    Key(name="strategy", shape=Shape.TEXT, help="warm, pin or spillover.", choices=STRATEGIES),
    Key(name="targets", shape=Shape.TEXTS, help="Models that it chooses from."),
    Key(name="settings", shape=Shape.OBJECT, help="Of the strategy.", below=(
        Key(name="spillover", shape=Shape.COUNT, help="Requests that a target gets before the next one starts.",
            minimum=1),
    )),
    Key(name="name", shape=Shape.TEXT, help="Its name for people."),
    Key(name="description", shape=Shape.TEXT, help="What it is, for people."),
    Key(name="unlisted", shape=Shape.FLAG, help="Not listed in /v1/models; requests may still name it."),
    Key(name="metadata", shape=Shape.PAIRS, help="Shown in /v1/models."),
)  # fmt: skip
KNOWN_CLIENTS = ("open-webui",)
SIDE: Keys = (
    Key(name="models", shape=Shape.TEXTS, help="Models that may answer, the best first; any in memory if left out."),
    Key(name="clients", shape=Shape.TEXTS, help="Clients whose side requests are known: open-webui.",
        choices=KNOWN_CLIENTS),
    Key(name="prompts", shape=Shape.TEXTS, help="Texts, one of which its system prompt or its last message holds."),
    Key(name="names", shape=Shape.TEXTS, help="Names of models, one of which it asks for."),
    Key(name="headers", shape=Shape.PAIRS, help="Headers that it carries, and their values."),
    Key(name="max_tokens", shape=Shape.COUNT, help="Most tokens of an answer that it may ask for.", minimum=1),
)  # fmt: skip
GROUP: Keys = (
    Key(name="swap", shape=Shape.FLAG, help="One member at a time; true if it is left out."),
    Key(name="exclusive", shape=Shape.FLAG, help="Loading a member unloads other groups; true if it is left out."),
    Key(name="persistent", shape=Shape.FLAG, help="Other groups never unload it."),
    Key(name="members", shape=Shape.TEXTS, help="The models in it."),
)
MATRIX: Keys = (
    Key(name="vars", shape=Shape.PAIRS, help="Short names for models."),
    Key(name="evict_costs", shape=Shape.PAIRS, help="What unloading a model costs; 1 if it is left out."),
    Key(name="sets", shape=Shape.PAIRS, help="Which models may be loaded together: names with & | () and +set."),
)
_ROUTER_SETTINGS: Keys = (
    Key(name="groups", shape=Shape.OBJECTS, help="Which models may be loaded together.", below=GROUP),
    Key(name="matrix", shape=Shape.OBJECT, help="Which models may be loaded together, as expressions.", below=MATRIX),
)
FIFO: Keys = (Key(name="priority", shape=Shape.PAIRS, help="Numbers by model; higher ones come first."),)
ROUTER: Keys = (
    Key(name="use", shape=Shape.TEXT, help="group or matrix.", choices=("group", "matrix")),
    Key(name="settings", shape=Shape.OBJECT, help="Of the router.", below=_ROUTER_SETTINGS),
)
SCHEDULER: Keys = (
    Key(name="use", shape=Shape.TEXT, help="fifo.", choices=("fifo",)),
    Key(name="settings", shape=Shape.OBJECT, help="Of the scheduler.", below=(
        Key(name="fifo", shape=Shape.OBJECT, help="First come, first served.", below=FIFO),
    )),
)  # fmt: skip
ROUTING: Keys = (
    Key(name="router", shape=Shape.OBJECT, help="Which models may be loaded together.", below=ROUTER),
    Key(name="scheduler", shape=Shape.OBJECT, help="Who comes first.", below=SCHEDULER),
)
STORE: Keys = (Key(name="path", shape=Shape.TEXT, help="File that keeps the activity."),)
ACTIVITY: Keys = (Key(name="session_id", shape=Shape.TEXTS, help="Request headers that name a session."),)
UI: Keys = (Key(name="activity", shape=Shape.OBJECT, help="The list of requests.", below=ACTIVITY),)
PERFORMANCE: Keys = (
    Key(name="disabled", shape=Shape.FLAG, help="Nothing of the machine is sampled."),
    Key(name="every", shape=Shape.DURATION, help="Time between samples, such as 15s; 5s at least.", minimum=5),
)
UPSTREAM: Keys = (
    Key(name="ignorePaths", shape=Shape.TEXTS, help="Paths below /upstream that never load a model: expressions."),
)
STARTUP: Keys = (Key(name="preload", shape=Shape.TEXTS, help="Models that are loaded at the start."),)
HOOKS: Keys = (Key(name="on_startup", shape=Shape.OBJECT, help="Done at the start.", below=STARTUP),)

TOP: Keys = (
    Key(name="models", shape=Shape.OBJECTS, help="The models, by the name that clients use.", below=MODEL,
        example="models: {small: {model: /srv/models/small.gguf}}"),
    Key(name="macros", shape=Shape.PAIRS, help="Names for parts of values: ${name}."),
    Key(name="startPort", shape=Shape.COUNT, help="The first port that ${PORT} stands for.", minimum=1, maximum=65535),
    Key(name="healthCheckTimeout", shape=Shape.COUNT, help="Seconds until a model must be ready."),
    Key(name="unloadTimeout", shape=Shape.COUNT, help="Seconds a model has to end before it is killed.", minimum=0),
    Key(name="globalTTL", shape=Shape.COUNT, help="Seconds without a request until models are unloaded; 0 is never.",
        minimum=0),
    Key(name="sendLoadingState", shape=Shape.FLAG, help="Streams tell how loading goes."),
    Key(name="includeAliasesInList", shape=Shape.FLAG, help="Aliases are listed in /v1/models, too."),
    Key(name="apiKeys", shape=Shape.TEXTS, help="Keys, of which clients must send one."),
    Key(name="groups", shape=Shape.OBJECTS, help="Which models may be loaded together.", below=GROUP),
    Key(name="matrix", shape=Shape.OBJECT, help="Which models may be loaded together, as expressions.", below=MATRIX),
    Key(name="routing", shape=Shape.OBJECT, help="Which models may be loaded together, and who comes first.",
        below=ROUTING),
    Key(name="profiles", shape=Shape.OBJECTS, help="Other names for models, to be chosen at run time.", below=PROFILE),
    Key(name="selectors", shape=Shape.OBJECTS, help="Names that stand for one of several models.", below=SELECTOR),
    Key(name="side_requests", shape=Shape.OBJECTS, help="Small requests that a model in memory may answer instead.",
        below=SIDE, ours=True),
    Key(name="peers", shape=Shape.OBJECTS, help="Servers elsewhere.", below=PEER),
    Key(name="hooks", shape=Shape.OBJECT, help="What is done when.", below=HOOKS),
    Key(name="upstream", shape=Shape.OBJECT, help="The way to an engine's own pages.", below=UPSTREAM),
    Key(name="logLevel", shape=Shape.TEXT, help="debug, info, warn or error."),
    Key(name="logTimeFormat", shape=Shape.TEXT, help="How log lines tell the time; nothing if it is left out."),
    Key(name="logToStdout", shape=Shape.TEXT, help="proxy, upstream, both or none.",
        choices=("proxy", "upstream", "both", "none")),
    Key(name="logRequests", shape=Shape.FLAG, help="Has no effect."),
    Key(name="metricsMaxInMemory", shape=Shape.COUNT, help="Requests remembered."),
    Key(name="captureBuffer", shape=Shape.COUNT, help="Megabytes of requests and answers remembered."),
    Key(name="store", shape=Shape.OBJECT, help="What is kept between runs.", below=STORE),
    Key(name="ui", shape=Shape.OBJECT, help="The pages.", below=UI),
    Key(name="performance", shape=Shape.OBJECT, help="Samples of the machine.", below=PERFORMANCE),
)  # fmt: skip
