"""Permute: the channels or the positions of an image, or the values of a vector, in another fixed order."""

from math import prod

import torch
from torch import Tensor

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Permute(Transform):
    """z[i] = x[order[i]]; log-det 0.

    Args:
        order: ``reverse``, or ``random`` (drawn when built, kept in the checkpoint).
        of: ``channels``, or ``positions``, whose channels stay together. A vector has values alone, which both mean.
    """

    def __init__(self, space: Space, order: str = "random", of: str = "channels"):
        super().__init__(space, space.reshaped(*space.event))
        if order not in ("random", "reverse"):
            raise Refused(f"mix.order is random or reverse, not {order!r}")
        if of not in ("channels", "positions"):
            raise Refused(f"mix.of is channels or positions, not {of!r}")
        self.positions = of == "positions" and space.is_image
        n = prod(space.event[1:]) if self.positions else space.event[0]
        forth = torch.randperm(n) if order == "random" else torch.arange(n - 1, -1, -1)
        self.register_buffer("forth", forth)
        self.register_buffer("back", forth.argsort())

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self._pick(x, self.forth), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return self._pick(z, self.back)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), z.new_zeros(len(z))

    def _pick(self, x: Tensor, index: Tensor) -> Tensor:
        return x.flatten(2).index_select(2, index).view_as(x) if self.positions else x.index_select(1, index)
