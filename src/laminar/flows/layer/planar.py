"""Planar flow (Rezende, Mohamed 2015, https://arxiv.org/abs/1505.05770, section 4.1)."""

from collections.abc import Callable
from math import e, log

import torch
from torch import Tensor
from torch.nn import functional as F

from laminar.flows.layer.oneway import OneWay
from laminar.flows.net.net import Net
from laminar.flows.space import Context, Space


class Planar(OneWay):
    """z = x + u tanh(w x + b);  log-det log(1 + (u w) tanh'(w x + b)): one hidden unit, which moves x along u.

    It is a bijection for u w > -1, so u is given what it lacks of that along w: u w becomes softplus(u w + log(e - 1)) - 1.
    Begins near the identity, u = 0.
    """

    def __init__(self, space: Space, net: Callable[..., Net] | None = None):
        along, seen = torch.randn(2, space.size) / space.size**0.5
        super().__init__(space, (0.01 * along, seen, torch.zeros(1)), net)

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        u, w, b = self.params(x, context)
        inner = (u * w).sum(1, keepdim=True)
        product = F.softplus(inner + log(e - 1)) - 1
        u = u + (product - inner) * w / (w.square().sum(1, keepdim=True) + torch.finfo(x.dtype).eps)
        bend = torch.tanh((w * x).sum(1, keepdim=True) + b)
        return x + u * bend, torch.log1p((u * w).sum(1) * (1 - bend.square()).squeeze(1))
