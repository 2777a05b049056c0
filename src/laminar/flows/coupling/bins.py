"""What piecewise laws share: bins over an interval, on axis 1, and a search among them without data-dependent shapes."""

import torch
from torch import Tensor

from laminar.flows.coupling.law import Law
from laminar.flows.numerics import implicit
from laminar.flows.space import Space
from laminar.refused import Refused


class Piecewise(Law):
    """An increasing map of the interval [low, high] onto itself, piece by piece over K bins; the identity outside.

    A subclass works on the unit interval: ``_unit`` and ``_unit_inverse`` see x in [0, 1]. In the tails, its ends
    included, y = x and the log-slope is 0.

    Args:
        bins: K, the number of pieces.
        low, high: the interval. Neural importance sampling's own is [0, 1].
    """

    def __init__(self, bins: int, low: float, high: float):
        if bins < 1:
            raise Refused(f"coupling.bins={bins}: a piecewise law needs at least 1 bin")
        if not low < high:
            raise Refused(f"coupling.low={low} and coupling.high={high} enclose nothing: low must be below high")
        self.bins, self.low, self.high = bins, low, high

    def onto(self, space: Space) -> Space:
        kept = space.top is not None and self.low >= 0 and self.high <= min(space.entries("upper"))
        return space if kept else space.within(None)

    def __call__(self, x: Tensor, params: Tensor, shared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_slope = self._unit(self._to_unit(x), params)
        inside = self._inside(x)
        # Clamped, because rounding must not lead out of the interval: outside, a uniform prior knows no density.
        return torch.where(inside, self._from_unit(y.clamp(0, 1)), x), torch.where(inside, log_slope, 0.0)

    def inverse(self, y: Tensor, params: Tensor, shared: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            x = self._unit_inverse(self._to_unit(y), params)
            x = torch.where(self._inside(y), self._from_unit(x), y)
        # Backwards through the closed form would divide by differences that rounding has spoilt.
        return implicit(x, y, lambda x: self(x, params))

    def _unit(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _unit_inverse(self, y: Tensor, params: Tensor) -> Tensor:
        raise NotImplementedError

    def _inside(self, x: Tensor) -> Tensor:
        return (x > self.low) & (x < self.high)

    def _to_unit(self, x: Tensor) -> Tensor:
        # Clamped before the search: a value in a tail meets a bin that exists, and the branch not taken stays finite.
        return (x.clamp(self.low, self.high) - self.low) / (self.high - self.low)

    def _from_unit(self, x: Tensor) -> Tensor:
        return x * (self.high - self.low) + self.low


def shares(planes: Tensor, least: float) -> Tensor:
    """K unconstrained planes to K positive ones that sum to 1, none below ``least``."""
    return least + (1 - planes.shape[1] * least) * planes.softmax(1)


def knots(shares: Tensor) -> Tensor:
    """The K + 1 ends of K shares laid side by side, from 0 to 1: the last is exactly 1, whatever the sum rounds to."""
    return between(shares[:, :-1].cumsum(1), 0.0, 1.0)


def between(planes: Tensor, first: float, last: float) -> Tensor:
    """The planes with a constant one on either side."""
    edge = planes.new_empty(len(planes), 1, *planes.shape[2:])
    return torch.cat([torch.full_like(edge, first), planes, torch.full_like(edge, last)], 1)


def search(knots: Tensor, x: Tensor) -> Tensor:
    """In which bin x ``(B, *event)`` lies, ``(B, 1, *event)`` in 0 .. K-1: how many inner knots are not above it."""
    return (knots[:, 1:-1] <= x.unsqueeze(1)).sum(1, keepdim=True)


def pick(planes: Tensor, bin: Tensor) -> Tensor:
    """The plane of each element's own bin, ``(B, *event)``."""
    return planes.gather(1, bin).squeeze(1)


def side(knots: Tensor, bin: Tensor) -> tuple[Tensor, Tensor]:
    """Where each element's own bin begins, and how long it is."""
    begin = pick(knots, bin)
    return begin, pick(knots, bin + 1) - begin


def check_least(option: str, least: float, bins: int) -> None:
    """Refuses a smallest share that leaves nothing to learn."""
    if not 0 <= least * bins < 1:
        raise Refused(
            f"coupling.{option}={least} times coupling.bins={bins} is {least * bins:g}, and must be at least 0 and below 1: "
            "the smallest bins would fill the whole interval"
        )
