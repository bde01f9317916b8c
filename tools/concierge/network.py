"""The decoder in PyTorch: a Llama of a few million parameters, with llama.cpp's tensor names and rotary layout."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of the decoder. `width` and `hidden` are multiples of 256, so that k-quants apply."""

    vocabulary: int
    width: int = 256
    hidden: int = 768
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    context_tokens: int = 2048
    rope_base: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


def rotations(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position, each (context, head / 2): RoFormer, arXiv:2104.09864."""
    inverse = shape.rope_base ** (-torch.arange(0, shape.head, 2, dtype=torch.float64) / shape.head)
    angles = torch.outer(torch.arange(shape.context_tokens, dtype=torch.float64), inverse)
    return angles.cos().float(), angles.sin().float()


def rotate(states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """`states` (batch, heads, tokens, head) turned by position, neighbours paired as llama.cpp's `llama` does."""
    even, odd = states[..., 0::2], states[..., 1::2]
    return torch.stack((even * cosines - odd * sines, even * sines + odd * cosines), dim=-1).flatten(-2)


class Block(nn.Module):
    """Attention and a gated feed-forward network, each on the normed residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv = shape.kv_heads * shape.head
        self.attn_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, kv, bias=False)
        self.attn_v = nn.Linear(shape.width, kv, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, stream: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """`stream` (batch, tokens, width) after this layer."""
        stream = stream + self.attend(self.attn_norm(stream), cosines, sines)
        normed = self.ffn_norm(stream)
        return stream + self.ffn_down(functional.silu(self.ffn_gate(normed)) * self.ffn_up(normed))

    def attend(self, normed: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Causal grouped-query attention over `normed` (batch, tokens, width)."""
        batch, tokens, width = normed.shape

        def split(projected: Tensor, heads: int) -> Tensor:
            return projected.view(batch, tokens, heads, self.shape.head).transpose(1, 2)

        query = rotate(split(self.attn_q(normed), self.shape.heads), cosines, sines)
        key = rotate(split(self.attn_k(normed), self.shape.kv_heads), cosines, sines)
        value = split(self.attn_v(normed), self.shape.kv_heads)
        copies = self.shape.heads // self.shape.kv_heads
        mixed = functional.scaled_dot_product_attention(
            query, key.repeat_interleave(copies, 1), value.repeat_interleave(copies, 1), is_causal=True
        )
        return self.attn_output(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Decoder(nn.Module):
    """The whole model; the output matrix is the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        cosines, sines = rotations(shape)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
                if name.endswith(("attn_output.weight", "ffn_down.weight")):
                    parameter.data /= (2 * shape.layers) ** 0.5

    def hidden(self, tokens: Tensor) -> Tensor:
        """Normed states (batch, tokens, width) of `tokens` (batch, tokens)."""
        stream = self.token_embd(tokens)
        length = tokens.shape[1]
        for block in self.blk:
            stream = block(stream, self.cosines[:length], self.sines[:length])
        return self.output_norm(stream)

    def logits(self, states: Tensor) -> Tensor:
        """Logits (..., vocabulary) of normed `states` (..., width)."""
        return functional.linear(states, self.token_embd.weight)
