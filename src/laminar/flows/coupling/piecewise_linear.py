"""Piecewise-linear law (Neural Importance Sampling, Müller et al. 2018, https://arxiv.org/abs/1808.03856, section 4.2)."""

from torch import Tensor

from laminar.flows.coupling.bins import Piecewise, check_least, knots, pick, search, shares


class PiecewiseLinear(Piecewise):
    """The CDF of a histogram with K equal bins of mass q_k, on the unit interval::

        y     = q_0 + .. + q_b-1 + q_b (K x - b),   b = floor(K x)
        dy/dx = K q_b
        x     = (b + (y - q_0 - .. - q_b-1) / q_b) / K

    Parameters: K masses.

    Args:
        bins: K.
        low, high: the interval; [0, 1] in the paper.
        min_bin_height: least mass of a bin; 0 in the paper, where an empty bin has no inverse.
    """

    def __init__(self, bins: int = 32, low: float = -3.0, high: float = 3.0, min_bin_height: float = 1e-3):
        super().__init__(bins, low, high)
        check_least("min_bin_height", min_bin_height, bins)
        self.min_bin_height = min_bin_height
        self.arity = bins

    def _unit(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        mass = shares(params, self.min_bin_height)
        place = (x * self.bins).unsqueeze(1)
        bin = place.long().clamp(0, self.bins - 1)  # below 0 only where x is not a number
        height = pick(mass, bin)
        y = pick(knots(mass), bin) + height * (place - bin).squeeze(1)
        return y, (height * self.bins).log()

    def _unit_inverse(self, y: Tensor, params: Tensor) -> Tensor:
        mass = shares(params, self.min_bin_height)
        ends = knots(mass)
        bin = search(ends, y)
        return (bin.squeeze(1) + (y - pick(ends, bin)) / pick(mass, bin)) / self.bins
