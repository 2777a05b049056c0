"""Uniform dequantization (Theis et al. 2016, https://arxiv.org/abs/1511.01844)."""

from torch import Tensor

from laminar.flows import noise
from laminar.flows.dequantization.cube import Cube
from laminar.flows.space import Context, Space


class Uniform(Cube):
    """u ~ U[0, 1)^D, so log q(u | x) = 0."""

    def __init__(self, space: Space):
        super().__init__(space, "uniform")

    def draw(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return noise.uniform(x), x.new_zeros(len(x))
