"""The parts of Flow++'s networks (Ho et al. 2019; github.com/aravindsrinivas/flowpp). Tensors are ``(B, H, W, C)`` here."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.initialise import SetByData
from laminar.refused import Refused


def concat_elu(h: Tensor) -> Tensor:
    """ELU of [h, -h]: twice the channels."""
    return F.elu(torch.cat([h, -h], -1))


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution of ``(B, H, W, C)``; the permutations only rename the axes of a channels-last tensor."""

    def __init__(self, before: int, after: int):
        super().__init__(before, after, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class DataInit(SetByData):
    """A layer that sets itself on the first batch: each output channel has standard deviation ``gain`` there.

    Its mean is what the bias was before, 0 unless the layer is a head.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, gain: float = 1.0):
        super().__init__()
        self.layer, self.gain = layer, gain
        nn.init.zeros_(layer.bias)

    @property
    def bias(self) -> nn.Parameter:
        return self.layer.bias

    def forward(self, h: Tensor) -> Tensor:
        if self.unset():
            self._look(h)
        return self.layer(h)

    @torch.no_grad()
    def _look(self, h: Tensor) -> None:
        std, mean = torch.std_mean((self.layer(h) - self.bias).flatten(0, -2), 0, correction=0)
        scale = self.gain / (std + 1e-8)
        self.layer.weight.mul_(scale.view(-1, *[1] * (self.layer.weight.dim() - 1)))
        self.bias.sub_(mean * scale)
        self.settle()


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


class Features(nn.Module):
    """What Flow++'s dequantizer reads of an image: ``(B, C, H, W) -> (B, width, H, W / columns)``.

    Neighbouring columns become channels, as the couplings of its q(u | x) see half of the columns; then a 3x3 convolution
    and ``depth`` gated ones.

    Attributes:
        event: shape of the features.
    """

    def __init__(self, event: tuple[int, ...], width: int = 32, depth: int = 3, columns: int = 2, dropout: float = 0.0):
        super().__init__()
        if len(event) != 3 or event[2] % columns:
            raise Refused(
                f"the features of a variational dequantizer fold {columns} columns of an image into one, and the event "
                f"here is {tuple(event)}: choose columns=1, or dequantization=uniform for what is no image"
            )
        channels, height, wide = event
        self.event, self.columns = (width, height, wide // columns), columns
        self.first = DataInit(Conv3x3(channels * columns, width))
        self.blocks = nn.ModuleList(GatedConv(width, dropout=dropout, second=Conv3x3) for _ in range(depth))

    def forward(self, image: Tensor) -> Tensor:
        h = self.first(image.permute(0, 2, 3, 1).unflatten(2, (-1, self.columns)).flatten(3))
        for block in self.blocks:
            h = block(h)
        return h.permute(0, 3, 1, 2)
