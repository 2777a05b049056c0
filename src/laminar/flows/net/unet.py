"""UNet: the network of guided diffusion (Dhariwal, Nichol 2021, https://arxiv.org/abs/2105.05233), which flow matching took
over (Lipman et al. 2022, https://arxiv.org/abs/2210.02747; github.com/atong01/conditional-flow-matching)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.attention import check_attention
from laminar.flows.net.context import ContextReader
from laminar.flows.net.net import near_zero
from laminar.flows.net.timed_blocks import SpatialAttention, Stage, TimedBlock, embed, group_norm
from laminar.flows.net.velocity import Velocity
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class UNet(Velocity):
    """Residual blocks at falling resolutions and back, each told the time: images ``(B, C, H, W)`` -> dx/dt.

    Going down every block's result is kept, and joins the channels of a block on the way up. Context vectors join the time's
    embedding by a linear map; context maps join the channels of the image.

    Args:
        width: channels at full resolution.
        depth: residual blocks of a resolution on the way down; there is one more on the way up.
        multipliers: of the width, for each resolution; between two of them the sides halve.
        attention: sides at which every block is followed by attention; the lowest resolution's middle always is.
        head_width: channels of an attention head.
        dropout: in each block, while training.
    """

    rank = 3

    def __init__(
        self,
        *task: Any,
        width: int = 128,
        depth: int = 2,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        attention: Sequence[int] = (16,),
        head_width: int = 64,
        dropout: float = 0.1,
    ):
        super().__init__(*task)
        channels, *sides = self.seen.event
        halvings = len(multipliers) - 1
        if any(side % 2**halvings for side in sides):
            raise Refused(
                f"net=unet halves its images {halvings} times, and {'x'.join(map(str, sides))} cannot be: give net.multipliers "
                "fewer entries, or pad the data"
            )
        if width % 2:
            raise Refused(
                f"net=unet tells the time by pairs of sines and cosines, and size.width={width} is odd: give an even one"
            )
        shapes = self.seen.context
        maps = {name: shape for name, shape in shapes.items() if len(shape) == 3}
        self.vectors = ContextReader(Space((1,), context={name: shape for name, shape in shapes.items() if name not in maps}))
        self.reader = ContextReader(replace(self.seen, context=maps))
        told = 4 * width
        self.time = nn.Sequential(nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told))
        self.given = nn.Linear(self.vectors.channels, told, bias=False) if self.vectors.channels else None
        self.width = width

        def stage(before: int, after: int, side: int) -> Stage:
            block = TimedBlock(before, after, told, dropout)
            return Stage(block, self._attention(after, head_width, sides, side) if side in attention else None)

        here, side, kept = multipliers[0] * width, sides[0], [multipliers[0] * width]
        self.first = nn.Conv2d(channels + self.reader.channels, here, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, multiplier in enumerate(multipliers):
            for _ in range(depth):
                self.down.append(stage(here, multiplier * width, side))
                here = multiplier * width
                kept.append(here)
            if level < halvings:
                self.down.append(Stage(nn.Conv2d(here, here, 3, stride=2, padding=1)))
                kept.append(here)
                side //= 2
        middle = self._attention(here, head_width, sides, side)
        self.middle = nn.ModuleList(
            [Stage(TimedBlock(here, here, told, dropout), middle), Stage(TimedBlock(here, here, told, dropout))]
        )
        for level in reversed(range(len(multipliers))):
            for i in range(depth + 1):
                self.up.append(stage(here + kept.pop(), multipliers[level] * width, side))
                here = multipliers[level] * width
                if level and i == depth:
                    self.up[-1].resize = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(here, here, 3, padding=1))
                    side *= 2
        self.norm = group_norm(here)
        self.head = near_zero(nn.Conv2d(here, channels, 3, padding=1))

    @staticmethod
    def _attention(channels: int, head_width: int, sides: list[int], side: int) -> "SpatialAttention":
        heads = max(1, channels // head_width)
        event = (channels, side, side * sides[1] // sides[0])
        check_attention("unet", event, channels, heads, "choose smaller net.attention")
        return SpatialAttention(channels, heads)

    def forward(self, x: Tensor, t: Tensor, context: Context = None) -> Tensor:
        told = self.time(embed(t, self.width))
        if self.given is not None:
            told = told + self.given(self.vectors.read(x, context))
        told = F.silu(told)
        h = self.first(self.reader(x, context))
        kept = [h]
        for part in self.down:
            h = part(h, told)
            kept.append(h)
        for part in self.middle:
            h = part(h, told)
        for part in self.up:
            h = part(torch.cat([h, kept.pop()], 1), told)
        return self.head(F.silu(self.norm(h)))
