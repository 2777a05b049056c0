"""ResNet: the image conditioner of RealNVP (Dinh, Sohl-Dickstein, Bengio 2016; tensorflow/models research/real_nvp)."""

from typing import Any

from torch import Tensor, cat, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from laminar.flows.net.net import Net, by_pixel, near_zero
from laminar.flows.space import Context


class ResNet(Net):
    """Residual blocks of weight-normalised 3x3 convolutions: images ``(B, C, H, W) -> (B, arity, C', H, W)``.

    h = 2 BatchNorm(x); ReLU([h, -h]); 3x3 conv; ``depth`` pre-activation blocks; the sum of 1x1 convolutions of what
    entered and what left each block; BatchNorm - ReLU - 1x1 conv. Context joins x before the first batch norm.

    Args:
        width: channels of the hidden layers.
        depth: number of residual blocks, of two convolutions each.
        reference: side of the images of the first level. Where the net sees images of half that side the width doubles,
            at a quarter it is four times as large, and so on: RealNVP doubles its width whenever it squeezes. None keeps
            the width.
    """

    rank = 3

    def __init__(self, *task: Any, width: int = 32, depth: int = 4, reference: int | None = None):
        super().__init__(*task)
        before = self.seen.event[0] + self.reader.channels
        # The longer side, because a partition may halve the other one.
        width *= max(1, reference // max(self.seen.event[1:])) if reference else 1
        self.norm_in = nn.BatchNorm2d(before, eps=1e-4)
        nn.init.constant_(self.norm_in.weight, 2.0)
        self.conv_in = weight_norm(nn.Conv2d(2 * before, width, 3, padding=1))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.skips = nn.ModuleList(weight_norm(nn.Conv2d(width, width, 1)) for _ in range(depth + 1))
        self.norm_out = nn.BatchNorm2d(width, eps=1e-4)
        self.head = near_zero(nn.Conv2d(width, self.outputs, 1))

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        h = self.norm_in(by_pixel(self.reader(x, context)))
        h = self.conv_in(F.relu_(cat([h, -h], 1)))
        out = self.skips[0](h)
        for block, skip in zip(self.blocks, self.skips[1:], strict=True):
            h = block(h)
            out += skip(h)
        return self.head(F.relu_(self.norm_out(out))).unflatten(1, (self.arity, -1))


class _Block(nn.Sequential):
    """h + conv(ReLU(norm(conv(ReLU(norm(h))))))."""

    def __init__(self, width: int):
        super().__init__(
            nn.BatchNorm2d(width, eps=1e-4),
            nn.ReLU(inplace=True),
            weight_norm(nn.Conv2d(width, width, 3, padding=1, bias=False)),
            nn.BatchNorm2d(width, eps=1e-4),
            nn.ReLU(inplace=True),
            weight_norm(nn.Conv2d(width, width, 3, padding=1)),
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + super().forward(h)
