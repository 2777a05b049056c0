"""The residual convolutions of NAF's variational autoencoder (Huang et al. 2018; github.com/CW-Huang/NAF), image to vector and
back: its network for MNIST, at other sizes as well."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.net import Net
from laminar.flows.net.reslinear import ResidualLinear, unit_rows
from laminar.flows.space import Context
from laminar.refused import Refused


class ResidualConv(nn.Module):
    """W_0 x + W_2 ELU(W_1 x), 3x3 convolutions with a bias and weight-normed; W_0 and W_1 go by ``stride``."""

    def __init__(self, before: int, after: int, stride: int = 1):
        super().__init__()
        self.skip, self.first = (unit_rows(nn.Conv2d(before, after, 3, stride, padding=1)) for _ in range(2))
        self.second = unit_rows(nn.Conv2d(after, after, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.second(F.elu(self.first(x)))


class Encoder(Net):
    """Images ``(B, C, H, W)`` -> ``(B, arity, D')``: five blocks, three of which halve both sides, and a linear one.

    Args:
        width: channels of the inner blocks, and half of them at the largest sides.
    """

    rank = 3

    def __init__(self, *task: Any, width: int = 32):
        super().__init__(*task)
        channels = [self.seen.event[0] + self.reader.channels, width // 2, width // 2, width, width, width]
        blocks = [ResidualConv(*two, stride) for two, stride in zip(pairwise(channels), (2, 1, 2, 1, 2), strict=True)]
        self.blocks, (height, wide) = nn.ModuleList(blocks), sides(self.seen.event[1:])[-1]
        self.last = ResidualLinear(width * height * wide, self.arity * self.asked.size)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        h = self.reader(x, context)
        for block in self.blocks:
            h = F.elu(block(h))
        return F.elu(self.last(h.flatten(1))).unflatten(1, (self.arity, *self.asked.event))


class Decoder(Net):
    """Vectors ``(B, D)`` -> ``(B, arity, C', H', W')``: two linear blocks, and five of convolutions at sides that double.

    Args:
        width: channels of the inner blocks, and half of them at the largest sides.
        hidden: units between the linear blocks.
    """

    rank = 1

    def __init__(self, *task: Any, width: int = 32, hidden: int = 450):
        super().__init__(*task)
        if not self.asked.is_image:
            raise Refused(f"this decoder answers with images, and an event here has the shape {self.asked.event}: choose a MLP")
        self.width, self.sides = width, sides(self.asked.event[1:])[::-1]
        height, wide = self.sides[0]
        self.first = ResidualLinear(self.seen.size + self.reader.channels, hidden)
        self.second = ResidualLinear(hidden, width * height * wide)
        channels = [width, width, width, width // 2, width // 2, self.outputs]
        self.blocks = nn.ModuleList([ResidualConv(*two) for two in pairwise(channels)])

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        h = F.elu(self.second(F.elu(self.first(self.reader(x, context)))))
        h = h.unflatten(1, (self.width, *self.sides[0]))
        for number, block in enumerate(self.blocks):
            if number % 2 == 0:
                height, wide = self.sides[number // 2 + 1]
                h = F.interpolate(h, scale_factor=2, mode="bilinear")[..., :height, :wide]
            h = block(F.elu(h) if number else h)
        return h.unflatten(1, (self.arity, -1))

    @torch.no_grad()
    def start(self, params: Tensor) -> None:
        bias = self.blocks[-1].skip.bias
        bias.copy_(params.repeat_interleave(bias.numel() // self.arity))


def sides(positions: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Height and width after 0 to 3 halvings, rounded up."""
    found = [tuple(positions)]
    for _ in range(3):
        found.append(tuple((side + 1) // 2 for side in found[-1]))
    return found
