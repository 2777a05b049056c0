"""DataInit: layers that set their scale by the first batch (Salimans, Kingma 2016, https://arxiv.org/abs/1602.07868), as in
Flow++'s networks. Tensors are ``(B, H, W, C)`` here."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from laminar.flows.initialise import SetByData


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
        apart = nn.utils.parametrize.is_parametrized(self.layer)  # by weight norm: then lengths are what is scaled
        weight = self.layer.parametrizations.weight.original0 if apart else self.layer.weight
        weight.mul_(scale.view(-1, *[1] * (weight.dim() - 1)))
        self.bias.sub_(mean * scale)
        self.settle()


def normalise_weights(net: nn.Module) -> None:
    """Holds the weights of every ``DataInit`` as lengths and directions apart, one of each for an output."""
    for part in [part for part in net.modules() if isinstance(part, DataInit)]:
        weight_norm(part.layer)
