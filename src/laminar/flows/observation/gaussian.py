"""Gaussian: real values."""

from math import log, pi

import torch
from torch import Tensor

from laminar.flows.numerics import inside
from laminar.flows.observation.observation import Observation
from laminar.flows.space import Space
from laminar.refused import Refused


class Gaussian(Observation):
    """x = m + exp(s) N(0, 1). Parameters m, s.

    Args:
        scale: fixes exp(s), so that m is the only parameter: probabilistic PCA's noise, the same for all values.
    """

    def __init__(self, space: Space, scale: float | None = None):
        super().__init__(space)
        if space.levels is not None:
            raise Refused(
                "observation=gaussian is a density of real numbers, and on integers it has no upper bound: choose "
                "observation=discretized_logistic, or observation=bernoulli for binary values"
            )
        if scale is not None and not scale > 0:
            raise Refused(f"observation.scale={scale} is a standard deviation: give it above 0, or null to learn it")
        self.log_scale, self.arity = scale and log(scale), 1 if scale else 2

    def _read(self, params: Tensor) -> tuple[Tensor, Tensor]:
        fixed = self.log_scale is not None
        return params[:, 0], torch.full_like(params[:, 0], self.log_scale) if fixed else params[:, 1].clamp(-40.0, 40.0)

    def log_probs(self, x: Tensor, params: Tensor) -> Tensor:
        mean, log_scale = self._read(params)
        return -0.5 * ((x - mean) * (-log_scale).exp()).square() - log_scale - 0.5 * log(2 * pi)

    def quantile(self, u: Tensor, params: Tensor) -> Tensor:
        mean, log_scale = self._read(params)
        return torch.addcmul(mean, log_scale.exp(), torch.special.ndtri(inside(u)))

    def mean(self, params: Tensor) -> Tensor:
        return params[:, 0]
