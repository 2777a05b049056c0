"""The four test energies of the plane (Rezende, Mohamed 2015, https://arxiv.org/abs/1505.05770, table 1).

The paper draws exp(-U) over [-4, 4]^2. Three of them repeat for ever along the first axis and have no integral, so all are
closed here beyond that picture: nothing is changed within it, and outside x_1 falls off like a Gaussian of deviation 0.4.
"""

from math import pi

import torch
from torch import Tensor

from laminar.refused import Refused
from laminar.training.target.target import Target

EDGE = 4.0


class Potential(Target):
    """-U(x) in nats, less ((|x_1| - 4) / 0.4)^2 / 2 where |x_1| > 4."""

    def energy(self, x: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (2,):
            raise Refused(
                f"this target is a density of the plane, and the events have the shape {tuple(x.shape[1:])}: data.dims=2"
            )
        beyond = (x[:, 0].abs() - EDGE).clamp(min=0)
        return -self.energy(x[:, 0], x[:, 1]) - _square(beyond / 0.4)


class U1(Potential):
    """A ring of radius 2, of which two sides are left."""

    def energy(self, x: Tensor, y: Tensor) -> Tensor:
        radius = torch.stack((x, y)).norm(dim=0)
        return _square((radius - 2) / 0.4) + _either(_square((x - 2) / 0.6), _square((x + 2) / 0.6))


class U2(Potential):
    """A wave."""

    def energy(self, x: Tensor, y: Tensor) -> Tensor:
        return _square((y - _wave(x)) / 0.4)


class U3(Potential):
    """A wave that parts in two about x_1 = 1, and closes again."""

    def energy(self, x: Tensor, y: Tensor) -> Tensor:
        bump = 3 * torch.exp(-_square((x - 1) / 0.6))
        return _either(_square((y - _wave(x)) / 0.35), _square((y - _wave(x) + bump) / 0.35))


class U4(Potential):
    """A wave that parts in two from x_1 = 1 on."""

    def energy(self, x: Tensor, y: Tensor) -> Tensor:
        fall = 3 * torch.sigmoid((x - 1) / 0.3)
        return _either(_square((y - _wave(x)) / 0.4), _square((y - _wave(x) + fall) / 0.35))


def _wave(x: Tensor) -> Tensor:
    return torch.sin(2 * pi * x / 4)


def _square(x: Tensor) -> Tensor:
    return 0.5 * x * x


def _either(one: Tensor, other: Tensor) -> Tensor:
    """The energy of the sum of two densities."""
    return -torch.logaddexp(-one, -other)
