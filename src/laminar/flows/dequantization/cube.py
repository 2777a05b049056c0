"""Cube: dequantization by noise in the unit cube, which leaves the likelihood of the integers bounded from below."""

import torch
from torch import Tensor

from laminar.flows.dequantization.dequantization import Dequantization
from laminar.flows.space import Context, Space


class Cube(Dequantization):
    """z = x + u with u in [0, 1)^D drawn from q(u | x); contribution -log q(u | x); x = floor(z).

    log P(x) = log of the integral of p(x + u) over the cube, so p(x + u) / q(u | x) is an unbiased estimate of P(x), and its
    logarithm a lower bound in expectation (Theis et al. 2016, https://arxiv.org/abs/1511.01844). Reals that were rounded to
    multiples of a step lead to z = x + step (u - 1/2); other elements without levels have u = 0.
    """

    stochastic = True
    rounding = 0.0

    def __init__(self, space: Space, name: str):
        super().__init__(space, name)
        self.register_buffer("octave", torch.frexp((self.levels - 1).clamp(min=1))[1] - 1, persistent=False)

    def draw(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """u in [0, 1] of x's shape, and -log q(u | x) ``(B,)``."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x = x.to(self.levels.dtype)
        u, contribution = self.draw(x, context)
        # In float32 255 + u can round up to 256: stop one step short of the next integer.
        u = torch.minimum(u, 1 - torch.ldexp(torch.full_like(self.levels, torch.finfo(x.dtype).eps), self.octave))
        return x + (torch.where(self.levels > 0, u, self.step * (u - 0.5)) if self.mixed else u), contribution
