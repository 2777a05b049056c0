"""Permute: the channels of an image, or the values of a vector, in another fixed order."""

import torch
from torch import Tensor

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Permute(Transform):
    """z[i] = x[order[i]] along the first axis of the event; log-det 0.

    Args:
        order: ``reverse``, or ``random`` (drawn when built, kept in the checkpoint).
    """

    def __init__(self, space: Space, order: str = "random"):
        super().__init__(space, space.reshaped(*space.event))
        if order not in ("random", "reverse"):
            raise Refused(f"mix.order is random or reverse, not {order!r}")
        n = space.event[0]
        forth = torch.randperm(n) if order == "random" else torch.arange(n - 1, -1, -1)
        self.register_buffer("forth", forth)
        self.register_buffer("back", forth.argsort())

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self.forth), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return z.index_select(1, self.back)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), z.new_zeros(len(z))
