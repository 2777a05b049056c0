"""Dequantization: from integers to reals, with the log-weight of what was drawn."""

from math import floor, log2

import torch
from torch import Tensor

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Dequantization(Transform):
    """z = x + u with u in [0, 1)^D drawn from q(u | x); contribution -log q(u | x); x = floor(z).

    log P(x) = log of the integral of p(x + u) over the cube, so p(x + u) / q(u | x) is an unbiased estimate of P(x), and its
    logarithm a lower bound in expectation (Theis et al. 2016, https://arxiv.org/abs/1511.01844).
    """

    stochastic = True

    def __init__(self, space: Space, name: str):
        if space.levels is None:
            raise Refused(
                f"dequantization={name} adds noise to integers, and the data are real numbers already: "
                "choose dequantization=none"
            )
        super().__init__(space, space.reals(upper=float(space.levels)))
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # carries the flow's precision

    def draw(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """u in [0, 1] of x's shape, and -log q(u | x) ``(B,)``."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x = x.to(self.anchor.dtype)
        u, contribution = self.draw(x, context)
        # In float32 255 + u can round up to 256: stop one step short of the next integer.
        step = torch.finfo(x.dtype).eps * 2.0 ** floor(log2(max(self.domain.levels - 1, 1)))
        return x + u.clamp(max=1.0 - step), contribution

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        integers = z.floor().clamp(0, self.domain.levels - 1)
        return integers.to(torch.uint8 if self.domain.levels <= 256 else torch.int64)
