"""The tensors that llama-like blocks must have, and their shapes. Source: the loaders in src/models of b11549."""

from collections.abc import Iterator

from bercail.readers.gguf import architectures
from bercail.readers.gguf.keys import Keys

_EXPERTS_ARE_FULL_WIDTH = frozenset(("llama", "mistral3"))
"""Their experts are as wide as ``feed_forward_length`` says, whatever else the file says."""


def check(keys: Keys) -> None:
    """Check block for block, for architectures whose layout is known here; others are left to the engine's loader.

    Raises:
        ReadError: a tensor is missing, has another shape than the keys ask for, or belongs to no block.
    """
    if keys.architecture not in architectures.LLAMA_LIKE:
        return
    _output(keys)
    trunk = keys.blocks - keys.count("nextn_predict_layers")
    if trunk < keys.blocks and "blk.0.attn_norm.weight" not in keys.tensors:
        # A file with the drafting blocks alone, which the engine loads beside the whole model.
        return
    widths = _Widths(keys)
    for block in range(trunk):
        for name, shape in widths.wanted(block):
            _need(keys, f"blk.{block}.{name}", shape)
        widths.check_present(block)
    _no_more_blocks(keys)


class _Widths:
    """The widths that the keys promise."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.embedding = keys.count("embedding_length")
        self.heads = keys.per_layer("attention.head_count")
        self.kv_heads = keys.per_layer("attention.head_count_kv") if keys.has("attention.head_count_kv") else self.heads
        share = self.embedding // self.heads[0] if self.heads[0] else 0
        self.key = keys.count("attention.key_length", share)
        self.value = keys.count("attention.value_length", share)
        self.feed_forward = keys.per_layer("feed_forward_length")
        self.experts = keys.count("expert_count")

    def wanted(self, block: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Tensors that must be there, with their shapes."""
        wide, fused = self.embedding, f"blk.{block}.attn_qkv.weight" in self.keys.tensors
        query = self.heads[block] * self.key
        yield "attn_norm.weight", (wide,)
        if not fused:
            yield "attn_q.weight", (wide, query)
            yield "attn_k.weight", (wide, self.kv_heads[block] * self.key)
            yield "attn_v.weight", (wide, self.kv_heads[block] * self.value)
        yield "attn_output.weight", (query, wide)
        if self.experts:
            yield "ffn_gate_inp.weight", (wide, self.experts)
        else:
            yield from self._dense(block)

    def _dense(self, block: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        wide, inner = self.embedding, self.feed_forward[block]
        up = 2 * inner if self.keys.architecture in architectures.FUSED_GATE else inner
        yield "ffn_norm.weight", (wide,)
        yield "ffn_up.weight", (wide, up)
        yield "ffn_down.weight", (inner, wide)
        if self.keys.architecture not in architectures.FUSED_GATE and self.keys.architecture != "arcee":
            yield "ffn_gate.weight", (wide, inner)

    def check_present(self, block: int) -> None:
        """Shapes of tensors that may be there or not."""
        keys, wide = self.keys, self.embedding
        fused = keys.tensors.get(f"blk.{block}.attn_qkv.weight")
        all_wide = self.heads[block] * self.key + self.kv_heads[block] * (self.key + self.value)
        if fused is not None and fused.shape != (wide, all_wide):
            raise _wrong(keys, fused.name, (wide, all_wide))
        if not self.experts:
            return
        down = keys.tensors.get(f"blk.{block}.ffn_down_exps.weight")
        if down is None:
            raise keys.refuse("expert_count", f"{self.experts:,} experts, but block {block} has none (ffn_down_exps)")
        if len(down.shape) != 3 or down.shape[1:] != (wide, self.experts):
            raise _wrong(keys, down.name, (down.shape[0], wide, self.experts))
        inner = self._expert_width(block) or down.shape[0]
        if down.shape[0] != inner:
            raise _wrong(keys, down.name, (inner, wide, self.experts))
        for name in ("ffn_up_exps", "ffn_gate_exps"):
            tensor = keys.tensors.get(f"blk.{block}.{name}.weight")
            if tensor is not None and tensor.shape != (wide, inner, self.experts):
                raise _wrong(keys, tensor.name, (wide, inner, self.experts))

    def _expert_width(self, block: int) -> int:
        """What the keys promise, or 0 if they leave it open."""
        if self.keys.architecture in _EXPERTS_ARE_FULL_WIDTH:
            return self.feed_forward[block]
        key = "expert_feed_forward_length"
        return self.keys.per_layer(key)[block] if self.keys.has(key) else 0


def _output(keys: Keys) -> None:
    wide = keys.count("embedding_length")
    _need(keys, "output_norm.weight", (wide,))
    output = keys.tensors.get("output.weight")
    embedding = keys.tensors.get("token_embd.weight")
    if output is not None and embedding is not None and output.shape != embedding.shape:
        raise _wrong(keys, output.name, embedding.shape)


def _need(keys: Keys, name: str, shape: tuple[int, ...]) -> None:
    tensor = keys.tensors.get(name)
    if tensor is None:
        raise keys.header.refuse("the tensor is missing, though the keys ask for it", name)
    if tensor.shape != shape:
        raise _wrong(keys, name, shape)


def _wrong(keys: Keys, name: str, shape: tuple[int, ...]) -> Exception:
    return keys.header.refuse(
        f"has shape {keys.tensors[name].shape}, but the keys of {keys.architecture} ask for {shape}", name
    )


def _no_more_blocks(keys: Keys) -> None:
    for name in keys.tensors:
        head, _, rest = name.partition(".")
        number = rest.partition(".")[0]
        if head == "blk" and number.isdecimal() and int(number) >= keys.blocks:
            raise keys.header.refuse(f"belongs to no block: {keys.name('block_count')} is {keys.blocks}", name)
