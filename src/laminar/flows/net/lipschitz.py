"""Lipschitz: the residual branch of i-ResNet and Residual Flows (https://arxiv.org/abs/1811.00995, 1906.02735)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.contraction import Contraction
from laminar.flows.net.lipswish import LipSwish, copies_of
from laminar.flows.space import Context
from laminar.refused import Refused


class Lipschitz(Contraction):
    """``depth`` hidden layers with an activation before each linear map, the first one's too.

    On images 3x3 convolutions at both ends and 1x1 between them; fully connected on vectors, and on images seen as such.

    Args:
        width: units, or channels, of the hidden layers; an activation that concatenates makes half of them from others.
        activation: recipe ``()`` of one whose slopes are at most 1: LipSwish, CLipSwish, ELU.
        first: no activation stands before the first map: the first block of a flow, whose x is data.
        bound: options of ``Contraction``.
    """

    def __init__(
        self,
        *task: Any,
        width: int = 512,
        depth: int = 2,
        activation: Callable[[], nn.Module] = LipSwish,
        first: bool = False,
        **bound: Any,
    ):
        super().__init__(*task, **bound)
        channels, copies = self.seen.event[0], copies_of(activation)
        if depth < 1 or width % copies:
            raise Refused(f"size.depth={depth} is 1 or more, and size.width={width} a multiple of {copies} for this activation")
        widths = [channels if first else channels * copies, *[width] * depth, channels]
        widths[0] += self.reader.channels
        kernels = [3, *[1] * (depth - 1), 3]
        self.before = None if first else activation()
        self.maps = nn.ModuleList(
            self.linear(a, b if last else b // copies, kernel)
            for (a, b), kernel, last in zip(pairwise(widths), kernels, [*[False] * depth, True], strict=True)
        )
        self.activations = nn.ModuleList(activation() for _ in range(depth))

    @property
    def carries(self) -> bool:
        return self.seen.is_vector and isinstance(self.activations[0], LipSwish)

    def carry(
        self, x: Tensor, tangents: Tensor, context: Context = None, weights: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        for activation, layer, weight in self._layers(weights):
            if activation is not None:
                x, tangents = activation.carry(x, tangents)
            x = self.reader(x, context) if layer is self.maps[0] else x
            x, tangents = layer(x, weight), F.linear(tangents, weight[:, : tangents.shape[2]])
        return x, tangents

    def linearised(
        self, x: Tensor, context: Context = None, weights: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        chain = []
        for activation, layer, weight in self._layers(weights):
            slope = None
            if activation is not None:
                x, (slope,) = activation.carry(x, x.new_ones(1, 1, x.shape[1]))
            chain.append((slope, weight[:, : x.shape[1]]))
            x = layer(self.reader(x, context) if layer is self.maps[0] else x, weight)

        def push(tangents: Tensor) -> Tensor:
            for slope, weight in chain:
                if slope is not None:
                    copies = slope.shape[1] // tangents.shape[2]
                    tangents = (tangents.repeat(1, 1, copies) if copies > 1 else tangents) * slope
                tangents = F.linear(tangents, weight)
            return tangents

        return x, push

    def _layers(self, weights: Sequence[Tensor] | None) -> Iterator[tuple[nn.Module | None, nn.Module, Tensor]]:
        """Of each map the activation before it, itself, and its weight."""
        weights = self.bounded() if weights is None else weights
        return zip([self.before, *self.activations], self.maps, weights, strict=True)

    def through(self, x: Tensor, context: Context, weights: Iterator[Tensor]) -> Tensor:
        x = x if self.before is None else self.before(x)
        x = self.maps[0](self.reader(x, context), next(weights))
        for activation, layer in zip(self.activations, self.maps[1:], strict=True):
            x = layer(activation(x), next(weights))
        return x
