"""LipschitzDenseNet: the residual branch of i-DenseNet (Perugachi-Diaz, Tomczak, Bhulai 2021,
https://arxiv.org/abs/2102.02694; github.com/yperugachidiaz/invertible_densenets)."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.contraction import Contraction
from laminar.flows.net.lipswish import CLipSwish, copies_of
from laminar.flows.space import Context
from laminar.refused import Refused


class LipschitzDenseNet(Contraction):
    """``depth`` layers that each add ``growth`` channels to what they see, then a linear map (1x1 on images).

    h becomes coefficient (r h, s activation(W h)), where r^2 + s^2 = 1 are learned: concatenation, too, keeps to the bound.

    Args:
        growth: channels after the activation; one that concatenates makes half of them from the others.
        first_width: of a linear map before the dense layers; 0 for none.
        activation: recipe ``()`` of one whose slopes are at most 1.
        first: of a flow; no block begins with an activation here, so that it is like all others.
        bound: options of ``Contraction``.
    """

    def __init__(
        self,
        *task: Any,
        growth: int = 172,
        depth: int = 3,
        first_width: int = 0,
        activation: Callable[[], nn.Module] = CLipSwish,
        first: bool = False,
        **bound: Any,
    ):
        super().__init__(*task, **bound)
        channels, copies = self.seen.event[0], copies_of(activation)
        if depth < 1 or growth % copies:
            raise Refused(f"net.depth={depth} is 1 or more, and net.growth={growth} a multiple of {copies} for this activation")
        width = channels + self.reader.channels
        self.before = self.linear(width, first_width) if first_width else None
        width = first_width or width
        self.maps = nn.ModuleList()
        for _ in range(depth):
            self.maps.append(self.linear(width, growth // copies, 3))
            width += growth
        self.activations = nn.ModuleList(activation() for _ in range(depth))
        self.shares = nn.Parameter(torch.ones(depth, 2))
        self.after = self.linear(width, channels)

    def through(self, x: Tensor, context: Context, weights: Iterator[Tensor]) -> Tensor:
        h = self.reader(x, context)
        h = h if self.before is None else self.before(h, next(weights))
        shares = self.options[0] * F.normalize(F.softplus(self.shares) + 0.1, dim=1)
        for layer, activation, (kept, new) in zip(self.maps, self.activations, shares, strict=True):
            h = torch.cat([kept * h, new * activation(layer(h, next(weights)))], 1)
        return self.after(h, next(weights))
