"""What llama.cpp b11549 knows of architectures, as far as reading needs it. Source: llama-arch.cpp, models/*.cpp."""

from dataclasses import dataclass

# fmt: off
KNOWN = frozenset((
    "afmoe", "apertus", "arcee", "arctic", "arwkv7", "baichuan", "bailingmoe", "bailingmoe2", "bailingmoe3", "bert",
    "bitnet", "bloom", "chameleon", "chatglm", "clef", "clip", "codeshell", "cogvlm", "cohere2", "cohere2moe",
    "command-r", "dbrx", "deci", "deepseek", "deepseek2", "deepseek2-ocr", "deepseek32", "deepseek4", "dflash", "dots1",
    "dots3note", "dream", "eagle3", "ernie4_5", "ernie4_5-moe", "eurobert", "exaone", "exaone-moe", "exaone4", "falcon",
    "falcon-h1", "gemma", "gemma-embedding", "gemma-embedding2", "gemma2", "gemma3", "gemma3n", "gemma4",
    "gemma4-assistant", "glm-dsa", "glm4", "glm4moe", "glm5-next", "gpt-oss", "gpt2", "gptj", "gptneox", "granite",
    "granite_swa", "granitehybrid", "granitemoe", "graniteswitch", "grok", "grovemoe", "hrm_text", "hunyuan-dense",
    "hunyuan-moe", "hunyuan_vl", "hy_v3", "hy_v4", "internlm2", "jais", "jais2", "jamba", "jina-bert-v2",
    "jina-bert-v3", "k2-horizon", "kimi-k3", "kimi-linear", "laguna", "lfm2", "lfm2moe", "llada", "llada-moe", "llama",
    "llama-embed", "llama4", "maincoder", "mamba", "mamba2", "maple", "mellum", "mimo2", "minicpm", "minicpm3",
    "minimax-01", "minimax-m2", "minimax-m3", "mistral3", "mistral4", "modern-bert", "mpt", "muse-glimmer", "nanbeige",
    "nemotron", "nemotron_h", "nemotron_h_moe", "neo-bert", "nomic-bert", "nomic-bert-moe", "olmo", "olmo2", "olmoe",
    "openelm", "orion", "paddleocr", "pangu-embedded", "phi2", "phi3", "phimoe", "plamo", "plamo2", "plamo3", "plm",
    "pockettts", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen35", "qwen35moe", "qwen3moe", "qwen3next",
    "qwen3tts", "qwen3vl", "qwen3vlmoe", "qwen4exp", "refact", "rnd1", "rwkv6", "rwkv6qwen2", "rwkv7", "seed_oss",
    "smallthinker", "smollm3", "spark2_5", "stablelm", "starcoder", "starcoder2", "step35", "t5", "t5encoder", "talkie",
    "wavtokenizer-dec", "xverse",
))

PROJECTORS = frozenset(("clip",))
DRAFTS = frozenset(("dflash", "eagle3", "gemma4-assistant"))
EMBEDDERS = frozenset((
    "bert", "eurobert", "gemma-embedding", "gemma-embedding2", "jina-bert-v2", "jina-bert-v3", "llama-embed",
    "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "t5encoder",
))
ENCODERS = EMBEDDERS - {"llama-embed"}
DIFFUSION = frozenset(("dream", "llada", "llada-moe", "rnd1"))
SPEECH = frozenset(("pockettts", "qwen3tts", "wavtokenizer-dec"))

HEADLESS = frozenset(("arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "wavtokenizer-dec", "pockettts"))
"""May have no attention heads at all."""

LLAMA_LIKE = frozenset((
    "arcee", "bitnet", "gemma", "gemma2", "gemma3", "glm4", "llama", "mistral3", "phi3", "qwen2", "qwen3", "qwen3moe",
    "qwen2moe", "smollm3", "gpt-oss",
))
"""One block is attention and one feed-forward network, with the names and widths of ``layout.py``."""

FUSED_GATE = frozenset(("glm4", "phi3"))
"""``ffn_up`` holds gate and up together."""

ROPE_IS_HEAD = frozenset((
    "arcee", "deci", "falcon", "llama", "llama-embed", "mistral3", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "smollm3",
))
"""The engine throws or aborts unless ``rope.dimension_count`` is the width of a head."""

MLA = frozenset((
    "deepseek2", "deepseek2-ocr", "deepseek32", "glm-dsa", "kimi-k3", "kimi-linear", "minicpm3", "mistral4", "plm",
    "bailingmoe3",
))
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliding:
    """Which layers slide if the file has no pattern of its own.

    Attributes:
        period: one layer of so many sees everything; 0 if the file must say.
        full_first: it is the first of them, not the last.
        window: tokens assumed without the key, or None: then the model does not slide.
        forced: the engine takes ``window`` whatever the key says, unless the key is 0.
        required: the engine aborts if no layer slides.
    """

    period: int
    full_first: bool = False
    window: int | None = None
    forced: bool = False
    required: bool = False


SLIDING = {
    "afmoe": Sliding(period=4),
    "cohere2": Sliding(period=4, required=True),
    "cohere2moe": Sliding(period=4, full_first=True, required=True),
    "dots3note": Sliding(period=0, required=True),
    "exaone-moe": Sliding(period=4, required=True),
    "gemma-embedding": Sliding(period=6, required=True),
    "gemma-embedding2": Sliding(period=6, required=True),
    "gemma2": Sliding(period=2, window=4096, required=True),
    "gemma3": Sliding(period=6),
    "gemma3n": Sliding(period=5, required=True),
    "gemma4": Sliding(period=0, required=True),
    "gemma4-assistant": Sliding(period=0),
    "gpt-oss": Sliding(period=2, required=True),
    "granite_swa": Sliding(period=0, required=True),
    "laguna": Sliding(period=4, full_first=True),
    "llama4": Sliding(period=4, window=8192, forced=True),
    "maple": Sliding(period=0, required=True),
    "mellum": Sliding(period=4),
    "mimo2": Sliding(period=0, required=True),
    "modern-bert": Sliding(period=3, full_first=True),
    "muse-glimmer": Sliding(period=4, required=True),
    "olmo2": Sliding(period=4),
    "plamo3": Sliding(period=8),
    "smallthinker": Sliding(period=4, full_first=True),
    "spark2_5": Sliding(period=0, required=True),
    "step35": Sliding(period=0, required=True),
}

STATE_SPACE = frozenset(
    (
        "falcon-h1", "granitehybrid", "jamba", "mamba", "mamba2", "nemotron_h", "nemotron_h_moe", "plamo2", "qwen35",
        "qwen35moe", "qwen3next",
    )
)  # fmt: skip
RWKV = frozenset(("arwkv7", "rwkv6", "rwkv6qwen2", "rwkv7"))
SHORT_CONVOLUTION = frozenset(("lfm2", "lfm2moe"))
DELTA_ATTENTION = frozenset(("bailingmoe3", "kimi-k3", "kimi-linear"))
LIGHTNING = frozenset(("minimax-01",))
RECURRENT_UNKNOWN = frozenset(("deepseek4", "glm5-next", "qwen4exp"))
"""They hold a state of a kind whose size is not worked out here."""

RECURRENT_EVERYWHERE = frozenset(("falcon-h1", "mamba", "mamba2")) | RWKV
RECURRENT_BY_INTERVAL = {"minimax-01": 8, "qwen35": 4, "qwen35moe": 4, "qwen3next": 4}
"""Every layer but one of so many, unless the file says otherwise."""

SHARED_CACHE_FROM = {"gemma3n": 20}
"""Layers from this one on reuse the cache of earlier ones."""
