"""MaskedConv: the autoregressive convolutions of IAF's code (Kingma et al. 2016, https://arxiv.org/abs/1606.04934;
github.com/openai/iaf)."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.causal import Causal, Solve
from laminar.flows.net.normed_conv import NormedConv
from laminar.flows.order.interleaved import Interleaved
from laminar.flows.space import Context
from laminar.refused import Refused


class MaskedConv(Causal):
    """3x3 convolutions and ELUs, weight-normed: images ``(B, C, H, W) -> (B, arity, C, H, W)``; a step is one value.

    Every channel sees the row above and what stands to its left there, and of its own position the channels before it: a field
    that grows by one with each layer, and has PixelCNN's blind spot to the right. Context of ``width`` planes is added to the
    first hidden layer as it is (the first value of all, which sees no unit, hears nothing of it); other context goes through a
    1x1 convolution, to that layer and to the answer.

    Args:
        width: channels of a hidden layer, a multiple of the event's.
        depth: hidden layers.
        gain: what the answer is multiplied by, so that a step is small at the start.
    """

    rank = 3
    image_nets = "net=masked_conv, net=pixelcnn or net=made"

    def __init__(self, *task: Any, width: int = 160, depth: int = 2, gain: float = 0.1, **order: Any):
        super().__init__(*task, **order)
        channels = self.seen.event[0]
        if width % channels or depth < 1:
            raise Refused(
                f"net=masked_conv with size.width={width} and size.depth={depth} cannot deal its units out to {channels} "
                "channels: take a width that is a multiple of them, and at least one hidden layer"
            )
        ranks, forth = self.order.rank.tolist(), Interleaved(self.seen).rank.tolist()
        if ranks not in (forth, forth[::-1]):
            name = type(self.order).__module__.rpartition(".")[2]
            raise Refused(f"net=masked_conv goes channel by channel over the positions, and order={name} does not: choose "
                          "order=interleaved, or net=made")  # fmt: skip
        self.turned, self.gain = ranks != forth, gain
        first, hidden = torch.arange(channels), torch.arange(channels).repeat_interleave(width // channels)
        units = [first, *[hidden] * depth]
        self.layers = nn.ModuleList([_masked(*two) for two in pairwise(units)])
        self.head = _masked(hidden, first.repeat(self.arity), strict=True)
        planes = self.reader.channels
        self.context = nn.Conv2d(planes, width + self.outputs, 1, bias=False) if planes not in (0, width) else nn.Identity()

    def steps(self) -> Any:
        return self.seen

    @torch.no_grad()
    def start(self, params: Tensor) -> None:
        super().start(params / self.gain)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        h, told = self._turn(x), self._told(x, context)
        for number, layer in enumerate([*self.layers, self.head]):
            h = layer(h if number == 0 else F.elu(h))
            h = h + told[number] if number in told else h
        return self._turn(self.gain * h).unflatten(1, (self.arity, -1))

    def sequential(self, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
        # What the row above tells is one convolution for each row, what the left neighbour tells one product for each position;
        # a channel then costs what its own units see of their position.
        z, context_of = self._turn(z), self._told(z, context)
        batch, channels, height, wide = z.shape
        layers = [*self.layers, self.head]
        if any(layer.unset() for layer in layers):
            self(x=self._turn(z), context=context)  # as good a batch as any
        kernels = [layer.free() for layer in layers]
        lefts, heres = ([kernel[:, :, 1, column].T for kernel in kernels] for column in (0, 1))
        sizes = [1, *[len(layer.bias) // channels for layer in self.layers]]  # units of a channel, of each kind
        above = [z.new_zeros(batch, size * channels, 1, wide) for size in sizes]
        rows = []
        for i in range(height):
            told = [
                F.conv2d(F.pad(row, (1, 1)), kernel[:, :, :1], layer.bias).squeeze(2)
                for row, kernel, layer in zip(above, kernels, layers, strict=True)
            ]
            for number, planes in context_of.items():
                told[number] = told[number] + planes[:, :, i]
            before, columns = [row.new_zeros(row.shape[:2]) for row in above], []
            for j in range(wide):
                base = [torch.addmm(t[:, :, j], b, left) for t, b, left in zip(told, before, lefts, strict=True)]
                asked = base[-1].unflatten(1, (self.arity, channels))
                here = heres[-1].unflatten(1, (self.arity, channels))
                found = [[] for _ in sizes]
                for c in range(channels):
                    params = asked[:, :, c]
                    if c:
                        params = torch.addmm(params, torch.cat(found[-1], 1), here[: c * sizes[-1], :, c])
                    h = solve(z[:, c : c + 1, i, j], self.gain * params.unsqueeze(2))
                    found[0].append(h)
                    for number, size in enumerate(sizes[1:]):
                        own = slice(c * size, (c + 1) * size)
                        seen = torch.cat(found[number], 1)
                        h = F.elu(torch.addmm(base[number][:, own], seen, heres[number][: seen.shape[1], own]))
                        found[number + 1].append(h)
                before = [torch.cat(pieces, 1) for pieces in found]
                columns.append(before)
            above = [torch.stack(row, 2).unsqueeze(2) for row in zip(*columns, strict=True)]
            rows.append(above[0])
        return self._turn(torch.cat(rows, 2))

    def _turn(self, image: Tensor) -> Tensor:
        """From the order's way to the kernels' and back; of an answer, each kind of parameter by itself."""
        if not self.turned:
            return image
        return image.unflatten(1, (-1, self.seen.event[0])).flip((2, 3, 4)).flatten(1, 2)

    def _told(self, x: Tensor, context: Context) -> dict[int, Tensor]:
        """What the context adds to layers, by their number."""
        if not self.reader.channels:
            return {}
        planes = self.context(self.reader.read(x, context))
        planes = planes.flip((2, 3)) if self.turned else planes
        width = len(self.layers[0].bias)
        told = {0: planes[:, :width]}
        return told | {len(self.layers): planes[:, width:]} if planes.shape[1] > width else told


def _masked(before: Tensor, after: Tensor, strict: bool = False) -> NormedConv:
    """A convolution from units of the channels ``before`` to units of the channels ``after``, which see the row above, their
    left neighbour, and at their own position the channels up to theirs, or before it."""
    mask = torch.zeros(len(after), len(before), 3, 3, dtype=torch.bool)
    mask[:, :, 0] = mask[:, :, 1, 0] = True
    mask[:, :, 1, 1] = before < after[:, None] if strict else before <= after[:, None]
    return NormedConv(len(before), len(after), scale=1.0, mask=mask)
