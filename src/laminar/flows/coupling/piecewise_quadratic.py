"""Piecewise-quadratic law (Neural Importance Sampling, Müller et al. 2018, https://arxiv.org/abs/1808.03856, section 4.3)."""

from torch import Tensor

from laminar.flows.coupling.bins import Piecewise, bins_first, check_least, knots, pick, search, shares
from laminar.refused import Refused


class PiecewiseQuadratic(Piecewise):
    """The CDF of a density that is linear in each of K bins, between its heights v_0 .. v_K, on the unit interval.

    In bin k of width w, which begins at (x_k, y_k), with t = (x - x_k) / w and rise = v_k+1 - v_k::

        y     = y_k + w (v_k t + rise t^2 / 2)
        dy/dx = v_k + rise t
        x     = x_k + w t,   t = 2 c / (v_k + sqrt(v_k^2 + 2 rise c)),   c = (y - y_k) / w

    Parameters: K widths, K+1 heights.

    Args:
        bins: K.
        low, high: the interval; [0, 1] in the paper.
        min_bin_width: least share of the interval that a bin keeps.
        min_density: share of the uniform density that is mixed in, so that the slope is never 0. Both are 0 in the paper.
    """

    def __init__(
        self,
        bins: int = 32,
        low: float = -3.0,
        high: float = 3.0,
        min_bin_width: float = 1e-3,
        min_density: float = 1e-3,
    ):
        super().__init__(bins, low, high)
        check_least("min_bin_width", min_bin_width, bins)
        if not 0 <= min_density < 1:
            raise Refused(f"coupling.min_density={min_density} must be at least 0 and below 1, a share of the density")
        self.min_bin_width, self.min_density = min_bin_width, min_density
        self.arity = 2 * bins + 1

    def _pieces(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Widths, knots in x, knots in y, heights of the density."""
        widths, heights = bins_first(params).split([self.bins, self.bins + 1])
        width = shares(widths, self.min_bin_width)
        height = heights.softmax(0)
        area = width * (height[:-1] + height[1:]) / 2
        total = area.sum(0)
        height = self.min_density + (1 - self.min_density) * height / total
        area = self.min_density * width + (1 - self.min_density) * area / total
        return width, knots(width), knots(area), height

    def _unit(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        width, knots_x, knots_y, height = self._pieces(params)
        at = search(knots_x, x)
        w, v = pick(width, at), pick(height, at)
        rise = pick(height, at, above=1) - v
        t = (x - pick(knots_x, at)) / w
        y = pick(knots_y, at) + w * t * (v + rise * t / 2)
        return y, (v + rise * t).log()

    def _unit_inverse(self, y: Tensor, params: Tensor) -> Tensor:
        width, knots_x, knots_y, height = self._pieces(params)
        at = search(knots_y, y)
        w, v = pick(width, at), pick(height, at)
        rise = pick(height, at, above=1) - v
        c = (y - pick(knots_y, at)) / w
        t = 2 * c / (v + (v.square() + 2 * rise * c).clamp(min=0).sqrt())
        return pick(knots_x, at) + w * t.clamp(0, 1)
