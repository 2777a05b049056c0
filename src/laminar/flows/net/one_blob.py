"""OneBlob: the conditioner of neural importance sampling (Müller et al. 2018, https://arxiv.org/abs/1808.03856)."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.net import Net, near_zero
from laminar.flows.space import Context
from laminar.refused import Refused


class OneBlob(Net):
    """Vectors ``(B, D)`` in [0, 1]^D -> ``(B, arity, D')``: one-blob encoding, then a fully connected U-net.

    Each value becomes ``bins`` numbers, a Gaussian of deviation 1 / bins about the value, read at the bins' centres: a
    one-hot code that stays smooth. The U-net has ``depth`` nested levels of ReLU layers, one on the way down and one on
    the way up; the outermost are ``width`` wide, each next half of that, and what a level had on the way down is added to
    it on the way up. One linear layer leads into it and one out of it. Context is appended to the encoding.

    The layers' number and widths are as recalled from the paper.
    """

    rank = 1

    def __init__(self, *task: Any, width: int = 256, depth: int = 4, bins: int = 32):
        super().__init__(*task)
        if self.seen.upper != 1.0:
            raise Refused(
                "net=one_blob encodes values of [0, 1], and nothing keeps the values there: choose preprocessing=unit with a "
                "coupling that stays in [0, 1] (coupling=piecewise_quadratic_unit), or net=mlp"
            )
        if width % 2 ** (depth - 1):
            raise Refused(
                f"net=one_blob halves its width {depth - 1} times, and {width} does not divide by {2 ** (depth - 1)}: "
                "change size.width, or lower size.depth"
            )
        self.register_buffer("centres", (torch.arange(bins) + 0.5) / bins, persistent=False)
        widths = [width // 2**level for level in range(depth)]
        self.first = nn.Linear(self.seen.size * bins + self.reader.channels, width)
        self.down = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([width, *widths]))
        self.up = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([widths[-1], *reversed(widths)]))
        self.head = near_zero(nn.Linear(width, self.outputs))

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        h = self.encode(x).flatten(1)
        if self.reader.channels:
            h = torch.cat([h, self.reader.read(x, context)], 1)
        h = self.first(h)
        levels = []
        for layer in self.down:
            h = F.relu(layer(h))
            levels.append(h)
        for layer, level in zip(self.up, reversed(levels), strict=True):
            h = F.relu(layer(h)) + level
        return self.head(h).unflatten(1, (self.arity, -1))

    def encode(self, x: Tensor) -> Tensor:
        """``(B, D) -> (B, D, bins)``: exp(-(x - centre)^2 bins^2 / 2)."""
        return torch.exp(-0.5 * ((x.unsqueeze(-1) - self.centres) * len(self.centres)).square())
