"""Baselines of tables: what densities without a net reach on the same rows, in the same nats."""

from collections.abc import Iterator
from functools import reduce
from math import log, pi

import numpy as np
import torch
from torch import Tensor

from laminar.data.baselines import mean_and_error
from laminar.data.source import Split, Splits
from laminar.flows.noise import mix
from laminar.flows.numerics import merged, moments, score
from laminar.flows.space import Space

MIXTURE_ROWS, MIXTURE_LIMIT, COMPONENTS = 10_000, 128, (1, 2, 4, 8, 16, 32, 64)
KERNELS, PAIRS = 10_000, 3 * 10**8  # training rows behind a kernel estimate; distances that it may take
AT_ONCE = 2**23  # distances in memory
ROWS, FIRST = 20_000, 3  # rows in float64 at once; the number of their first piece, behind those of the splits
BANDWIDTHS = tuple(2.0**power for power in np.arange(-4, 1.1, 0.5))


def table_baselines(splits: Splits, space: Space, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Name -> nats of the test rows in the table's own units (bits/dim, where all columns are integers), and standard error.

    Integers are spread over [0, 1) above them and rounded values over their step, so that a number is a bound like the
    flow's. Where rows come with context, a score is that of both less that of the context.
    """
    train, val, test = splits
    (mean, scale), kept = _moments(train, space, seed), _subset(len(train), ROWS, seed)
    covariance = _covariance(train, space, seed, mean, scale)
    train, val, test = (
        (_reals(split, space, seed, place) - mean) / scale for place, split in enumerate((train.pick(kept), val, test))
    )
    log_det = -scale[: space.size].log().sum()
    return {
        name: mean_and_error(score(log_prob + log_det, space.unit, space.size), splits.test.group)
        for name, log_prob in _log_probs(covariance, train, val, test, space.size, seed)
    }


def _log_probs(
    covariance: Tensor, train: Tensor, val: Tensor, test: Tensor, dims: int, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Names, and log p of the first ``dims`` columns given the others, ``(N,)``; of all training rows there is a covariance."""
    one = torch.zeros(1, len(covariance)).double(), covariance[None], torch.zeros(1).double()
    yield "gaussian", _mixture(test, *one) - _mixture(test, *one, first=dims)
    if train.shape[1] <= MIXTURE_LIMIT:
        parts = best_mixture(train, seed)
        yield f"mixture of {len(parts[2])} gaussians (BIC)", _mixture(test, *parts) - _mixture(test, *parts, first=dims)
    count = min(len(train), KERNELS, max(1, PAIRS // (len(test) + len(BANDWIDTHS) * min(len(val), 1000))))
    kernels, some = train[_subset(len(train), count, seed)], val[_subset(len(val), 1000, seed)]
    found = {width: kernel_estimate(some, kernels, width, dims).mean().item() for width in BANDWIDTHS}
    yield "kernel density", kernel_estimate(test, kernels, max(found, key=found.get), dims)


def best_mixture(train: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Means, covariances and log-weights of the mixture whose number of components has the least BIC; it grows by doubling."""
    from sklearn.mixture import GaussianMixture

    rows, best, least = train[_subset(len(train), MIXTURE_ROWS, seed)].numpy(), None, float("inf")
    for components in COMPONENTS:
        if components * 2 > len(rows):
            break
        mixture = GaussianMixture(components, reg_covar=1e-4, random_state=seed).fit(rows)
        if (bic := mixture.bic(rows)) >= least:
            break
        best, least = mixture, bic
    return tuple(torch.from_numpy(part) for part in (best.means_, best.covariances_, np.log(best.weights_)))


def kernel_estimate(rows: Tensor, kernels: Tensor, width: float, dims: int) -> Tensor:
    """log p of the first ``dims`` columns given the others, by Gaussian kernels of one width, ``(N,)``."""
    found = []
    for part in rows.split(max(1, AT_ONCE // len(kernels))):
        exponent = torch.cdist(part[:, :dims], kernels[:, :dims]).square_().div_(-2 * width**2)
        below = log(len(kernels))
        if rows.shape[1] > dims:
            given = torch.cdist(part[:, dims:], kernels[:, dims:]).square_().div_(-2 * width**2)
            below = given.logsumexp(1)
            exponent += given
        found.append(exponent.logsumexp(1) - below)
    return torch.cat(found) - dims * (log(width) + 0.5 * log(2 * pi))


def _mixture(rows: Tensor, means: Tensor, covariances: Tensor, log_weights: Tensor, first: int = 0) -> Tensor:
    """log p of the columns from ``first`` on, ``(N,)``; 0 where there are none."""
    if rows.shape[1] == first:
        return rows.new_zeros(len(rows))
    found = []
    for mean, covariance, log_weight in zip(means[:, first:], covariances[:, first:, first:], log_weights, strict=True):
        factor = torch.linalg.cholesky(covariance)
        z = torch.linalg.solve_triangular(factor, (rows[:, first:] - mean).T, upper=False)
        log_scale = factor.diagonal().log().sum() + 0.5 * len(mean) * log(2 * pi)
        found.append(log_weight - 0.5 * z.square().sum(0) - log_scale)
    return torch.stack(found).logsumexp(0)


def _reals(split: Split, space: Space, seed: int, place: int) -> Tensor:
    """The columns as reals, and behind them the context, float64."""
    values = split.values.double()
    levels, step = (space.per_element(name, default=0.0) for name in ("levels", "rounded"))
    if not space.exact:
        generator = torch.Generator().manual_seed(int(mix(seed, place) >> 1))
        u = torch.rand(values.shape, generator=generator, dtype=torch.float64)
        values = values + torch.where(levels > 0, u, step * (u - 0.5))
    return torch.cat([values, *(given.double().flatten(1) for given in split.context.values())], 1)


def _pieces(split: Split, space: Space, seed: int) -> Iterator[Tensor]:
    """All rows of the training split as reals, some at a time."""
    for number, rows in enumerate(torch.arange(len(split)).split(ROWS)):
        yield _reals(split.pick(rows), space, seed, FIRST + number)


def _moments(split: Split, space: Space, seed: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column; 1 where it is constant."""
    count, mean, squares = reduce(merged, map(moments, _pieces(split, space, seed)))
    scale = (squares / count).sqrt()
    return mean, torch.where(scale > 0, scale, 1.0)


def _covariance(split: Split, space: Space, seed: int, mean: Tensor, scale: Tensor) -> Tensor:
    """Of the standardised columns, a little off the singular."""
    total = sum((part := (rows - mean) / scale).T @ part for rows in _pieces(split, space, seed))
    return total / len(split) + 1e-6 * torch.eye(len(total))


def _subset(rows: int, count: int, seed: int) -> Tensor:
    """Places of so many rows, by chance."""
    generator = torch.Generator().manual_seed(int(mix(seed, count) >> 1))
    return torch.randperm(rows, generator=generator)[:count]
