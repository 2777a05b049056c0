"""Flatten: an event of any shape as a vector."""

from torch import Tensor

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform


class Flatten(Transform):
    """``(*event) -> (D,)``; log-det 0. A vector stays what it is."""

    def __init__(self, space: Space):
        super().__init__(space, space.flattened())

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return z.unflatten(1, self.domain.event)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), z.new_zeros(len(z))
