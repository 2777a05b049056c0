"""None: real-valued data, tables and toy sets, needs no dequantization."""

import torch
from torch import Tensor

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Reals(Transform):
    """z = x, in the flow's precision; log-det 0. Refuses integers: a density can be made infinite on them."""

    def __init__(self, space: Space):
        super().__init__(space, space.reals(space.upper))
        if space.levels is not None:
            raise Refused(
                f"dequantization=none takes real values, and the data hold integers ({space.levels} levels), on which a "
                "density has no upper bound: choose dequantization=uniform or dequantization=variational (dequantization="
                "as_reals is there to watch it grow; its number is no likelihood)"
            )
        if space.rounded is not None:
            raise Refused(
                "dequantization=none takes real values as they are, and some of these were rounded (data.resolution): choose "
                "dequantization=uniform"
            )
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # carries the flow's precision

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x = x.to(self.anchor.dtype)
        return x, x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return z

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return z, z.new_zeros(len(z))
