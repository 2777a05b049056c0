"""The parts of Flow++'s networks (Ho et al. 2019; github.com/aravindsrinivas/flowpp). Tensors are ``(B, H, W, C)`` here."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.attention import attend
from laminar.flows.net.data_init import Conv3x3, DataInit, normalise_weights
from laminar.refused import Refused


def concat_elu(h: Tensor) -> Tensor:
    """ELU of [h, -h]: twice the channels."""
    return F.elu(torch.cat([h, -h], -1))


class GatedConv(nn.Module):
    """h + a sigmoid(b), where [a, b] = second(concat_elu(3x3 conv(concat_elu(h)) + projection of the context)).

    Args:
        width: channels of h.
        context: channels of the context, 0 for none.
        second: the second layer, ``(before, after)``: pointwise, or ``Conv3x3``.
    """

    def __init__(self, width: int, context: int = 0, dropout: float = 0.0, second: type[nn.Module] = nn.Linear):
        super().__init__()
        self.first = DataInit(Conv3x3(2 * width, width))
        self.context = DataInit(nn.Linear(2 * context, width)) if context else None
        self.dropout = nn.Dropout(dropout)
        self.second = DataInit(second(2 * width, 2 * width), gain=0.1)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        inner = self.first(concat_elu(h))
        if self.context is not None:
            inner = inner + self.context(concat_elu(context))
        return h + F.glu(self.second(self.dropout(concat_elu(inner))), -1)


class GatedBlock(nn.Module):
    """A gated convolution and LayerNorm; then gated attention and LayerNorm.

    Args:
        width, context, dropout, second: see ``GatedConv``.
        attention: False replaces attention by a maximum over its three projections, as many parameters that look nowhere;
            None leaves it out, with the LayerNorm behind it.
    """

    def __init__(
        self,
        width: int,
        context: int = 0,
        dropout: float = 0.0,
        second: type[nn.Module] = nn.Linear,
        heads: int = 4,
        attention: bool | None = True,
    ):
        super().__init__()
        self.conv = GatedConv(width, context, dropout, second)
        self.norm_conv = nn.LayerNorm(width)
        self.mix = None if attention is None else partial(attend, heads=heads) if attention else _largest
        if self.mix:
            self.project = DataInit(nn.Linear(width, 3 * width))
            self.dropout = nn.Dropout(dropout)
            self.gate = DataInit(nn.Linear(width, 2 * width), gain=0.1)
            self.norm_mix = nn.LayerNorm(width)

    def forward(self, h: Tensor, position: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        h = self.norm_conv(self.conv(h, context))
        if self.mix is None:
            return h
        mixed = self.mix(self.project(h + position).flatten(1, 2)).view_as(h)
        return self.norm_mix(h + F.glu(self.gate(self.dropout(mixed)), -1))


def _largest(projections: Tensor) -> Tensor:
    """Of three projections ``(B, T, 3 C)`` the largest for each channel, ``(B, T, C)``."""
    return projections.unflatten(-1, (3, -1)).amax(-2)


class Features(nn.Module):
    """What Flow++'s dequantizer reads of an image: ``(B, C, H, W) -> (B, width, H, W / columns)``.

    Neighbouring columns become channels, as the couplings of its q(u | x) see half of the columns; then a 3x3 convolution
    and ``depth`` gated ones.

    Args:
        norm: whether a LayerNorm follows each of them.
        heads: of attention, which then follows each LayerNorm with another one; 0 for none.
        weight_norm: whether lengths and directions of weights are apart.

    Attributes:
        event: shape of the features.
    """

    def __init__(
        self,
        event: tuple[int, ...],
        width: int = 32,
        depth: int = 3,
        columns: int = 2,
        dropout: float = 0.0,
        norm: bool = False,
        heads: int = 0,
        weight_norm: bool = False,
    ):
        super().__init__()
        if len(event) != 3 or event[2] % columns:
            raise Refused(
                f"the features of a variational dequantizer fold {columns} columns of an image into one, and the event "
                f"here is {tuple(event)}: choose columns=1, or dequantization=uniform for what is no image"
            )
        channels, height, wide = event
        self.event, self.columns = (width, height, wide // columns), columns
        self.first = DataInit(Conv3x3(channels * columns, width))
        block = partial(GatedBlock, heads=heads, attention=True if heads else None) if norm else GatedConv
        self.blocks = nn.ModuleList(block(width, dropout=dropout, second=Conv3x3) for _ in range(depth))
        self.position = nn.Parameter(0.01 * torch.randn(height, wide // columns, width)) if norm and heads else None
        if weight_norm:
            normalise_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        h = self.first(image.permute(0, 2, 3, 1).unflatten(2, (-1, self.columns)).flatten(3))
        for block in self.blocks:
            h = block(h, self.position) if isinstance(block, GatedBlock) else block(h)
        return h.permute(0, 3, 1, 2)
