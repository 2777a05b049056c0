"""Toys: data drawn from a density that is known, and in 2-D the shapes on which flows are drawn.

Definitions are those of FFJORD (Grathwohl et al. 2019) and, for moons and circles, of scikit-learn. ``log_prob`` is the
log density of what ``draw`` draws, in nats: the test rows' mean of it is what the best flow can reach.
"""

from math import exp, log, pi, sqrt

import numpy as np
import torch
from torch import Tensor

from laminar.data.memory import room_for
from laminar.data.quadrature import PANEL, in_float64, in_parts, log_integral, zeros
from laminar.data.source import Source, Split, Splits
from laminar.refused import Refused


class Toy(Source):
    """Points of the plane, float32 ``(N, 2)``, or what else ``draw`` draws.

    The rows do not depend on the run's seed, so that runs with different seeds are scored on the same test rows, which are
    drawn with another seed than the training rows.

    Args:
        train_size: rows drawn for training and validation together.
        test_size: rows drawn for testing.
    """

    levels = None
    dtype: type = np.float32

    def __init__(self, *, train_size: int = 50_000, test_size: int = 10_000, **serving):
        super().__init__(**serving)
        if min(train_size, test_size) < 2:
            raise Refused(f"data.train_size={train_size} and data.test_size={test_size} need at least 2 rows each")
        self.train_size, self.test_size = train_size, test_size

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n events, ``(n, *event)``."""
        raise NotImplementedError

    def read(self) -> Splits:
        told = f"data.train_size={self.train_size} and data.test_size={self.test_size}"
        room_for(4 * self.draw(1, np.random.default_rng(0)).nbytes * (self.train_size + self.test_size), told, "draw fewer")
        train, test = (
            Split.whole(torch.from_numpy(self.draw(n, np.random.default_rng(stream)).astype(self.dtype)))
            for stream, n in enumerate((self.train_size, self.test_size))
        )
        if not (train.values.isfinite().all() and test.values.isfinite().all()):
            raise Refused(
                f"{self.name} draws values that are not finite: take numbers nearer to those of its page in conf/data"
            )
        return Splits(train, None, test)


def spread(**option: float) -> float:
    """The one option's value, refused where it leaves points or curves, which have no density."""
    ((name, value),) = option.items()
    if not value > 0:
        raise Refused(f"data.{name}={value} leaves no area for a density: take a number above 0")
    return value


class Moons(Toy):
    """Two interleaved half circles of radius 1, blurred by ``noise``."""

    def __init__(self, *, noise: float = 0.1, **serving):
        super().__init__(**serving)
        self.noise = spread(noise=noise)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        angle, lower = rng.uniform(0, pi, n), rng.integers(0, 2, n)
        x = np.where(lower, 1 - np.cos(angle), np.cos(angle))
        y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle))
        return np.stack([x, y], 1) + self.noise * rng.standard_normal((n, 2))

    @in_float64
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, ``(B, 2) -> (B,)``: over each half, 1/pi int_0^pi N(x; (cos t, sin t), noise^2 I) dt."""

        def upper(x: Tensor, t: Tensor) -> Tensor:
            return -((x[:, :1] - t.cos()) ** 2 + (x[:, 1:] - t.sin()) ** 2) / (2 * self.noise**2)

        edges = np.linspace(0, pi, 2 + int(pi / (PANEL * self.noise)))
        halves = [log_integral(upper, y, edges) for y in (x, x.new_tensor([1.0, 0.5]) - x)]  # a half turn swaps them
        return torch.logaddexp(*halves) - log(2 * pi * 2 * pi * self.noise**2)


class Circles(Toy):
    """Two circles of radii 3 and 3 x ``factor``, blurred by 3 x ``noise``."""

    def __init__(self, *, factor: float = 0.5, noise: float = 0.08, **serving):
        super().__init__(**serving)
        self.factor, self.noise = factor, spread(noise=noise)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        angle, radius = rng.uniform(0, 2 * pi, n), np.where(rng.integers(0, 2, n), self.factor, 1.0)
        ring = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        return 3 * (ring + self.noise * rng.standard_normal((n, 2)))

    @in_float64
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, ``(B, 2) -> (B,)``: over each radius R, exp(-(|x|^2 + R^2) / 2 s^2) I_0(|x| R / s^2) / 2 pi s^2."""
        distance, variance = x.norm(dim=1, keepdim=True), (3 * self.noise) ** 2
        radius = x.new_tensor([3, 3 * abs(self.factor)])
        log_ring = torch.special.i0e(distance * radius / variance).log() - (distance - radius) ** 2 / (2 * variance)
        return torch.logsumexp(log_ring, 1) - log(2 * 2 * pi * variance)


