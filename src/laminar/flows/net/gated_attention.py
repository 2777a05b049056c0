"""GatedAttention: the conditioner of Flow++ (Ho et al. 2019; github.com/aravindsrinivas/flowpp)."""

from typing import Any

import torch
from torch import Tensor, nn

from laminar.flows.net.attention import check_attention
from laminar.flows.net.data_init import Conv3x3, DataInit, normalise_weights
from laminar.flows.net.gated import GatedBlock, concat_elu
from laminar.flows.net.net import Net, near_zero
from laminar.flows.space import Context


class GatedAttention(Net):
    """Gated convolutions and self-attention by turns: images ``(B, C, H, W) -> (B, arity, C', H, W)``.

    3x3 conv; ``depth`` times [gated conv, LayerNorm, gated attention, LayerNorm]; 3x3 conv. Positions have a learned
    embedding, shared by all blocks; the context enters every gated convolution. All layers set their scale on the first batch.

    Args:
        width: channels of the hidden layers.
        depth: number of blocks.
        attention: False replaces attention by a maximum over its three projections: as many parameters, no look around;
            None leaves it out, and the positions that it reads.
        elu_head: whether a concat-ELU stands before the last convolution, which so is twice as wide (ImageNet).
        weight_norm: whether lengths and directions of weights are apart (ImageNet 32x32).
    """

    rank = 3

    def __init__(
        self,
        *task: Any,
        width: int = 96,
        depth: int = 10,
        heads: int = 4,
        dropout: float = 0.2,
        attention: bool | None = True,
        elu_head: bool = False,
        weight_norm: bool = False,
    ):
        super().__init__(*task)
        if attention:
            check_attention(
                "gated_attention", self.seen.event, width, heads, "squeeze more before the couplings, or choose attention=false"
            )
        looks = attention is not None
        self.position = nn.Parameter(0.01 * torch.randn(*self.seen.event[1:], width)) if looks else None
        self.first = DataInit(Conv3x3(self.seen.event[0], width))
        self.blocks = nn.ModuleList(
            GatedBlock(width, self.reader.channels, dropout, heads=heads, attention=attention) for _ in range(depth)
        )
        self.before_head = concat_elu if elu_head else nn.Identity()
        self.head = DataInit(near_zero(Conv3x3(width * (1 + elu_head), self.outputs)), gain=0.1)
        if weight_norm:
            normalise_weights(self)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        given = self.reader.read(x, context).permute(0, 2, 3, 1) if self.reader.channels else None
        h = self.first(x.permute(0, 2, 3, 1))
        for block in self.blocks:
            h = block(h, self.position, given)
        return self.head(self.before_head(h)).permute(0, 3, 1, 2).unflatten(1, (self.arity, -1))
