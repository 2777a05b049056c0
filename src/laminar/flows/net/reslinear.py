"""ResLinear: the weight-normed residual linear blocks of NAF's code (Huang et al. 2018; github.com/CW-Huang/torchkit)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from laminar.flows.net.net import Net
from laminar.flows.space import Context
from laminar.refused import Refused


def unit_rows(layer: nn.Module) -> nn.Module:
    """The layer weight-normed, each row of norm 1 at the start, which keeps the scale of what passes through many layers."""
    layer = weight_norm(layer)
    nn.init.ones_(layer.parametrizations.weight.original0)
    return layer


class ResidualLinear(nn.Module):
    """W_0 x + W_2 ReLU(W_1 x), each with a bias and weight-normed: ``(B, before) -> (B, after)``, ``after`` being its width."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.skip, self.first, self.second = (unit_rows(nn.Linear(n, after)) for n in (before, before, after))

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.second(F.relu(self.first(x)))


class ResLinear(Net):
    """A block for each kind of parameter: vectors ``(B, D) -> (B, arity, D')``; context is appended to the input.

    Args:
        norm: of each row's weights at the start. Near zero every answer is what the law starts at; a posterior that starts
            there tells its decoder nothing, which then learns to do without.
    """

    rank = 1

    def __init__(self, *task: Any, norm: float = 1e-3):
        super().__init__(*task)
        if not norm > 0:
            raise Refused(f"net.norm={norm} is the length of a row of weights: give it above 0")
        self.norm = norm
        blocks = [ResidualLinear(self.seen.size + self.reader.channels, self.asked.size) for _ in range(self.arity)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        x = self.reader(x, context)
        return torch.stack([block(x) for block in self.blocks], 1)

    @torch.no_grad()
    def start(self, params: Tensor) -> None:
        for block, value in zip(self.blocks, params, strict=True):
            for layer, bias in ((block.skip, value), (block.second, 0.0)):
                layer.parametrizations.weight.original0.fill_(self.norm)
                layer.bias.fill_(bias)
