"""Truncated-normal dequantization (i-DODE, Zheng et al. 2023, https://arxiv.org/abs/2305.03935, section 3.2)."""

from math import erf, log, pi, sqrt

import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.dequantization.cube import Cube
from laminar.flows.numerics import sum_event
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class TruncatedNormal(Cube):
    """u = 1/2 + sigma n with n standard normal, cut off where u leaves (0, 1)::

        -log q(u | x) = sum_i [n_i^2 / 2 + log(sigma sqrt(2 pi)) + log(erf(c / sqrt(2)))],  c = 1 / (2 sigma)

    A path that flow matching trains from x + sigma n meets at evaluation the noise that it was trained with. With 1 / sigma
    far below 1 it is uniform dequantization.

    Args:
        sigma: in units of the step from one integer to the next. 1/8 cuts off 6 draws of 100,000.
    """

    def __init__(self, space: Space, sigma: float = 0.125):
        if not sigma > 0:
            raise Refused(f"dequantization.sigma={sigma} is no noise: take a number above 0")
        if not space.discrete:
            raise Refused(
                "dequantization=truncated_normal is for integers, and some of these values are reals: choose "
                "dequantization=uniform, or none"
            )
        super().__init__(space, "truncated_normal")
        self.deviation = sigma

    def draw(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        cut = 0.5 / self.deviation
        inside = erf(cut / sqrt(2))  # the mass of n in (-cut, cut)
        # By the smaller tail, so that a float's precision at 0 serves both; a draw of 0 counts as half of its next neighbour.
        v = noise.uniform(x) * 2 - 1
        tail = 0.5 * (1 - inside) + 0.5 * inside * (1 - v.abs()).clamp(min=torch.finfo(x.dtype).eps / 2)
        n = torch.copysign(torch.special.ndtri(tail).abs(), v).clamp(-cut, cut)
        constant = log(self.deviation * sqrt(2 * pi) * inside)
        return 0.5 + self.deviation * n, sum_event(0.5 * n.square() + constant)
