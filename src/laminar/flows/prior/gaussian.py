"""The standard normal prior."""

from math import log, pi

from torch import Tensor

from laminar.flows import noise
from laminar.flows.numerics import sum_event
from laminar.flows.prior.prior import Prior


class Gaussian(Prior):
    """N(0, I): ``log p(z) = sum_i -(z_i^2 + log 2 pi) / 2``. Temperature multiplies the standard deviation."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (sum_event(z.square()) + self.space.size * log(2 * pi))

    def entropy(self) -> float:
        return 0.5 * self.space.size * (1 + log(2 * pi))

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        return temperature * noise.normal(self.like(n))