class Pinwheel(Toy):
    """``arms`` Gaussians, stretched outwards and twisted by ``rate`` (Johnson et al. 2016)."""

    def __init__(self, *, arms: int = 5, rate: float = 0.25, radial: float = 0.3, tangential: float = 0.1, **serving):
        super().__init__(**serving)
        if arms < 1:
            raise Refused(f"data.arms={arms} leaves nothing to draw: take 1 or more")
        self.arms, self.rate = arms, rate
        self.radial, self.tangential = spread(radial=radial), spread(tangential=tangential)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        along, across = rng.standard_normal((2, n)) * [[self.radial], [self.tangential]] + [[1.0], [0.0]]
        angle = 2 * pi * rng.integers(0, self.arms, n) / self.arms + self.rate * np.exp(along)
        cos, sin = np.cos(angle), np.sin(angle)
        return 2 * np.stack([along * cos + across * sin, across * cos - along * sin], 1)

    @in_float64
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, ``(B, 2) -> (B,)``: over pre-images, N(a; 1, radial^2) N(b; 0, tangential^2) / 4 |1 + rate e^a b|.

        With x / 2 at radius r and angle w, an arm's are the zeros of a - r cos(w + 2 pi k / arms + rate e^a), each with
        b = r sin(...), and the Jacobian is also the slope there. Zeros are sought within 8 deviations of a.
        """
        low, high = exp(1 - 8 * self.radial), exp(1 + 8 * self.radial)
        # Turning points are about pi apart in rate e^a: hardly ever would two of them share a cell of 0.1.
        cells = 1 + int(abs(self.rate) * (high - low) / 0.1)
        grid = torch.linspace(low, high, cells + 1, dtype=x.dtype, device=x.device).log()
        return in_parts(lambda rows: self._log_prob(rows, grid), x, 2 * self.arms * len(grid))

    def _log_prob(self, x: Tensor, grid: Tensor) -> Tensor:
        turn = 2 * pi / self.arms * torch.arange(self.arms).to(x)
        polar = (x.norm(dim=1) / 2).repeat_interleave(self.arms), (torch.atan2(x[:, 1], x[:, 0])[:, None] + turn).flatten()

        def gap(along: Tensor, radius: Tensor, angle: Tensor) -> Tensor:
            return along - radius * torch.cos(angle + self.rate * along.exp())

        def across(along: Tensor, radius: Tensor, angle: Tensor) -> Tensor:
            return radius * torch.sin(angle + self.rate * along.exp())

        def slope(along: Tensor, radius: Tensor, angle: Tensor) -> Tensor:
            return 1 + self.rate * along.exp() * across(along, radius, angle)

        knots = grid.repeat(2, len(turn) * len(x), 1)
        row, cell, fold = zeros(slope, knots[0], *polar)
        knots[1, row, cell] = fold  # between turning points the gap is monotone, with one zero at most
        knots = knots.movedim(0, 2).flatten(1)
        row, cell, along = zeros(gap, knots, *polar)
        polar = [part[row] for part in polar]
        b, jacobian = across(along, *polar), slope(along, *polar).abs()
        log_p = torch.full_like(knots, -torch.inf)
        log_p[row, cell] = -0.5 * ((along - 1) / self.radial) ** 2 - 0.5 * (b / self.tangential) ** 2
        log_p[row, cell] -= jacobian.clamp_min(1e-300).log()
        scale = 4 * self.arms * 2 * pi * self.radial * self.tangential
        return torch.logsumexp(log_p.unflatten(0, (len(x), self.arms)).flatten(1), 1) - log(scale)


class EightGaussians(Toy):
    """Eight Gaussians of standard deviation ``noise`` on a circle of radius ``radius``."""

    def __init__(self, *, radius: float = 2 * sqrt(2), noise: float = 0.5 / sqrt(2), **serving):
        super().__init__(**serving)
        self.noise = spread(noise=noise)
        angle = np.arange(8) * pi / 4
        self.centres = radius * np.stack([np.cos(angle), np.sin(angle)], 1)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.centres[rng.integers(0, 8, n)] + self.noise * rng.standard_normal((n, 2))

    @in_float64
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, ``(B, 2) -> (B,)``."""
        distance = torch.cdist(x, torch.from_numpy(self.centres).to(x)) / self.noise
        return torch.logsumexp(-0.5 * distance**2, 1) - log(8 * 2 * pi * self.noise**2)


class Spirals(Toy):
    """Two spirals of one and a half turns, blurred by ``noise``."""

    def __init__(self, *, noise: float = 0.1, **serving):
        super().__init__(**serving)
        self.noise = spread(noise=noise)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        angle = 3 * pi * np.sqrt(rng.uniform(size=n))
        arm = np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], 1) + rng.uniform(0, 0.5, (n, 2))
        return np.where(rng.integers(0, 2, (n, 1)), arm, -arm) / 3 + self.noise * rng.standard_normal((n, 2))

    @in_float64
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, ``(B, 2) -> (B,)``: over both arms, int_0^{3 pi} 2 t / 9 pi^2 p(x | t) dt.

        Given t, a coordinate at distance d from the curve is uniform over 1/6, blurred: 6 (Phi(d / s) - Phi((d - 1/6) / s)).
        """

        def log_box(d: Tensor) -> Tensor:
            d = (1 / 12 - (d - 1 / 12).abs()) / self.noise  # mirrored to the lower tail, where log Phi is exact
            below, above = torch.special.log_ndtr(d - 1 / 6 / self.noise), torch.special.log_ndtr(d)
            return above + torch.log1p(-torch.exp(below - above))

        def arm(x: Tensor, t: Tensor) -> Tensor:
            return t.log() + log_box(x[:, :1] + t * t.cos() / 3) + log_box(x[:, 1:] - t * t.sin() / 3)

        length = (1 + 3 * pi) ** 2 / 6
        edges = np.sqrt(np.linspace(1, (1 + 3 * pi) ** 2, 2 + int(length / (PANEL * self.noise)))) - 1  # evenly along the arm
        arms = [log_integral(arm, y, edges) for y in (x, -x)]
        return torch.logaddexp(*arms) + log(36 / (9 * pi**2))


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
        return torch.where(dark, x.new_tensor(-log(32)), -torch.inf)
