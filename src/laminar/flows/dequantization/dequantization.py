"""Dequantization: from integers to reals, with the log-weight of what was drawn."""

import torch
from torch import Tensor

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Dequantization(Transform):
    """z = x + u with u in [0, 1)^D drawn from q(u | x); contribution -log q(u | x); x = floor(z).

    log P(x) = log of the integral of p(x + u) over the cube, so p(x + u) / q(u | x) is an unbiased estimate of P(x), and its
    logarithm a lower bound in expectation (Theis et al. 2016, https://arxiv.org/abs/1511.01844). Elements without levels
    (the real columns of a mixed table) stay as they are: u = 0.
    """

    stochastic = True

    def __init__(self, space: Space, name: str):
        if space.levels is None:
            raise Refused(
                f"dequantization={name} adds noise to integers, and the data are real numbers already: "
                "choose dequantization=none"
            )
        self.mixed = isinstance(space.levels, tuple)
        super().__init__(space, space.reals(upper=_ends(space) if self.mixed else float(space.levels)))
        levels = space.per_element("levels", default=0.0) if self.mixed else torch.tensor(float(space.levels))
        self.register_buffer("levels", levels, persistent=False)  # 0 for a real element; carries the flow's precision
        self.register_buffer("octave", torch.frexp((levels - 1).clamp(min=1))[1] - 1, persistent=False)

    def draw(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """u in [0, 1] of x's shape, and -log q(u | x) ``(B,)``."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x = x.to(self.levels.dtype)
        u, contribution = self.draw(x, context)
        # In float32 255 + u can round up to 256: stop one step short of the next integer.
        u = torch.minimum(u, 1 - torch.ldexp(torch.full_like(self.levels, torch.finfo(x.dtype).eps), self.octave))
        return x + (torch.where(self.levels > 0, u, 0.0) if self.mixed else u), contribution

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        if self.mixed:
            integers = torch.minimum(z.floor().clamp(min=0), self.levels - 1)
            return torch.where(self.levels > 0, integers, z)
        integers = z.floor().clamp(0, self.domain.levels - 1)
        return integers.to(torch.uint8 if self.domain.levels <= 256 else torch.int64)

    def outside(self, z: Tensor) -> Tensor:
        """Which rows hold a value that ``inverse`` would clamp into the data's range, ``(B,)``: the flow's leak."""
        return (((z < 0) | (z >= self.levels)) & (self.levels > 0)).flatten(1).any(1)


def _ends(space: Space) -> tuple[float | None, ...]:
    """Where each element's range ends, integers being followed by a unit interval each."""
    bounds = space.upper if isinstance(space.upper, tuple) else (space.upper,) * space.size
    return tuple(bound if levels is None else float(levels) for levels, bound in zip(space.levels, bounds, strict=True))
