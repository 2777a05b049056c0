"""Affine: pixels rescaled to an interval (Glow's x / 256 - 1/2, Jet's [-1, 1], NICE's [0, 1])."""

from torch import Tensor

from laminar.flows.preprocessing.bounded import slope_of
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform


class Affine(Transform):
    """z = low + (high - low) x / upper, for x in [0, upper); log-det = D log((high - low) / upper).

    Noise may have blurred that range: it is a scale here.
    """

    def __init__(self, space: Space, low: float = -0.5, high: float = 0.5):
        slope, log_det = slope_of(space, "affine", high - low)
        super().__init__(space, space.within(high if low == 0 and not space.blurred else None))
        self.low, self.slope, self.log_det = low, slope, log_det

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.low + self.slope * x, x.new_full((len(x),), self.log_det)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return (z - self.low) / self.slope

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), z.new_full((len(z),), -self.log_det)
