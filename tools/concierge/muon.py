"""The Muon optimizer (Jordan 2024) in float32.

PyTorch's own works in bfloat16, which takes over twice as long on a CPU without such instructions.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

STEPS = 5
FACTORS = (3.4445, -4.7750, 2.0315)
"""Quintic of the Newton-Schulz iteration that Muon's author chose."""


def orthogonal(matrix: Tensor) -> Tensor:
    """`matrix` with its singular values brought near 1."""
    a, b, c = FACTORS
    turned = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if turned else matrix
    found = found / (found.norm() + 1e-7)
    for _ in range(STEPS):
        square = found @ found.T
        found = a * found + (b * square + c * square @ square) @ found
    return found.T if turned else found


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, for matrices; weight decay apart from the gradient."""

    def __init__(
        self, matrices: Iterable[Tensor], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                state["momentum"].lerp_(matrix.grad, 1.0 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(state["momentum"], group["momentum"]))
                scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.mul_(1.0 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * scale)
