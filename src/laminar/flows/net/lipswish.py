"""LipSwish: smooth activations of Lipschitz constant 1 (Residual Flows, https://arxiv.org/abs/1906.02735; concatenated,
i-DenseNet, https://arxiv.org/abs/2102.02694)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.bend import bend

SMALLEST = 1e-6  # beta, by which it is divided
SILU = nn.SiLU()


class LipSwish(nn.Module):
    """x sigmoid(beta x) / 1.1, with beta = softplus(b) and b = 0.5 at the start: Swish's slope is never above 1.0998.

    It is SiLU in other units, silu(beta x) / (1.1 beta).
    """

    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        beta = self._beta()
        return F.silu(beta * x) / (1.1 * beta)

    def carry(self, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
        """The activation of x ``(B, n)``, and tangents ``(K, B or 1, n)`` times its slope."""
        beta = self._beta()
        y, moved = bend(SILU, beta * x, tangents)
        return y / (1.1 * beta), moved / 1.1

    def _beta(self) -> Tensor:
        return F.softplus(self.b).clamp(min=SMALLEST)


class CLipSwish(LipSwish):
    """LipSwish of x and of -x, one after the other, over 1.004: twice as many channels, and slopes that vanish nowhere."""

    copies = 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.cat([x, -x], 1)) / 1.004

    def carry(self, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
        y, moved = super().carry(torch.cat([x, -x], 1), torch.cat([tangents, -tangents], 2))
        return y / 1.004, moved / 1.004


def copies_of(activation: Callable[[], nn.Module]) -> int:
    """How many channels a recipe's activation makes of one."""
    return getattr(activation(), "copies", 1)
