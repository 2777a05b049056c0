"""What piecewise laws share: bins over an interval, and a search among them without data-dependent shapes."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from laminar.flows.coupling.law import Law
from laminar.flows.numerics import implicit
from laminar.flows.space import Space
from laminar.refused import Refused

UNROLLED = 8  # bins, up to which a compiler is given each plane by itself: faster by far, and slower to compile


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
        return torch.lerp(x, self._from_unit(y.clamp(0, 1)), inside), torch.where(inside > 0, log_slope, 0.0)

    def inverse(self, y: Tensor, params: Tensor, shared: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            x = self._unit_inverse(self._to_unit(y), params)
            x = torch.lerp(y, self._from_unit(x), self._inside(y))
        # Backwards through the closed form would divide by differences that rounding has spoilt.
        return implicit(x, y, lambda x: self(x, params))

    def _unit(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _unit_inverse(self, y: Tensor, params: Tensor) -> Tensor:
        raise NotImplementedError

    def _inside(self, x: Tensor) -> Tensor:
        """1 within the interval, 0 in the tails, as floats: a choice by truth values takes several times as long."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return (x.detach() - middle).abs_().lt_(half)

    def _to_unit(self, x: Tensor) -> Tensor:
        # Clamped before the search: a value in a tail meets a bin that exists, and the branch not taken stays finite.
        return (x.clamp(self.low, self.high) - self.low) / (self.high - self.low)

    def _from_unit(self, x: Tensor) -> Tensor:
        return x * (self.high - self.low) + self.low


class Place(NamedTuple):
    """In which bin each of N elements lies: its number from 0, a float of the elements' shape, and the place of its plane's own
    element among the K x N of a stack."""

    bin: Tensor
    flat: Tensor


def bins_first(params: Tensor) -> Tensor:
    """``(B, n, *event)`` to a stack ``(n, B, *event)``: what is done to whole planes is done several times as fast to these."""
    return params.transpose(0, 1).contiguous()


def apart(bins: int) -> bool:
    """Whether planes are handled one by one."""
    return torch.compiler.is_compiling() and bins <= UNROLLED


def shares(planes: Tensor, least: float) -> Tensor:
    """K unconstrained planes to K positive ones that sum to 1, none below ``least``."""
    return least + (1 - len(planes) * least) * planes.softmax(0)


def knots(lengths: Tensor) -> Tensor:
    """The K + 1 ends of K lengths laid side by side, from 0 to 1: the last is exactly 1, whatever the sum rounds to."""
    edge = torch.zeros_like(lengths[:1])
    return torch.cat([edge, lengths[:-1].cumsum(0), edge + 1])


def place(bin: Tensor) -> Place:
    """Of bins numbered by a float, ``(B, *event)``."""
    own = torch.arange(bin.numel(), device=bin.device)
    return Place(bin, torch.add(own, bin.long().view(-1), alpha=bin.numel()))


def pick(planes: Tensor | Sequence[Tensor], at: Place, above: int = 0) -> Tensor:
    """Of a stack, or of planes one by one, each element's own plane, or one above, ``(B, *event)``."""
    if not isinstance(planes, Tensor):
        own, *further = planes[above:]
        for bin, plane in enumerate(further, 1):
            own = torch.where(at.bin >= bin, plane, own)
        return own
    return planes[above:].view(-1).index_select(0, at.flat).view(planes.shape[1:])


def search(knots: Tensor | Sequence[Tensor], x: Tensor) -> Place:
    """In which bin x ``(B, *event)`` lies: how many inner knots are not above it."""
    with torch.no_grad():
        if not isinstance(knots, Tensor):
            return Place(sum(((knot <= x).to(x.dtype) for knot in knots[1:-1]), torch.zeros_like(x)), None)
        return place(torch.le(knots[1:-1], x, out=torch.empty_like(knots[1:-1])).sum(0))


def locate(planes: Tensor, least: float, x: Tensor) -> tuple[Place, Tensor, Tensor]:
    """K unconstrained planes are the shares of K bins of [0, 1], none below ``least``: the bin of x, its begin, its length."""
    return _side(planes, least, x, None)


