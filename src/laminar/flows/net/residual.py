"""Residual: the conditioner of neural spline flows (Durkan, Bekasov, Murray, Papamakarios 2019; github.com/bayesiains/nsf)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from laminar.flows.net.net import Net, near_zero
from laminar.flows.space import Context


class Residual(Net):
    """Pre-activation residual blocks of two layers, fully connected for vectors and 3x3 convolutions for images.

    ``(B, D) -> (B, arity, D')``, or ``(B, C, H, W) -> (B, arity, C', H, W)`` with 1x1 convolutions at both ends.
    Context is appended to the input, and gates what each block adds.

    Args:
        width: units, or channels, of the hidden layers.
        depth: number of residual blocks.
        batch_norm: a batch norm before each activation.
    """

    def __init__(
        self,
        *task: Any,
        width: int = 256,
        depth: int = 2,
        dropout: float = 0.0,
        batch_norm: bool = False,
    ):
        super().__init__(*task)
        context = self.reader.channels
        pointwise, layer, norm = _IMAGE_PARTS if self.seen.is_image else _VECTOR_PARTS
        norm = partial(norm, eps=1e-3) if batch_norm else nn.Identity
        self.first = pointwise(self.seen.event[0] + context, width)
        self.blocks = nn.ModuleList(
            _Block(
                nn.Sequential(
                    norm(width),
                    nn.ReLU(),
                    layer(width, width),
                    norm(width),
                    nn.ReLU(inplace=True),
                    nn.Dropout(dropout),
                    _small(layer(width, width)),
                ),
                pointwise(context, width) if context else None,
            )
            for _ in range(depth)
        )
        self.head = near_zero(pointwise(width, self.outputs))

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        given = self.reader.read(x, context) if self.reader.channels else None
        h = self.first(x if given is None else torch.cat([x, given], 1))
        for block in self.blocks:
            h = block(h, given)
        return self.head(h).unflatten(1, (self.arity, -1))


_VECTOR_PARTS = nn.Linear, nn.Linear, nn.BatchNorm1d
_IMAGE_PARTS = partial(nn.Conv2d, kernel_size=1), partial(nn.Conv2d, kernel_size=3, padding=1), nn.BatchNorm2d


class _Block(nn.Module):
    """h + body(h) sigmoid(gate(context))."""

    def __init__(self, body: nn.Module, gate: nn.Module | None):
        super().__init__()
        self.body, self.gate = body, gate

    def forward(self, h: Tensor, context: Tensor | None) -> Tensor:
        added = self.body(h)
        return h + (added if self.gate is None else added * torch.sigmoid(self.gate(context)))


def _small(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The last layer of a block, so that the block starts as the identity, nearly."""
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -1e-3, 1e-3)
    return layer
