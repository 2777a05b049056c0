"""ViT: the conditioner of Jet (Kolesnikov, Pinto, Tschannen 2024; google-research/big_vision models/proj/jet)."""

from typing import Any

import torch
from torch import Tensor, nn

from laminar.flows.net.attention import Block, check_attention
from laminar.flows.net.net import Net, near_zero
from laminar.flows.space import Context


class ViT(Net):
    """A transformer whose tokens are the positions of an image: ``(B, C, H, W) -> (B, arity, C', H, W)``.

    Meant for patches: after ``reshape/patchify`` an image has one position for each patch. Linear in, learned position
    embedding, ``depth`` pre-norm encoder blocks, LayerNorm, linear out. Context joins each token's values.

    Args:
        width: size of a token inside.
        depth: number of encoder blocks; their inner layer is 4 times as wide.
    """

    rank = 3

    def __init__(self, *task: Any, width: int = 512, depth: int = 2, heads: int = 8):
        super().__init__(*task)
        check_attention("vit", self.seen.event, width, heads, "raise the size of the patches")
        channels, *self.sizes = self.seen.event
        self.first = nn.Linear(channels + self.reader.channels, width)
        self.position = nn.Parameter(torch.randn(self.sizes[0] * self.sizes[1], width) * width**-0.5)
        self.blocks = nn.Sequential(*(Block(width, heads, gelu="tanh") for _ in range(depth)))
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.norm = nn.LayerNorm(width)
        self.head = near_zero(nn.Linear(width, self.outputs))

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        tokens = self.reader(x, context).flatten(2).transpose(1, 2)
        h = self.norm(self.blocks(self.first(tokens) + self.position))
        return self.head(h).transpose(1, 2).unflatten(2, self.sizes).unflatten(1, (self.arity, -1))
