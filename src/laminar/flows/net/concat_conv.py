"""ConcatConv: convolutional dynamics whose layers each see the time (FFJORD on images; github.com/rtqichen/ffjord)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.concat import SLOPES
from laminar.flows.net.net import near_zero
from laminar.flows.net.velocity import Velocity
from laminar.flows.space import Context


class TimedConv(nn.Module):
    """3x3 convolution of x and a plane of t, padded with zeros: ``(B, before, H, W) -> (B, after, H, W)``."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv = nn.Conv2d(before + 1, after, 3, padding=1)  # its last input is the time

    def last(self) -> "TimedConv":
        """As a net's last layer: about zero, whatever the time."""
        near_zero(self.conv)
        return self

    def forward(self, x: Tensor, t: Tensor, tangents: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The layer at t ``(B,)``; beside it what becomes of tangents ``(B or 1, K, n, H, W)`` of the first n planes of x."""
        weight = self.conv.weight
        # The plane is the same for all rows but for its factor t.
        ones = F.conv2d(x.new_ones(1, 1, *x.shape[2:]), weight[:, -1:], padding=1)
        y = F.conv2d(x, weight[:, :-1], self.conv.bias, padding=1) + t[:, None, None, None] * ones
        if tangents is not None:
            moved = F.conv2d(tangents.flatten(0, 1), weight[:, : tangents.shape[2]], padding=1)
            tangents = moved.unflatten(0, tangents.shape[:2])
        return y, tangents


class ConcatConv(Velocity):
    """``depth`` hidden layers of ``width`` channels: images ``(B, C, H, W)`` -> dx/dt. Context joins the channels.

    Args:
        activation: recipe ``()`` of a smooth one. Tanh, sigmoid, softplus, ELU and SiLU carry tangents.
    """

    rank = 3

    def __init__(self, *task: Any, width: int = 64, depth: int = 3, activation: Callable[[], nn.Module] = nn.Softplus):
        super().__init__(*task)
        channels = self.seen.event[0]
        widths = [channels + self.reader.channels] + [width] * depth
        self.body = nn.ModuleList(TimedConv(a, b) for a, b in pairwise(widths))
        self.head = TimedConv(widths[-1], channels).last()
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
        x = self.reader(x, context)
        for layer in self.body:
            before, tangents = layer(x, t, tangents)
            x = self.activation(before)
            if tangents is not None:
                tangents = tangents * SLOPES[type(self.activation)](self.activation, before, x).unsqueeze(1)
        return self.head(x, t, tangents)
