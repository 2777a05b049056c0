"""ConcatSquash: dynamics whose layers are gated and shifted by the time (FFJORD's for tables; github.com/rtqichen/ffjord)."""

import torch
from torch import Tensor, nn

from laminar.flows.net.concat import Concat, TimedLinear


class GatedLinear(TimedLinear):
    """sigmoid(g t + h) (W x + b) + c t."""

    def __init__(self, before: int, after: int):
        super().__init__(before, after)
        self.gate = nn.Linear(1, after)

    def scale(self, t: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(t))


class ConcatSquash(Concat):
    """``Concat`` with a gate before each shift."""

    layer = GatedLinear
