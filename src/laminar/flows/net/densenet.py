"""DenseNet: the conditioner of SurVAE flows (Nielsen et al. 2020); DenseFlow (Grcic et al. 2021) adds attention to it."""

from typing import Any

from torch import Tensor, cat, nn
from torch.nn import functional as F

from laminar.flows.net.net import Net, by_pixel, near_zero
from laminar.flows.space import Context


class DenseNet(Net):
    """Residual dense blocks between 1x1 convolutions: images ``(B, C, H, W) -> (B, arity, C', H, W)``.

    Each of a block's ``depth`` layers, 1x1 conv - ReLU - 3x3 conv - ReLU, adds ``growth`` channels to what it read; a gated
    1x1 convolution a + b sigmoid(c) brings them back to ``width``, and the block's input is added.

    Args:
        width: channels between the blocks.
        depth: layers of a block.
        growth: channels that a layer adds.
        blocks: number of blocks.
        gated: False ends a block in a plain 1x1 convolution.
    """

    rank = 3

    def __init__(
        self,
        *task: Any,
        width: int = 48,
        depth: int = 7,
        growth: int = 64,
        blocks: int = 1,
        dropout: float = 0.0,
        gated: bool = True,
    ):
        super().__init__(*task)
        self.first = nn.Conv2d(self.seen.event[0] + self.reader.channels, width, 1)
        self.blocks = nn.Sequential(*(_Block(width, depth, growth, dropout, gated) for _ in range(blocks)))
        self.head = near_zero(nn.Conv2d(width, self.outputs, 1))

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        return self.head(self.blocks(self.first(by_pixel(self.reader(x, context))))).unflatten(1, (self.arity, -1))


class _Block(nn.Module):
    def __init__(self, width: int, depth: int, growth: int, dropout: float, gated: bool):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 1),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Conv2d(channels, growth, 3, padding=1),
                nn.ReLU(inplace=True),
            )
            for channels in range(width, width + depth * growth, growth)
        )
        self.last = nn.Conv2d(width + depth * growth, (3 if gated else 1) * width, 1)
        self.gated = gated

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for layer in self.layers:
            h = cat([h, layer(h)], 1)
        h = self.last(h)
        if self.gated:
            plain, gate = h.split([x.shape[1], 2 * x.shape[1]], 1)
            h = plain + F.glu(gate, 1)
        return x + h
