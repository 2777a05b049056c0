"""GatedAttention: the conditioner of Flow++ (Ho et al. 2019; github.com/aravindsrinivas/flowpp)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.attention import attend, check_attention
from laminar.flows.net.gated import Conv3x3, DataInit, GatedConv
from laminar.flows.net.net import Net, near_zero
from laminar.flows.space import Context


class GatedAttention(Net):
    """Gated convolutions and self-attention by turns: images ``(B, C, H, W) -> (B, arity, C', H, W)``.

    3x3 conv; ``depth`` times [gated conv, LayerNorm, gated attention, LayerNorm]; 3x3 conv. Positions have a learned
    embedding, shared by all blocks; the context enters every gated convolution. All layers set their scale on the first batch.

    Args:
        width: channels of the hidden layers.
        depth: number of blocks.
        attention: False replaces attention by a maximum over its three projections: as many parameters, no look around.
    """

    rank = 3

    def __init__(
        self,
        *task: Any,
        width: int = 96,
        depth: int = 10,
        heads: int = 4,
        dropout: float = 0.2,
        attention: bool = True,
    ):
        super().__init__(*task)
        if attention:
            check_attention(
                "gated_attention", self.seen.event, width, heads, "squeeze more before the couplings, or choose attention=false"
            )
        self.position = nn.Parameter(0.01 * torch.randn(*self.seen.event[1:], width))
        self.first = DataInit(Conv3x3(self.seen.event[0], width))
        self.blocks = nn.ModuleList(_Block(width, self.reader.channels, heads, dropout, attention) for _ in range(depth))
        self.head = DataInit(near_zero(Conv3x3(width, self.outputs)), gain=0.1)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        given = self.reader.read(x, context).permute(0, 2, 3, 1) if self.reader.channels else None
        h = self.first(x.permute(0, 2, 3, 1))
        for block in self.blocks:
            h = block(h, self.position, given)
        return self.head(h).permute(0, 3, 1, 2).unflatten(1, (self.arity, -1))


class _Block(nn.Module):
    def __init__(self, width: int, context: int, heads: int, dropout: float, attention: bool):
        super().__init__()
        self.mix = partial(attend, heads=heads) if attention else _largest
        self.conv = GatedConv(width, context, dropout)
        self.norm_conv = nn.LayerNorm(width)
        self.project = DataInit(nn.Linear(width, 3 * width))
        self.dropout = nn.Dropout(dropout)
        self.gate = DataInit(nn.Linear(width, 2 * width), gain=0.1)
        self.norm_mix = nn.LayerNorm(width)

    def forward(self, h: Tensor, position: Tensor, context: Tensor | None) -> Tensor:
        h = self.norm_conv(self.conv(h, context))
        mixed = self.mix(self.project(h + position).flatten(1, 2)).view_as(h)
        return self.norm_mix(h + F.glu(self.gate(self.dropout(mixed)), -1))


def _largest(projections: Tensor) -> Tensor:
    """Of three projections ``(B, T, 3 C)`` the largest for each channel, ``(B, T, C)``."""
    return projections.unflatten(-1, (3, -1)).amax(-2)
