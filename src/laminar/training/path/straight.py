"""Straight: the path of optimal transport between two points (Lipman et al. 2022, https://arxiv.org/abs/2210.02747)."""

from torch import Tensor

from laminar.training.path.path import Path


class Straight(Path):
    """x_t = (1 - t) x + t z."""

    def __call__(self, x: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return x + t * (z - x), z - x
