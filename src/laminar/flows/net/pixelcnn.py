"""PixelCNN: convolutions that reach up and to the left (van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu
2016, https://arxiv.org/abs/1606.05328: the gated one, which has no blind spot)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.causal import Causal, Solve
from laminar.flows.net.net import near_zero
from laminar.flows.space import Context
from laminar.refused import Refused


class PixelCNN(Causal):
    """Two stacks of gated residual layers: images ``(B, C, H, W) -> (B, arity, C, H, W)``, a step being one position.

    The channels of a position are answered together, from the positions before it in row-major order (behind it for
    order=reversed, by turning the image round). One stack walks over the rows above; the other along the row so far, and
    reads the first at its own position. No kernel reaches further, so there is nothing to mask. A position sees
    kernel // 2 + ``depth`` rows above it, and as many columns to its sides: a small field leaves what is far to others.

    Args:
        width: channels of either stack.
        depth: layers behind the first one.
        kernel: side of the square of which the first layer reads what comes before its middle.
    """

    rank = 3

    def __init__(self, *task: Any, width: int = 64, depth: int = 6, kernel: int = 5, **order: Any):
        super().__init__(*task, **order)
        if kernel < 3 or kernel % 2 == 0:
            raise Refused(f"net.kernel={kernel} has no middle with neighbours around it: take an odd number from 3 up")
        ranks, forth = self.order.rank.tolist(), list(range(self.steps().size))
        if ranks not in (forth, forth[::-1]):
            name = type(self.order).__module__.rpartition(".")[2]
            raise Refused(
                f"net=pixelcnn goes row by row, and order={name} does not: choose order=sequential, order=reversed or net=made"
            )
        self.turned = ranks != forth
        context = self.reader.channels
        self.layers = nn.ModuleList([_Layer(self.seen.event[0], width, context, kernel // 2, late=1)])
        self.layers += [_Layer(width, width, context) for _ in range(depth)]
        self.last = nn.Conv2d(width, width, 1)
        self.head = near_zero(nn.Conv2d(width, self.outputs, 1))

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        above = left = self._turn(x)
        given = self._given(x, context)
        for layer in self.layers:
            above, told = layer.over(F.pad(above, (0, 0, layer.reach, -layer.late)), above, given)
            read = F.conv2d(F.pad(left, (layer.reach, -layer.late)), layer.left.weight)
            left = layer.along(read + told, left)
        return self._turn(self.head(F.elu(self.last(F.elu(left))))).unflatten(1, (self.arity, -1))

    def sequential(self, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
        # The first stack finishes a row before any of it is drawn, so that behind it a position costs matrix products alone.
        z, given = self._turn(z), self._given(z, context)
        batch, channels, height, wide = z.shape
        above = [z.new_zeros(batch, layer.above.in_channels, layer.reach, wide) for layer in self.layers]  # last rows read
        edges = [[z.new_zeros(batch, layer.above.in_channels)] * layer.reach for layer in self.layers]
        weights = [layer.left.weight[:, :, 0].transpose(1, 2).flatten(1).T for layer in self.layers]
        drawn = []
        for i in range(height):
            here, row, told = None if given is None else given[:, :, i : i + 1], z.new_empty(0), []
            for number, layer in enumerate(self.layers):
                read = above[number] if layer.late else torch.cat([above[number], row], 2)
                row, note = layer.over(read, row, here)
                above[number] = read[:, :, -layer.reach :]
                told.append(note.squeeze(2).unbind(2))
            left, values = [list(edge) for edge in edges], []  # last columns read
            for j in range(wide):
                h = z.new_empty(0)
                for number, layer in enumerate(self.layers):
                    if not layer.late:
                        left[number].append(h)
                    read = torch.addmm(told[number][j], torch.cat(left[number], 1), weights[number])
                    h = layer.along(read, h)
                    del left[number][0]
                params = _pointwise(self.head, F.elu(_pointwise(self.last, F.elu(h))))
                values.append(solve(z[:, :, i, j], params.unflatten(1, (self.arity, channels))))
                left[0].append(values[-1])
            drawn.append(torch.stack(values, 2).unsqueeze(2))
            above[0] = torch.cat([above[0], drawn[-1]], 2)[:, :, 1:]
        return self._turn(torch.cat(drawn, 2))

    def _turn(self, image: Tensor) -> Tensor:
        return image.flip((2, 3)) if self.turned else image

    def _given(self, x: Tensor, context: Context) -> Tensor | None:
        return self._turn(self.reader.read(x, context)) if self.reader.channels else None


class _Layer(nn.Module):
    """One layer of both stacks: h + W tanh(a) sigmoid(b), where [a, b] = convolution of h + map of the context.

    Args:
        reach: how far the kernels reach up, to the left, and in the rows above also to the right.
        late: 1 for the first layer, whose kernels leave out the row, or position, that they stand at. It adds nothing to h.
    """

    def __init__(self, before: int, width: int, context: int, reach: int = 1, late: int = 0):
        super().__init__()
        self.reach, self.late = reach, late
        self.above = nn.Conv2d(before, 2 * width, (reach + 1 - late, 2 * reach + 1), padding=(0, reach))
        self.left = nn.Conv2d(before, 2 * width, (1, reach + 1 - late), bias=False)
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.context = nn.Conv2d(context, 4 * width, 1, bias=False) if context else None
        self.out = nn.Conv2d(width, width, 1)

    def over(self, read: Tensor, above: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """The stack of the rows above, and what it tells the other one."""
        seen = self.above(read)
        told = self.link(seen)
        if given is not None:
            here, there = self.context(given).chunk(2, 1)
            seen, told = seen + here, told + there
        return _gate(seen) if self.late else above + _gate(seen), told

    def along(self, seen: Tensor, left: Tensor) -> Tensor:
        """The stack of the row so far, at all positions or at one."""
        h = _pointwise(self.out, _gate(seen))
        return h if self.late else left + h


def _gate(h: Tensor) -> Tensor:
    a, b = h.chunk(2, 1)
    return a.tanh() * b.sigmoid()


def _pointwise(conv: nn.Conv2d, h: Tensor) -> Tensor:
    """A 1x1 convolution, of images or of a single position ``(B, C)``."""
    return conv(h) if h.dim() > 2 else F.linear(h, conv.weight.flatten(1), conv.bias)