def side(planes: Tensor, least: float, at: Place) -> tuple[Tensor, Tensor]:
    """Begin and length of the bins at some places, of such planes."""
    return _side(planes, least, None, at)[1:]


def _side(planes: Tensor, least: float, x: Tensor | None, at: Place | None) -> tuple[Place, Tensor, Tensor]:
    if torch.compiler.is_compiling():
        ends = _unrolled(planes, least) if apart(len(planes)) else knots(shares(planes, least))
        at = search(ends, x) if at is None else at
        begin = pick(ends, at)
        return at, begin, pick(ends, at, above=1) - begin
    begin, length, bin, flat, _ = Side.apply(planes, least, x, at)
    return Place(bin, flat), begin, length


def _unrolled(planes: Tensor, least: float) -> list[Tensor]:
    """The knots of these shares, plane by plane: a compiler makes one pass of all that."""
    planes, count = [*planes], len(planes)
    top = reduce(torch.maximum, planes).detach()
    parts = [(plane - top).exp() for plane in planes]
    scale = (1 - count * least) / sum(parts)
    ends = [torch.zeros_like(top)]
    for part in parts[:-1]:
        ends.append(ends[-1] + (least + scale * part))
    return [*ends, torch.ones_like(top)]


class Side(torch.autograd.Function):
    """The bins of one side: as a softmax, a running sum and two picks, with a gradient in three passes over the planes.

    With p = softmax(planes) and s = 1 - K least, bin b begins at b least + s (p_0 + .. + p_b-1) and is least + s p_b long.
    """

    @staticmethod
    def forward(ctx: Any, planes: Tensor, least: float, x: Tensor | None, at: Place | None) -> tuple[Tensor, ...]:
        count, scale = len(planes), 1 - len(planes) * least
        share = (planes - planes.amax(0)).exp_()
        share /= share.sum(0)
        ends = share.new_empty(count + 1, *share.shape[1:])
        ends[0], ends[-1] = 0, 1  # whatever the sum rounds to
        for begin, one, end in zip(ends[:-2], share[:-1], ends[1:-1], strict=True):  # five times as fast as torch's running sum
            torch.add(begin, one, alpha=scale, out=end)
        ends[1:-1].add_(_numbers(count - 1, share) + 1, alpha=least)
        at = search(ends, x) if at is None else at
        begin = pick(ends, at)
        length = pick(ends, at, above=1) - begin
        ctx.least = least
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*at)
        ctx.save_for_backward(begin, length, *at, share)
        return begin, length, *at, share

    @staticmethod
    def backward(ctx: Any, of_begin: Tensor, of_length: Tensor, of_bin: None, of_flat: None, of_share: Tensor | None) -> tuple:
        begin, length, bin, flat, share = ctx.saved_tensors
        count, least = len(share), ctx.least
        scale = 1 - count * least
        of_begin, of_length = (torch.zeros_like(begin) if one is None else one for one in (of_begin, of_length))
        mean = of_begin * (begin - least * bin) + of_length * (length - least)
        slope = torch.lt(_numbers(count, share), bin, out=torch.empty_like(share)).mul_(scale * of_begin)
        slope = slope.view(-1).index_add_(0, flat, scale * of_length.view(-1)).view_as(share)
        if of_share is not None:  # where somebody differentiates twice
            mean, slope = mean + (share * of_share).sum(0), slope + of_share
        return slope.sub_(mean).mul_(share), None, None, None


def _numbers(count: int, like: Tensor) -> Tensor:
    """0, 1, .. for the planes of a stack."""
    return torch.arange(count, dtype=like.dtype, device=like.device).view(count, *[1] * (like.dim() - 1))


def check_least(option: str, least: float, bins: int) -> None:
    """Refuses a smallest share that leaves nothing to learn."""
    if not 0 <= least * bins < 1:
        raise Refused(
            f"coupling.{option}={least} times coupling.bins={bins} is {least * bins:g}, and must be at least 0 and below 1: "
            "the smallest bins would fill the whole interval"
        )
