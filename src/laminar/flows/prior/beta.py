"""The Beta prior, for flows that end in the unit interval."""

from math import lgamma

import torch
from scipy.special import betaincinv, betaln, digamma
from torch import Tensor

from laminar.flows import noise
from laminar.flows.numerics import inside, sum_event
from laminar.flows.prior.prior import Prior
from laminar.flows.space import Space
from laminar.refused import Refused


class Beta(Prior):
    """Independent Beta(a, b) on [0, 1]: ``log p(z) = sum_i (a-1) log z_i + (b-1) log(1 - z_i) - log B(a, b)``; -inf outside.

    A value that was rounded to 0 or 1 counts as its neighbour inside. Temperature t samples the density's own power
    p^(1/t), which is Beta(1 + (a-1)/t, 1 + (b-1)/t).
    """

    low, high = 0.0, 1.0

    def __init__(self, space: Space, a: float = 5.0, b: float = 5.0):
        super().__init__(space)
        if min(a, b) <= 0:
            raise Refused(f"prior.a={a} and prior.b={b} must both be positive")
        self.a, self.b = a, b

    def log_prob(self, z: Tensor) -> Tensor:
        log_beta = lgamma(self.a) + lgamma(self.b) - lgamma(self.a + self.b)
        inner = inside(z)
        log_density = (self.a - 1) * inner.log() + (self.b - 1) * torch.log1p(-inner) - log_beta
        return sum_event(torch.where((z >= 0) & (z <= 1), log_density, -torch.inf))

    def entropy(self) -> float:
        a, b = self.a, self.b
        each = betaln(a, b) - (a - 1) * digamma(a) - (b - 1) * digamma(b) + (a + b - 2) * digamma(a + b)
        return self.space.size * float(each)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        if temperature <= 0 or min(temperature + self.a, temperature + self.b) <= 1:
            least = max(0.0, 1 - min(self.a, self.b))
            raise Refused(f"temperature={temperature}: a Beta({self.a}, {self.b}) prior needs one above {least:g}")
        u = noise.uniform(self.like(n))
        quantile = betaincinv(1 + (self.a - 1) / temperature, 1 + (self.b - 1) / temperature, u.double().cpu().numpy())
        return inside(torch.from_numpy(quantile).to(u))
