"""Diffusion: the path of variance-preserving diffusion (Song et al. 2020, https://arxiv.org/abs/2011.13456)."""

import torch
from torch import Tensor

from laminar.refused import Refused
from laminar.training.path.path import Path


class Diffusion(Path):
    """x_t = a x + b z with a = exp(-(beta_0 t + (beta_1 - beta_0) t^2 / 2) / 2) and b^2 = 1 - (1 - start^2) a^2.

    With start = 0 its velocity would be infinite at the data, so it begins at x + start z. It ends at N(a(1) x, 1 - a(1)^2),
    a(1) = 0.007.

    Args:
        beta_0, beta_1: the rate at which a^2 decays, at the data and at the noise.
    """

    noisy = True

    def __init__(self, beta_0: float = 0.1, beta_1: float = 20.0):
        if min(beta_0, beta_1) <= 0:
            raise Refused(f"path.beta_0={beta_0} and path.beta_1={beta_1} are rates at which the data decay: take both above 0")
        self.beta_0, self.beta_1 = beta_0, beta_1

    def __call__(self, x: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        rate, kept = self.beta_0 + (self.beta_1 - self.beta_0) * t, 1 - self.start**2
        decay = -t * (self.beta_0 + 0.5 * (self.beta_1 - self.beta_0) * t)  # log a^2
        a = (0.5 * decay).exp()
        b = (self.start**2 - kept * torch.expm1(decay)).sqrt()
        return a * x + b * z, 0.5 * rate * (kept * a * a / b * z - a * x)
