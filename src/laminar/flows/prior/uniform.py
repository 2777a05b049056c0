"""The uniform prior."""

from math import log

import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.numerics import sum_event
from laminar.flows.prior.prior import Prior
from laminar.flows.space import Space
from laminar.refused import Refused


class Uniform(Prior):
    """Uniform on [low, high]^D: ``log p(z) = -D log(high - low)`` inside, -inf outside, where a flow must not lead.

    Temperature t below 1 narrows the interval about its middle to t times its length; above 1 there is nothing to widen into.
    """

    def __init__(self, space: Space, low: float = 0.0, high: float = 1.0):
        super().__init__(space)
        if not low < high:
            raise Refused(f"prior.low={low} and prior.high={high} enclose nothing: low must be below high")
        self.low, self.high = low, high

    def log_prob(self, z: Tensor) -> Tensor:
        inside = (z >= self.low) & (z <= self.high)
        return sum_event(torch.where(inside, torch.full_like(z, -log(self.high - self.low)), -torch.inf))

    def entropy(self) -> float:
        return self.space.size * log(self.high - self.low)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        length = min(temperature, 1.0) * (self.high - self.low)
        return (self.low + self.high) / 2 + length * (noise.uniform(self.like(n)) - 0.5)
