"""Concat: fully connected dynamics whose layers each see the time (FFJORD, https://arxiv.org/abs/1810.01367)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.net import near_zero
from laminar.flows.net.velocity import Velocity
from laminar.flows.space import Context

# Tangents v times an activation's slope, by what goes in and what comes out.
SLOPES: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]] = {
    nn.Tanh: lambda layer, x, y, v: torch.ops.aten.tanh_backward(v, y),  # v (1 - y^2), in one pass
    nn.Sigmoid: lambda layer, x, y, v: torch.ops.aten.sigmoid_backward(v, y),  # v y (1 - y)
    nn.Softplus: lambda layer, x, y, v: v * torch.sigmoid(layer.beta * x),
    nn.ELU: lambda layer, x, y, v: v * torch.where(x > 0, 1.0, y + layer.alpha),
    nn.SiLU: lambda layer, x, y, v: v * (torch.sigmoid(x) * (1 + x - y)),
}


class TimedLinear(nn.Module):
    """W x + b + c t: ``(B, before) -> (B, after)``."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.linear, self.shift = nn.Linear(before, after), nn.Linear(1, after, bias=False)

    def last(self) -> "TimedLinear":
        """As a net's last layer: about zero, whatever the time."""
        near_zero(self.linear)
        nn.init.zeros_(self.shift.weight)
        return self

    def scale(self, t: Tensor) -> Tensor | None:
        """What W x + b is multiplied by at t ``(B, 1)``, if it is."""
        return None

    def forward(self, x: Tensor, t: Tensor, tangents: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The layer at t ``(B, 1)``; beside it what becomes of tangents ``(B or 1, K, n)`` of the first n values of x."""
        scale, y = self.scale(t), self.linear(x)
        if tangents is not None:
            tangents = F.linear(tangents, self.linear.weight[:, : tangents.shape[2]])
        if scale is not None:
            y = y * scale
            tangents = None if tangents is None else tangents * scale.unsqueeze(1)
        return torch.addcmul(y, t, self.shift.weight.T), tangents


class Concat(Velocity):
    """``depth`` hidden layers of ``width`` units (or channels): events -> dx/dt. Context joins the input's values.

    Args:
        activation: recipe ``()`` of a smooth one. Tanh, sigmoid, softplus, ELU and SiLU carry tangents.

    Attributes:
        layer: what each layer is: ``(before, after)``, called with x, t ``(B, 1)`` and tangents.
    """

    rank = 1
    layer: type[nn.Module] = TimedLinear

    def __init__(self, *task: Any, width: int = 64, depth: int = 3, activation: Callable[[], nn.Module] = nn.Tanh):
        super().__init__(*task)
        values = self.seen.event[0]
        widths = [values + self.reader.channels] + [width] * depth
        self.body = nn.ModuleList(self.layer(a, b) for a, b in pairwise(widths))
        self.head = self.layer(widths[-1], values).last()
        self.activation = activation()

    @property
    def carries(self) -> bool:
        return type(self.activation) in SLOPES

    def forward(self, x: Tensor, t: Tensor, context: Context = None) -> Tensor:
        return self._through(x, t, None, context)[0]

    def carry(self, x: Tensor, t: Tensor, tangents: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        event = self.seen.event
        velocity, moved = self._through(x.unflatten(1, event), t, tangents.unflatten(2, event), context)
        return velocity.flatten(1), moved.flatten(2).expand(len(x), -1, -1)

    def _through(self, x: Tensor, t: Tensor, tangents: Tensor | None, context: Context) -> tuple[Tensor, Tensor | None]:
        x, t = self.reader(x, context), t.unsqueeze(1)
        for layer in self.body:
            before, tangents = layer(x, t, tangents)
            x = self.activation(before)
            if tangents is not None:
                v = tangents.expand(len(x), *tangents.shape[1:])
                tangents = SLOPES[type(self.activation)](self.activation, before.unsqueeze(1), x.unsqueeze(1), v)
        return self.head(x, t, tangents)
