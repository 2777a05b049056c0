"""Weight norm that a first batch sets (Salimans, Kingma 2016, https://arxiv.org/abs/1602.07868), of convolutions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.initialise import SetByData


class NormedConv(SetByData):
    """y = exp(g) V x / |V| + b, with a g, a b and a norm for each output channel: ``(B, before, H, W) -> (B, after, H', W')``.

    The first batch gives each channel of y - b the mean 0 and the deviation ``scale``.

    Args:
        kernel: side of V, odd.
        stride: by which the sides shrink, or grow if ``up``.
        mask: bool ``(after, before, kernel, kernel)``, true where V may be other than 0.
    """

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int = 3,
        stride: int = 1,
        up: bool = False,
        scale: float = 0.1,
        mask: Tensor | None = None,
    ):
        super().__init__()
        self.kernel, self.stride, self.up, self.scale = kernel, stride, up, scale
        self.weight = nn.Parameter(torch.empty(after, before, kernel, kernel).normal_(std=0.05))
        self.log_gain = nn.Parameter(torch.full((after,), scale).log())
        self.bias = nn.Parameter(torch.zeros(after))
        self.register_buffer("mask", None if mask is None else mask.to(self.weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.unset():
            self._look(x)
        return self._convolve(x, self.free(), self.bias)

    def free(self) -> Tensor:
        """The weights, ``(after, before, kernel, kernel)``."""
        return self._directions() * self.log_gain.exp()[:, None, None, None]

    def _directions(self) -> Tensor:
        weight = self.weight if self.mask is None else self.weight * self.mask
        return F.normalize(weight, dim=(1, 2, 3))

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.up:
            weight, more = weight.transpose(0, 1), self.stride - 1
            return F.conv_transpose2d(x, weight, bias, self.stride, self.kernel // 2, output_padding=more)
        return F.conv2d(x, weight, bias, self.stride, self.kernel // 2)

    @torch.no_grad()
    def _look(self, x: Tensor) -> None:
        std, mean = torch.std_mean(self._convolve(x, self._directions()).to(self.bias.dtype), (0, 2, 3), correction=0)
        # What is the same everywhere (the top of a hierarchy, before it has learned) has no deviation to set.
        gain = self.scale / torch.where(std > 1e-6, std, 1.0)
        self.log_gain.copy_(gain.log())
        self.bias.sub_(mean * gain)
        self.settle()
