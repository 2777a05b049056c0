"""Trigonometric: a path that keeps the variance and arrives (Albergo, Vanden-Eijnden 2022, https://arxiv.org/abs/2209.15571)."""

from math import pi

from torch import Tensor

from laminar.training.path.path import Path


class Trigonometric(Path):
    """x_t = cos(pi t / 2) x + sin(pi t / 2) z."""

    def __call__(self, x: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = pi / 2 * t
        cos, sin = angle.cos(), angle.sin()
        return cos * x + sin * z, pi / 2 * (cos * z - sin * x)
