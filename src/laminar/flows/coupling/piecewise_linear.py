"""Piecewise-linear law (Neural Importance Sampling, Müller et al. 2018, https://arxiv.org/abs/1808.03856, section 4.2)."""

from torch import Tensor

from laminar.flows.coupling.bins import Piecewise, bins_first, check_least, locate, place, side


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
        x = x * self.bins
        bin = x.detach().floor().clamp(0, self.bins - 1).nan_to_num()  # what is not a number has a bin, too
        begin, height = side(bins_first(params), self.min_bin_height, place(bin))
        return begin + height * (x - bin), (height * self.bins).log()

    def _unit_inverse(self, y: Tensor, params: Tensor) -> Tensor:
        at, begin, height = locate(bins_first(params), self.min_bin_height, y)
        return (at.bin + (y - begin) / height) / self.bins
