"""Models and machines for tests: plain ones, true shapes, and hypothesis strategies that draw any."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from bercail.core.build import Build, Recipe, Target
from bercail.core.engine import EngineSettings
from bercail.core.machine import Backend, Cpu, Gpu, Machine, MemoryPool
from bercail.core.model import (
    ArraySummary,
    Capability,
    FoundModel,
    Model,
    ModelFile,
    Pooling,
    Recurrent,
    Role,
    Shape,
    Tensor,
    Tokenizer,
)
from bercail.core.options import PURPOSES, EngineOptions
from bercail.core.quant import CACHE_TYPES, TENSOR_TYPES, TENSOR_TYPES_BY_NAME
from bercail.core.units import GIB, MIB

TEXT = (Capability.CHAT, Capability.COMPLETION, Capability.TOOLS)


def a_shape(layers: int = 4, heads: int = 4, kv: int = 2, width: int = 64, **changes: Any) -> Shape:
    """A dense llama-like shape; ``kv`` key/value heads of ``width`` in every layer."""
    plain = Shape(
        layers=layers, embedding=heads * width, feed_forward=(4 * heads * width,) * layers, heads=(heads,) * layers,
        kv_heads=(kv,) * layers, key_length=width, value_length=width, key_length_swa=width, value_length_swa=width,
        vocabulary=32000, rope_dimensions=width,
    )  # fmt: skip
    return replace(plain, **changes)


def a_tensor(name: str = "blk.0.ffn_up.weight", rows: int = 256, kind: str = "f16") -> Tensor:
    return Tensor(name=name, shape=(256, rows), type=TENSOR_TYPES_BY_NAME[kind], offset=0)


def a_model(model_id: str = "tiny", shape: Shape | None = None, **changes: Any) -> Model:
    """A text model of 1 MiB weights, made for 8,192 tokens."""
    plain = Model(
        id=model_id, path=f"/m/{model_id}.gguf",
        files=(ModelFile(path=f"/m/{model_id}.gguf", bytes=2 * MIB, data_offset=4096),),
        architecture="llama", name=None, role=Role.GENERATE, context_length=8192, tensors=(a_tensor(rows=2048),),
        shape=shape or a_shape(), tokenizer=Tokenizer(model="llama", pre=None, tokens=32000), quantization="F16",
        capabilities=TEXT, chat_template="{{ messages }}",
    )  # fmt: skip
    return replace(plain, **changes)


def a_found(name: str = "tiny", **changes: Any) -> FoundModel:
    plain = FoundModel(id=name, path=f"/m/{name}.gguf", source="argument", bytes=2 * MIB, modified_s=1_700_000_000)
    return replace(plain, **changes)


def a_machine(available: int = 8 * GIB, **cpu: Any) -> Machine:
    """Four cores behind eight CPUs and ``available`` bytes of memory."""
    plain = Cpu(
        model_name="Test CPU", architecture="x86_64", logical_cpus=tuple(range(8)), physical_cores=4,
        performance_cores=None, quota_cpus=None, instruction_sets=("avx2", "fma"), l3_bytes=8 * MIB, numa_nodes=1,
    )  # fmt: skip
    memory = MemoryPool(total_bytes=max(available, 16 * GIB), available_bytes=available)
    return Machine(system="Linux", cpu=replace(plain, **cpu), memory=memory)


def a_gpu(device: str = "CUDA0", **changes: Any) -> Gpu:
    """A card of 8 GiB, nearly all of it free."""
    plain = Gpu(
        name="card", backend=Backend.CUDA, total_bytes=8 * GIB, available_bytes=8 * GIB - 200 * MIB, device=device
    )
    return replace(plain, **changes)


def a_build(build_id: str = "b1-cpu-native-1", **changes: Any) -> Build:
    plain = Build(
        id=build_id, release="b1", recipe=Recipe(target=Target.CPU, processor="Test CPU"), flags=("-DX=ON",),
        compiler="c++ 1", made_s=1_700_000_000, took_s=90.0, folder=f"/e/{build_id}", bytes=3 * MIB,
        files={"llama-server": "00"},
    )  # fmt: skip
    return replace(plain, **changes)


def some_settings(**changes: Any) -> EngineSettings:
    plain = EngineSettings(
        context_tokens=4096, slots=1, kv_unified=False, batch_tokens=512, ubatch_tokens=512, kv_type_k="f16",
        kv_type_v="f16", flash_attention=True, threads=4, threads_batch=4, mmap=True, repack=True,
    )  # fmt: skip
    return replace(plain, **changes)


_counts = st.integers(1, 8)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Dense, sparse, sliding, compressed, recurrent, with and without shared caches."""
    layers, heads = draw(st.integers(1, 12)), draw(_counts)
    width = draw(st.sampled_from([64, 128, 32, 16, 80, 256]))
    shape = a_shape(layers, heads, draw(_counts), width, vocabulary=draw(st.integers(0, 300_000)))
    if draw(st.booleans()):
        flags = tuple(draw(st.lists(st.booleans(), min_size=layers, max_size=layers)))
        window = draw(st.integers(1, 4096))
        shape = replace(shape, sliding_window=window, swa_layers=flags, shared_kv_layers=draw(st.integers(0, layers)))
    if draw(st.booleans()):
        shape = replace(
            shape, experts=8, experts_used=draw(_counts), expert_feed_forward=draw(st.integers(0, 2048)),
            shared_feed_forward=draw(st.integers(0, 2048)),
        )  # fmt: skip
    kind = draw(st.sampled_from(["plain", "mla", "recurrent", "encoder"]))
    if kind == "mla":
        return replace(
            shape, kv_lora_rank=512, rope_dimensions=64, mla_compressed=True, key_length=576, value_length=512
        )
    if kind == "recurrent":
        flags = tuple(draw(st.lists(st.booleans(), min_size=layers, max_size=layers)))
        state = Recurrent(
            conv_bytes=draw(st.integers(0, MIB)), state_bytes=draw(st.integers(0, MIB)), layers=flags,
            channels=draw(st.integers(0, 16384)), inner=draw(st.integers(0, 16384)), scan=draw(st.booleans()),
        )  # fmt: skip
        kv = tuple(0 if flag else heads for flag, heads in zip(flags, shape.kv_heads, strict=True))
        return replace(shape, recurrent=state, kv_heads=kv)
    return replace(shape, causal=kind != "encoder")


