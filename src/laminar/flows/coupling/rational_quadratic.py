"""Rational-quadratic spline (Neural Spline Flows, Durkan et al. 2019, https://arxiv.org/abs/1906.04032)."""

from math import expm1, log

import torch
from torch import Tensor
from torch.nn.functional import softplus

from laminar.flows.coupling.bins import Piecewise, between, check_least, knots, pick, search, shares, side
from laminar.refused import Refused


class RationalQuadratic(Piecewise):
    """A monotone spline through K + 1 knots (x_k, y_k) with slopes d_k; slope 1 at both ends, where the tails begin.

    In bin k of width w and height h, with t = (x - x_k) / w, s = h / w and D = d_k + d_k+1 - 2 s::

        y     = y_k + h (s t^2 + d_k t (1-t)) / (s + D t (1-t))
        dy/dx = s^2 (d_k+1 t^2 + 2 s t (1-t) + d_k (1-t)^2) / (s + D t (1-t))^2
        x     = x_k + w t,   a t^2 + b t = c,   c = s (y - y_k),
                a = h (s - d_k) + (y - y_k) D,   b = h d_k - (y - y_k) D

    Parameters: K widths, K heights, K-1 slopes at the inner knots.

    Args:
        bins: K.
        bound: the spline lives on [-bound, bound].
        min_bin_width, min_bin_height: least share of the interval that a bin keeps.
        min_derivative: least slope at a knot.
    """

    def __init__(
        self,
        bins: int = 8,
        bound: float = 3.0,
        min_bin_width: float = 1e-3,
        min_bin_height: float = 1e-3,
        min_derivative: float = 1e-3,
    ):
        super().__init__(bins, -bound, bound)
        check_least("min_bin_width", min_bin_width, bins)
        check_least("min_bin_height", min_bin_height, bins)
        if not 0 < min_derivative < 1:
            raise Refused(f"coupling.min_derivative={min_derivative} must lie between 0 and 1, the slope of the tails")
        self.min_bin_width, self.min_bin_height, self.min_derivative = min_bin_width, min_bin_height, min_derivative
        self.arity = 3 * bins - 1

    def start(self, generator: torch.Generator) -> Tensor:
        """Exactly the identity: equal bins, and every slope 1."""
        params = torch.zeros(self.arity)
        params[2 * self.bins :] = log(expm1(1 - self.min_derivative))
        return params

    def _knots(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and slope of the K + 1 knots."""
        widths, heights, slopes = params.split([self.bins, self.bins, self.bins - 1], 1)
        x = knots(shares(widths, self.min_bin_width))
        y = knots(shares(heights, self.min_bin_height))
        return x, y, between(self.min_derivative + softplus(slopes), 1.0, 1.0)

    def _unit(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        knots_x, knots_y, slopes = self._knots(params)
        bin = search(knots_x, x)
        x0, w = side(knots_x, bin)
        y0, h = side(knots_y, bin)
        d0, d1 = pick(slopes, bin), pick(slopes, bin + 1)
        t, s = (x - x0) / w, h / w
        tt = t * (1 - t)
        below = s + (d0 + d1 - 2 * s) * tt
        y = y0 + h * (s * t.square() + d0 * tt) / below
        slope = (s / below).square() * (d1 * t.square() + 2 * s * tt + d0 * (1 - t).square())
        return y, slope.log()

    def _unit_inverse(self, y: Tensor, params: Tensor) -> Tensor:
        knots_x, knots_y, slopes = self._knots(params)
        bin = search(knots_y, y)
        x0, w = side(knots_x, bin)
        y0, h = side(knots_y, bin)
        d0, d1 = pick(slopes, bin), pick(slopes, bin + 1)
        s = h / w
        rise = y - y0
        bend = rise * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + bend, h * d0 - bend, s * rise
        q = b.abs() + (b.square() + 4 * a * c).clamp(min=0).sqrt()
        # Of the root's two forms, the one that subtracts nothing.
        t = torch.where(b < 0, q, 2 * c) / torch.where(b < 0, 2 * a, q)
        return x0 + w * t.clamp(0, 1)
