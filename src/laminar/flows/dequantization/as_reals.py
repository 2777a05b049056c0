"""AsReals: integers fitted as if they were reals, to see what goes wrong."""

from torch import Tensor

from laminar.flows.dequantization.dequantization import Dequantization
from laminar.flows.space import Context, Space


class AsReals(Dequantization):
    """z = x, contribution 0; x is the level that z is nearest to.

    A density of reals has no upper bound on integers: it grows a spike on each, and its number falls for ever. That number
    bounds no probability and compares with no other, so it is called ``not_a_likelihood``.
    """

    unit = "not_a_likelihood"

    def __init__(self, space: Space):
        super().__init__(space, "as_reals")

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z = x.to(self.levels.dtype)
        return z, z.new_zeros(len(z))
