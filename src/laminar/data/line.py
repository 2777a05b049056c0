"""1-D data: a density on the line, and integers of known probabilities (the lecture's own examples)."""

from collections.abc import Sequence
from math import log, pi

import numpy as np
import torch
from torch import Tensor

from laminar.data.quadrature import in_float64
from laminar.data.toys import Toy, spread
from laminar.refused import Refused


class Mixture1D(Toy):
    """Equally likely Gaussians, float64 ``(N, 1)``; by default 1/2 N(-1, 1/4^2) + 1/2 N(1/2, 1/2^2), of 1.0101 nats.

    Args:
        means: one for each Gaussian.
        deviations: likewise.
    """

    dtype = np.float64

    def __init__(self, *, means: Sequence[float] = (-1.0, 0.5), deviations: Sequence[float] = (0.25, 0.5), **serving):
        super().__init__(**serving)
        if len(means) != len(deviations) or not len(means):
            raise Refused(f"data.means={[*means]} and data.deviations={[*deviations]}: give both for each Gaussian")
        self.means = np.array(means, dtype=np.float64)
        self.deviations = np.array([spread(deviations=deviation) for deviation in deviations])

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        component = rng.integers(0, len(self.means), n)
        return (self.means[component] + self.deviations[component] * rng.standard_normal(n))[:, None]

    @in_float64
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, ``(B, 1) -> (B,)``."""
        mean, deviation = (torch.from_numpy(values).to(x) for values in (self.means, self.deviations))
        log_density = -0.5 * ((x - mean) / deviation) ** 2 - deviation.log()
        return log_density.logsumexp(1) - log(len(mean)) - 0.5 * log(2 * pi)


class Integers1D(Toy):
    """Integers 0, 1, ..., uint8 ``(N, 1)``, drawn with the probabilities given.

    Args:
        probabilities: one for each integer; they sum to 1.
    """

    dtype = np.uint8

    def __init__(self, *, probabilities: Sequence[float] = (0.05, 0.15, 0.25, 0.05, 0.02, 0.08, 0.25, 0.15), **serving):
        self.probabilities = np.array(probabilities, dtype=np.float64)
        if not 2 <= len(probabilities) <= 256 or min(probabilities) < 0 or abs(self.probabilities.sum() - 1) > 1e-6:
            raise Refused(f"data.probabilities={[*probabilities]} must be 2 to 256 numbers from 0 up whose sum is 1")
        self.levels = len(probabilities)
        super().__init__(**serving)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(self.levels, (n, 1), p=self.probabilities / self.probabilities.sum())

    def log_prob(self, x: Tensor) -> Tensor:
        """log P(x) in nats, ``(B, 1) -> (B,)``, float64."""
        return torch.from_numpy(self.probabilities).log().to(x.device)[x[:, 0].long()]
