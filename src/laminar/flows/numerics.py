"""Small numerical tools that every floor shares."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from math import log
from typing import Any

import torch
from torch import Tensor

LOG2 = log(2.0)
Moments = tuple[int, Tensor, Tensor]


def sum_event(values: Tensor) -> Tensor:
    """Sum over everything but the batch: ``(B, ...) -> (B,)``."""
    return values.flatten(1).sum(1) if values.dim() > 1 else values


def bits_per_dim(log_prob: Tensor, dims: int) -> Tensor:
    """Nats to bits per dimension: ``-log_prob / (dims * ln 2)``. Nothing else: log_prob is that of the integers themselves."""
    return -log_prob / (dims * LOG2)


def score(log_prob: Tensor, unit: str, dims: int) -> Tensor:
    """log p in nats as it is told: bits/dim for ``bpd``, else nats; smaller is better."""
    return bits_per_dim(log_prob, dims) if unit == "bpd" else -log_prob


def full_precision(like: Tensor) -> AbstractContextManager[Any]:
    """Switches autocast off: likelihood arithmetic runs in the precision of its tensors, float32 or better."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def inside(u: Tensor) -> Tensor:
    """Values of [0, 1] with its ends counted as their neighbours inside: in [tiny, 1 - eps/2], where logs are finite."""
    limits = torch.finfo(u.dtype)
    return u.clamp(limits.tiny, 1 - limits.eps / 2)


def logistic_quantile(u: Tensor) -> Tensor:
    """log(u / (1 - u)) of a uniform draw in [0, 1): a standard logistic draw.

    A zero, one draw in 2^24 in float32, counts as half of the smallest step above it, so that no draw is infinite.
    """
    return u.clamp(min=torch.finfo(u.dtype).eps / 4).log() - torch.log1p(-u)


NEWTON_STEPS = 16
_INTEGERS = {torch.float32: (torch.int32, 31), torch.float64: (torch.int64, 63)}


def find_root(f: Callable[[Tensor], tuple[Tensor, Tensor]], low: Tensor, high: Tensor, guess: Tensor) -> Tensor:
    """x in [low, high] with value 0, elementwise, where ``f(x) -> value, slope`` increases and is in units of 1.

    Newton's method, and the middle of the bracket where Newton would leave the bracket or its last step did not halve the
    value. A point is final once |value| <= 4 eps, which is what rounding leaves of it, or the bracket is at most 4 eps |x|
    wide; no Newton step is shorter than half of that, so that the last one crosses the root and closes the bracket.

    The worst case is bounded too: there are only 2^32 float32 numbers (2^64 float64), and a bracket that holds 2^n of them
    is closed by n bisections that halve this *count*. So the budget is 32 (64) evaluations and 16 more, and Newton is
    followed only while what is left of the budget could still close the bracket. Eager calls stop as soon as all points
    are final; a compiled one spends the budget, since it may not look. No gradient: see ``implicit``.
    """
    eps = torch.finfo(guess.dtype).eps
    bits = _INTEGERS[guess.dtype][1] + 1
    bracketed = low <= high  # false where something is not a number
    x = guess.maximum(low).minimum(high)
    halved = torch.full_like(x, torch.inf)  # what the next value must stay below for Newton to go on
    for left in range(bits + NEWTON_STEPS - 1, -1, -1):
        value, slope = f(x)
        low, high = torch.where(value <= 0, x, low), torch.where(value >= 0, x, high)
        least = 2 * eps * x.abs()
        final = (value.abs() <= 4 * eps) | (high - low <= 2 * least)
        newton = x - torch.copysign((value / slope).abs().maximum(least), value)
        tame = (newton >= low) & (newton <= high) & (value.abs() <= halved)
        middle = low + (high - low) / 2
        if left < bits:
            first, last = _rank(low), _rank(high)
            # Halved before the subtraction, which would overflow.
            in_time = (last >> 1) - (first >> 1) < 2 ** max(left - 1, 0)
            tame &= in_time
            middle = torch.where(in_time, middle, _unrank((first & last) + ((first ^ last) >> 1), x.dtype))
        halved = torch.where(tame, value.abs() / 2, torch.inf)
        x = torch.where(final, x, torch.where(tame, newton, middle))
        if not torch.compiler.is_compiling() and bool((final | ~bracketed).all()):
            break
    return torch.where(bracketed, x, torch.nan)


def _rank(x: Tensor) -> Tensor:
    """A float's rank among all floats: neighbours differ by one."""
    integer, bits = _INTEGERS[x.dtype]
    raw = x.view(integer)
    return raw ^ ((raw >> bits) & torch.iinfo(integer).max)


def _unrank(rank: Tensor, dtype: torch.dtype) -> Tensor:
    bits = _INTEGERS[dtype][1]
    return (rank ^ ((rank >> bits) & torch.iinfo(rank.dtype).max)).view(dtype)


def invert(f: Callable[[Tensor], tuple[Tensor, Tensor]], y: Tensor, low: Tensor, high: Tensor, guess: Tensor) -> Tensor:
    """x in [low, high] with f(x) = y, where ``f(x) -> y, log_slope`` increases: ``find_root``, its gradient ``implicit``."""
    unit = 1 + y.detach().abs()

    def distance(x: Tensor) -> tuple[Tensor, Tensor]:
        value, log_slope = f(x)
        return (value - y) / unit, log_slope.exp() / unit

    with torch.no_grad():
        x = find_root(distance, low, high, guess)
    return implicit(x, y, f)


def implicit(x: Tensor, y: Tensor, f: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """x, found without gradient such that ``f(x) -> y, log_slope``, given the gradient of the implicit function theorem.

    dx = (dy - df) / slope, df being through what f depends on beside x. First derivatives only.
    """
    if not torch.is_grad_enabled():
        return x
    value, log_slope = f(x)
    # In a plateau of f the gradient is truly unbounded; e^20 is as good as infinite, and overflows nowhere behind.
    step = (y - value) * torch.exp(-log_slope.detach().clamp(min=-20))
    return x + (step - step.detach())


def moments(rows: Tensor) -> Moments:
    """Count, mean and sum of squares about it, per element, in float64."""
    rows = rows.double()
    mean = rows.mean(0)
    return len(rows), mean, (rows - mean).square().sum(0)


def merged(a: Moments, b: Moments) -> Moments:
    """The moments of both parts (Chan, Golub and LeVeque 1983)."""
    count, apart = a[0] + b[0], b[1] - a[1]
    return count, a[1] + apart * (b[0] / count), a[2] + b[2] + apart.square() * (a[0] * b[0] / count)
