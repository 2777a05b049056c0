"""None: the data as it is."""

from torch import Tensor

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform


class Identity(Transform):
    """z = x; log-det 0."""

    def __init__(self, space: Space):
        super().__init__(space)

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return z

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return z, z.new_zeros(len(z))
