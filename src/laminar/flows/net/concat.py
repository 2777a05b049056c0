"""Concat: fully connected dynamics whose layers each see the time (FFJORD, https://arxiv.org/abs/1810.01367)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.bend import SLOPES, bend
from laminar.flows.net.net import near_zero
from laminar.flows.net.velocity import Velocity
from laminar.flows.space import Context


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

    def forward(self, x: Tensor, t: Tensor, tangents: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The layer at t ``(B, 1)``; W tangents of the first n values of x, ``(K, B or 1, n)``; and what they are yet to be
        multiplied by, if they are."""
        weight, scale = self.linear.weight, self.scale(t)
        y = F.linear(x, weight, self.linear.bias)
        if tangents is not None:
            seen = tangents.shape[2]
            moved = tangents.reshape(-1, seen) @ (weight if seen == weight.shape[1] else weight[:, :seen]).t()
            tangents = moved.view(*tangents.shape[:2], len(weight))
        return torch.addcmul(y if scale is None else y * scale, t, self.shift.weight.view(-1)), tangents, scale


class Concat(Velocity):
    """``depth`` hidden layers of ``width`` units (or channels): events -> dx/dt. Context joins the input's values.

    Args:
        activation: recipe ``()`` of a smooth one. Tanh, sigmoid, softplus, ELU and SiLU carry tangents.

    Attributes:
        layer: what each layer is: ``(before, after)``, called with x, t ``(B, 1)`` and tangents, whose scale it leaves to the
            activation.
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
        if self.seen.is_image:
            x, tangents = x.view(-1, *self.seen.event), tangents.unflatten(2, self.seen.event)
        velocity, moved = self._through(x, t, tangents, context)
        return velocity.flatten(1), moved.flatten(2).expand(-1, len(x), -1)

    def _through(self, x: Tensor, t: Tensor, tangents: Tensor | None, context: Context) -> tuple[Tensor, Tensor | None]:
        x, t = self.reader(x, context), t.unsqueeze(1)
        for layer in self.body:
            x, tangents, scale = layer(x, t, tangents)
            if tangents is None:
                x = self.activation(x)
            else:
                x, tangents = bend(self.activation, x, tangents, scale)
        x, tangents, scale = self.head(x, t, tangents)
        return x, tangents if tangents is None or scale is None else tangents * scale
