"""LipSwish: smooth activations of Lipschitz constant 1 (Residual Flows, https://arxiv.org/abs/1906.02735; concatenated,
i-DenseNet, https://arxiv.org/abs/2102.02694)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LipSwish(nn.Module):
    """x sigmoid(beta x) / 1.1, with beta = softplus(b) and b = 0.5 at the start: Swish's slope is never above 1.0998."""

    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(F.softplus(self.b) * x) / 1.1

    def with_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The activation, and its derivative."""
        beta = F.softplus(self.b)
        gate = torch.sigmoid(beta * x)
        y = x * gate / 1.1
        return y, torch.addcmul(gate / 1.1, beta, y - y * gate)


class CLipSwish(LipSwish):
    """LipSwish of x and of -x, one after the other, over 1.004: twice as many channels, and slopes that vanish nowhere."""

    copies = 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.cat([x, -x], 1)) / 1.004

    def with_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        (y, slope), (other, back) = super().with_slope(x), super().with_slope(-x)
        return torch.cat([y, other], 1) / 1.004, torch.cat([slope, -back], 1) / 1.004


def copies_of(activation: Callable[[], nn.Module]) -> int:
    """How many channels a recipe's activation makes of one."""
    return getattr(activation(), "copies", 1)
