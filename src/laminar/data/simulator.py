"""Simulator: parameters and what a simulator makes of them, for inference without a likelihood (two moons, Greenberg,
Nonnenmacher, Macke 2019, https://arxiv.org/abs/1905.07488)."""

from math import pi, sqrt

import numpy as np
import torch
from torch import Tensor

from laminar.data.source import Split, Splits
from laminar.data.toys import Toy, spread


class TwoMoonsSimulator(Toy):
    """theta, float32 ``(N, 2)``, uniform on [-1, 1]^2, and as context ``x (N, 2)``, a simulator's draw given it::

        x = (r cos a + 1/4 - |theta_1 + theta_2| / sqrt 2,  r sin a + (theta_2 - theta_1) / sqrt 2)
        a ~ U(-pi/2, pi/2),  r ~ N(radius, noise^2)

    A flow of theta given x is the posterior: two crescents, which mirror each other.
    """

    columns = ("theta_1", "theta_2")
    base = "density per unit of theta_1, theta_2, given x"

    def __init__(self, *, radius: float = 0.1, noise: float = 0.01, **serving):
        super().__init__(**serving)
        self.radius, self.noise = spread(radius=radius), spread(noise=noise)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Rows (theta, x), ``(n, 4)``."""
        theta, angle = rng.uniform(-1, 1, (n, 2)), rng.uniform(-pi / 2, pi / 2, n)
        r = rng.normal(self.radius, self.noise, n)
        arc = np.stack([r * np.cos(angle) + 0.25, r * np.sin(angle)], 1)
        return np.hstack([theta, arc + centre(theta.T)])

    def read(self) -> Splits:
        train, _, test = super().read()
        train, test = (Split.whole(part.values[:, :2].clone(), x=part.values[:, 2:].clone()) for part in (train, test))
        return Splits(train, None, test)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """log p(x | theta) in nats, ``(B, 2), (B, 2) -> (B,)``: N(r; radius, noise^2) / (pi r) right of the arc's centre.

        Draws of r below 0, of no chance here, are left out.
        """
        middle = torch.from_numpy(centre(theta.double().numpy().T))
        u = x.double() - middle - torch.tensor([0.25, 0.0])
        r = u.norm(dim=1)
        density = -0.5 * ((r - self.radius) / self.noise) ** 2 - np.log(self.noise * sqrt(2 * pi) * pi) - r.log()
        return torch.where(u[:, 0] > 0, density, -torch.inf)


def centre(theta: np.ndarray) -> np.ndarray:
    """Where the arc stands but for 1/4: ``(2, N) -> (N, 2)``."""
    return np.stack([-np.abs(theta[0] + theta[1]), theta[1] - theta[0]], 1) / sqrt(2)
