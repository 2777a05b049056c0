"""The standard logistic prior (NICE, Dinh et al. 2014)."""

from torch import Tensor
from torch.nn.functional import softplus

from laminar.flows import noise
from laminar.flows.numerics import logistic_quantile, sum_event
from laminar.flows.prior.prior import Prior


class Logistic(Prior):
    """Independent standard logistics: ``log p(z) = sum_i -|z_i| - 2 log(1 + e^-|z_i|)``. Temperature multiplies the scale."""

    def log_prob(self, z: Tensor) -> Tensor:
        size = z.abs()
        return -sum_event(size + 2 * softplus(-size))

    def entropy(self) -> float:
        return 2.0 * self.space.size

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        return temperature * logistic_quantile(noise.uniform(self.like(n)))