tensors = st.builds(
    a_tensor,
    name=st.one_of(st.text(max_size=12), st.from_regex(r"blk\.\d{1,2}\.[a-z_]{1,9}\.weight", fullmatch=True)),
    rows=st.integers(1, 65536),
    kind=st.sampled_from(sorted(TENSOR_TYPES_BY_NAME)),
)

_scalars = st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans())
metadata = st.dictionaries(
    st.text(max_size=12),
    st.one_of(
        _scalars,
        st.lists(_scalars, max_size=4).map(tuple),
        st.builds(ArraySummary, element=st.just("string"), count=st.integers(0, 10**6), offset=st.integers(0, 10**9)),
    ),
    max_size=5,
)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Any model a reader may hand over."""
    shape = draw(shapes())
    roles = [Role.EMBED, Role.RERANK] if not shape.causal else [Role.GENERATE, Role.EMBED]
    projector = draw(st.one_of(st.none(), st.integers(1, 512 * MIB)))
    return a_model(
        draw(st.text(min_size=1, max_size=8)),
        shape,
        role=draw(st.sampled_from(roles)),
        context_length=draw(st.one_of(st.integers(1, 10_000), st.integers(1, 300_000))),
        tensors=tuple(draw(st.lists(tensors, max_size=6))),
        pooling=draw(st.one_of(st.none(), st.sampled_from(Pooling))),
        name=draw(st.one_of(st.none(), st.text(max_size=8))),
        license=draw(st.one_of(st.none(), st.text(max_size=8))),
        chat_template=draw(st.one_of(st.none(), st.text(max_size=8))),
        projector=None if projector is None else "/m/mmproj.gguf",
        projector_bytes=projector or 0,
        notes=tuple(draw(st.lists(st.text(max_size=8), max_size=2))),
        metadata=draw(metadata),
    )


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """From a small container to a workstation."""
    logical = draw(st.integers(1, 64))
    return a_machine(
        draw(st.one_of(st.integers(0, 4 * GIB), st.integers(GIB, 1024 * GIB))),
        logical_cpus=tuple(range(logical)),
        physical_cores=draw(st.one_of(st.none(), st.integers(1, logical))),
        quota_cpus=draw(st.one_of(st.none(), st.floats(0.1, 64))),
    )


def _maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly nothing: a wish with everything set rarely fits anything."""
    return st.integers(0, 4).flatmap(lambda dice: values if dice == 4 else st.none())


wishes: st.SearchStrategy[EngineOptions] = st.builds(
    EngineOptions,
    purpose=_maybe(st.sampled_from(sorted(PURPOSES))),
    context=_maybe(st.one_of(st.integers(1, 10_000), st.integers(1, 300_000))),
    slots=_maybe(st.integers(1, 8)),
    kv_unified=_maybe(st.booleans()),
    kv_type_k=_maybe(st.sampled_from(CACHE_TYPES)),
    kv_type_v=_maybe(st.sampled_from(CACHE_TYPES)),
    flash_attention=_maybe(st.booleans()),
    batch=_maybe(st.integers(32, 4096)),
    ubatch=_maybe(st.integers(32, 4096)),
    threads=_maybe(st.integers(1, 128)),
    threads_batch=_maybe(st.integers(1, 128)),
    mmap=_maybe(st.booleans()),
    repack=_maybe(st.booleans()),
    embedding=_maybe(st.booleans()),
    pooling=_maybe(st.sampled_from(["none", "mean", "cls", "last", "rank"])),
    vision=_maybe(st.booleans()),
    prompt_cache=_maybe(st.integers(0, GIB)),
    memory=_maybe(st.integers(64 * MIB, 64 * GIB)),
)

ALL_TYPES = tuple(TENSOR_TYPES.values())
