"""Integrals and zeros over one variable, for many rows at once."""

from collections.abc import Callable
from functools import wraps

import numpy as np
import torch
from torch import Tensor

NODES = 64
PANEL = 26  # standard deviations of a Gaussian that NODES resolve to about 1e-9


def in_float64(log_prob: Callable) -> Callable:
    """Lets ``log_prob(self, x)`` count in float64 whatever the dtype of ``x``, which its result takes."""

    @wraps(log_prob)
    def wrapped(self, x: Tensor) -> Tensor:
        return log_prob(self, x.double().clamp(-1e100, 1e100)).to(x)  # farther away, squares would overflow

    return wrapped


def in_parts(f: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """``f(x)``, over so few rows at a time that ``width`` numbers for each fit a cache."""
    return torch.cat([f(rows) for rows in x.split(max(1, 2**17 // width))])


def log_integral(log_f: Callable[[Tensor, Tensor], Tensor], x: Tensor, edges: np.ndarray) -> Tensor:
    """log int exp log_f(x, t) dt for each row of ``x``, by Gauss-Legendre quadrature between neighbouring ``edges``."""
    node, weight = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges)[:, None] / 2
    t = torch.from_numpy((edges[:-1, None] + half * (1 + node)).ravel()).to(x)
    log_weight = torch.from_numpy(np.log(half * weight).ravel()).to(x)
    return in_parts(lambda rows: torch.logsumexp(log_f(rows, t) + log_weight, 1), x, len(t))


def zeros(f: Callable[..., Tensor], knots: Tensor, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros of ``f(t, *given)`` in t, one wherever neighbouring knots differ in sign: their rows, cells and values.

    Args:
        knots: ascending, ``(rows, K)``.
        given: further arguments of ``f``, each ``(rows,)``.
    """
    positive = f(knots, *(part[:, None] for part in given)) > 0
    row, cell = positive.diff(dim=1).nonzero(as_tuple=True)
    low, high, rising = knots[row, cell], knots[row, cell + 1], positive[row, cell + 1]
    given = [part[row] for part in given]
    for _ in range(52):  # float64's bits
        middle = (low + high) / 2
        beyond = (f(middle, *given) > 0) == rising
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return row, cell, (low + high) / 2
