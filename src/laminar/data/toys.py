"""2-D densities: the shapes on which flows are drawn.

Definitions are those of FFJORD (Grathwohl et al. 2019) and, for moons and circles, of scikit-learn. Where the density
is known, ``log_prob`` gives it in nats: the test rows' mean of it is what the best flow can reach.
"""

from math import log, pi, sqrt

import numpy as np
import torch
from torch import Tensor

from laminar.data.source import Source, Split, Splits
from laminar.refused import Refused


class Toy(Source):
    """Points of the plane, float32 ``(N, 2)``.

    The rows do not depend on the run's seed, so that runs with different seeds are scored on the same test rows.

    Args:
        train_size: rows drawn for training and validation together.
        test_size: rows drawn for testing.
    """

    levels = None

    def __init__(self, *, train_size: int = 50_000, test_size: int = 10_000, **serving):
        super().__init__(**serving)
        if min(train_size, test_size) < 2:
            raise Refused(f"data.train_size={train_size} and data.test_size={test_size} need at least 2 rows each")
        self.train_size, self.test_size = train_size, test_size

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``(n, 2)`` points."""
        raise NotImplementedError

    def read(self) -> Splits:
        train, test = (
            Split.whole(torch.from_numpy(self.draw(n, np.random.default_rng(stream)).astype(np.float32)))
            for stream, n in enumerate((self.train_size, self.test_size))
        )
        return Splits(train, None, test)


class Moons(Toy):
    """Two interleaved half circles of radius 1, blurred by ``noise``."""

    def __init__(self, *, noise: float = 0.1, **serving):
        super().__init__(**serving)
        self.noise = noise

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        angle, lower = rng.uniform(0, pi, n), rng.integers(0, 2, n)
        x = np.where(lower, 1 - np.cos(angle), np.cos(angle))
        y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle))
        return np.stack([x, y], 1) + self.noise * rng.standard_normal((n, 2))


class Circles(Toy):
    """Two circles of radii 3 and 3 x ``factor``, blurred by 3 x ``noise``."""

    def __init__(self, *, factor: float = 0.5, noise: float = 0.08, **serving):
        super().__init__(**serving)
        self.factor, self.noise = factor, noise

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        angle, radius = rng.uniform(0, 2 * pi, n), np.where(rng.integers(0, 2, n), self.factor, 1.0)
        ring = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        return 3 * (ring + self.noise * rng.standard_normal((n, 2)))


class Pinwheel(Toy):
    """``arms`` Gaussians, stretched outwards and twisted by ``rate`` (Johnson et al. 2016)."""

    def __init__(self, *, arms: int = 5, rate: float = 0.25, radial: float = 0.3, tangential: float = 0.1, **serving):
        super().__init__(**serving)
        self.arms, self.rate, self.radial, self.tangential = arms, rate, radial, tangential

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        along, across = rng.standard_normal((2, n)) * [[self.radial], [self.tangential]] + [[1.0], [0.0]]
        angle = 2 * pi * rng.integers(0, self.arms, n) / self.arms + self.rate * np.exp(along)
        cos, sin = np.cos(angle), np.sin(angle)
        return 2 * np.stack([along * cos + across * sin, across * cos - along * sin], 1)


class EightGaussians(Toy):
    """Eight Gaussians of standard deviation ``noise`` on a circle of radius ``radius``."""

    def __init__(self, *, radius: float = 2 * sqrt(2), noise: float = 0.5 / sqrt(2), **serving):
        super().__init__(**serving)
        self.noise = noise
        angle = np.arange(8) * pi / 4
        self.centres = radius * np.stack([np.cos(angle), np.sin(angle)], 1)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.centres[rng.integers(0, 8, n)] + self.noise * rng.standard_normal((n, 2))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, ``(B, 2) -> (B,)``."""
        distance = torch.cdist(x, torch.from_numpy(self.centres).to(x)) / self.noise
        return torch.logsumexp(-0.5 * distance**2, 1) - log(8 * 2 * pi * self.noise**2)


class Spirals(Toy):
    """Two spirals of one and a half turns, blurred by ``noise``."""

    def __init__(self, *, noise: float = 0.1, **serving):
        super().__init__(**serving)
        self.noise = noise

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        angle = 3 * pi * np.sqrt(rng.uniform(size=n))
        arm = np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], 1) + rng.uniform(0, 0.5, (n, 2))
        return np.where(rng.integers(0, 2, (n, 1)), arm, -arm) / 3 + self.noise * rng.standard_normal((n, 2))


class Checkerboard(Toy):
    """Uniform on the dark squares of a 4 x 4 board over [-4, 4]^2."""

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        column, row = rng.integers(0, 4, n), rng.integers(0, 2, n)
        corner = np.stack([column, 2 * row + column % 2], 1)
        return 2 * (corner + rng.uniform(size=(n, 2))) - 4

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, ``(B, 2) -> (B,)``: -log 32 on a dark square, minus infinity off it."""
        square = torch.floor(x / 2 + 2)
        dark = (square.sum(1) % 2 == 0) & (square >= 0).all(1) & (square < 4).all(1)
        return torch.where(dark, -log(32.0), -torch.inf).to(x)
