"""Rational-quadratic spline (Neural Spline Flows, Durkan et al. 2019, https://arxiv.org/abs/1906.04032)."""

from math import expm1, log

import torch
from torch import Tensor
from torch.nn.functional import softplus

from laminar.flows.coupling.bins import Piecewise, Place, apart, check_least, locate, pick, side
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
        self.unit_slope = log(expm1(1 - min_derivative))  # the parameter of slope 1
        self.arity = 3 * bins - 1

    def start(self, generator: torch.Generator) -> Tensor:
        """Exactly the identity: equal bins, and every slope 1."""
        params = torch.zeros(self.arity)
        params[2 * self.bins :] = self.unit_slope
        return params

    def _unit(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        widths, heights, slopes = self._stacks(params)
        at, x0, w = locate(widths, self.min_bin_width, x)
        y0, h = side(heights, self.min_bin_height, at)
        d0, d1 = self._slopes(slopes, at)
        t, s = (x - x0) / w, h / w
        tt = t * (1 - t)
        below = s + (d0 + d1 - 2 * s) * tt
        y = y0 + h * (s * t.square() + d0 * tt) / below
        slope = (s / below).square() * (d1 * t.square() + 2 * s * tt + d0 * (1 - t).square())
        return y, slope.log()

    def _unit_inverse(self, y: Tensor, params: Tensor) -> Tensor:
        widths, heights, slopes = self._stacks(params)
        at, y0, h = locate(heights, self.min_bin_height, y)
        x0, w = side(widths, self.min_bin_width, at)
        d0, d1 = self._slopes(slopes, at)
        s = h / w
        rise = y - y0
        bend = rise * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + bend, h * d0 - bend, s * rise
        root = (b.square() + 4 * a * c).clamp(min=0).sqrt()
        # Of the root's two forms, the one that subtracts nothing.
        up, q = (b < 0).to(b.dtype), b.abs() + root
        return x0 + w * (torch.lerp(2 * c, q, up) / torch.lerp(q, 2 * a, up)).clamp(0, 1)

    def _stacks(self, params: Tensor) -> tuple[Tensor, ...]:
        """Widths and heights of the K bins, slopes at the K + 1 knots."""
        if apart(self.bins):
            planes = params.unbind(1)
            end = torch.full_like(planes[0], self.unit_slope)
            return planes[: self.bins], planes[self.bins : 2 * self.bins], [end, *planes[2 * self.bins :], end]
        sides, slopes = params.transpose(0, 1).split([2 * self.bins, self.bins - 1])
        end = params.new_full((), self.unit_slope).expand_as(sides[:1])
        return torch.cat([sides, end, slopes, end]).split([self.bins, self.bins, self.bins + 1])

    def _slopes(self, slopes: Tensor, at: Place) -> tuple[Tensor, ...]:
        """At the begin of each element's own bin, and at its end."""
        return tuple(self.min_derivative + softplus(pick(slopes, at, above=end)) for end in (0, 1))
