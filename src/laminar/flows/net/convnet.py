"""ConvNet: the conditioner of Glow (Kingma, Dhariwal 2018; github.com/openai/glow)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.initialise import SetByData
from laminar.flows.net.net import Net, by_pixel
from laminar.flows.space import Context


class ConvNet(Net):
    """3x3 conv - ReLU - 1x1 conv - ReLU - 3x3 conv: images ``(B, C, H, W) -> (B, arity, C', H, W)``.

    The last convolution starts at zero, with an output gain ``exp(3 g)`` for each channel.

    Args:
        width: channels of the hidden layers.
        depth: number of hidden layers: the first is 3x3, all others are 1x1. With none, the last convolution is all.
        actnorm: every hidden convolution has an actnorm of its own that sets itself on the first batch; without, a bias.
        edges: every 3x3 convolution also sees a plane that is 1 on the zero padding and 0 inside.
    """

    rank = 3

    def __init__(
        self,
        *task: Any,
        width: int = 512,
        depth: int = 2,
        actnorm: bool = True,
        edges: bool = True,
    ):
        super().__init__(*task)
        channels, *sizes = self.seen.event
        border = sizes if edges else None
        hidden = _ActnormConv if actnorm else _Conv
        widths = [channels + self.reader.channels] + [width] * depth
        layers = []
        for i in range(depth):
            layers += [hidden(widths[i], width, *((1,) if i else (3, border))), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.head = _GainConv(widths[-1], self.outputs, 3, border, std=0.0)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        return self.head(self.body(by_pixel(self.reader(x, context)))).unflatten(1, (self.arity, -1))


class _Conv(nn.Conv2d):
    """A convolution that can mark its zero padding.

    With ``sizes = (H, W)`` it has one more input plane, 1 on the padding and 0 inside. That plane is the same for the
    whole batch, so its share of the output is computed once, not per image.
    """

    def __init__(self, before: int, after: int, kernel: int, sizes: list[int] | None = None, std: float = 0.05):
        super().__init__(before, after, kernel, padding=kernel // 2)
        nn.init.normal_(self.weight, std=std)
        nn.init.zeros_(self.bias)
        self.edge = None
        if sizes:
            self.edge = nn.Parameter(torch.empty(after, 1, kernel, kernel).normal_(std=std))
            plane = F.pad(torch.zeros(1, 1, *sizes), [kernel // 2] * 4, value=1.0)
            self.register_buffer("plane", plane, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight, self.bias, self.edge)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor, edge: Tensor | None) -> Tensor:
        y = F.conv2d(x, weight, bias, padding=self.padding)
        return y if edge is None else y.add_(by_pixel(F.conv2d(self.plane, edge)))


class _GainConv(_Conv):
    """``(conv(x) + bias) * exp(3 log_gain)``: the gain is folded into the weights, so that it costs no pass over images."""

    def __init__(self, before: int, after: int, kernel: int, sizes: list[int] | None = None, std: float = 0.05):
        super().__init__(before, after, kernel, sizes, std)
        self.log_gain = nn.Parameter(torch.zeros(after))

    def forward(self, x: Tensor) -> Tensor:
        gain = torch.exp(3 * self.log_gain)
        planes = gain[:, None, None, None]
        edge = None if self.edge is None else self.edge * planes
        return self.convolve(x, self.weight * planes, self.bias * gain, edge)


class _ActnormConv(SetByData, _GainConv):
    """The first batch sets bias and gain such that every output channel has mean 0 and variance 1 on it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.unset():
            self._look(x)
        return super().forward(x)

    @torch.no_grad()
    def _look(self, x: Tensor) -> None:
        std, mean = torch.std_mean(super().forward(x), (0, 2, 3), correction=0)
        self.bias.sub_(mean)
        self.log_gain.sub_(torch.log(std + 1e-6) / 3)
        self.settle()
