"""ConcatConv: convolutional dynamics whose layers each see the time (FFJORD on images; github.com/rtqichen/ffjord)."""

from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.concat import Concat
from laminar.flows.net.net import near_zero


class TimedConv(nn.Module):
    """3x3 convolution of x and a plane of t, padded with zeros: ``(B, before, H, W) -> (B, after, H, W)``."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv = nn.Conv2d(before + 1, after, 3, padding=1)  # its last input is the time

    def last(self) -> "TimedConv":
        """As a net's last layer: about zero, whatever the time."""
        near_zero(self.conv)
        return self

    def forward(self, x: Tensor, t: Tensor, tangents: Tensor | None = None) -> tuple[Tensor, Tensor | None, None]:
        """The layer at t ``(B, 1)``; what becomes of tangents of the first n planes of x, ``(K, B or 1, n, H, W)``; and that
        nothing is left to multiply them by."""
        weight = self.conv.weight
        # The plane is the same for all rows but for its factor t.
        ones = F.conv2d(x.new_ones(1, 1, *x.shape[2:]), weight[:, -1:], padding=1)
        y = F.conv2d(x, weight[:, :-1], self.conv.bias, padding=1) + t[:, :, None, None] * ones
        if tangents is not None:
            moved = F.conv2d(tangents.flatten(0, 1), weight[:, : tangents.shape[2]], padding=1)
            tangents = moved.unflatten(0, tangents.shape[:2])
        return y, tangents, None


class ConcatConv(Concat):
    """``Concat`` of convolutions, for images."""

    rank = 3
    layer = TimedConv
