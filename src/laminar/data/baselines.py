"""Baselines: what simple densities reach on the same rows as a run, for a flow to beat."""

from math import log, sqrt

import numpy as np
import torch
from torch import Tensor

from laminar.data.source import Split, Splits
from laminar.flows.noise import mix
from laminar.flows.numerics import bits_per_dim

HISTOGRAM_LIMIT = 1024  # dimensions
MIXTURE_LIMIT = 128  # a full covariance costs rows x dimensions^2 in every iteration: beyond seconds for larger images
COMPONENTS = 10
RIDGES = (0.01, 0.03, 0.1, 0.2, 0.5, 1.0)  # added to the variances, in squared levels


def baselines(splits: Splits, levels: int | None, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Name -> bits/dim of the test rows' integers, and its standard error over the rows.

    Empty for real values. Sets of more dimensions than a baseline can take in a few seconds go without it.
    """
    dims = splits.test.values[0].numel()
    scores = {}
    if levels and dims <= HISTOGRAM_LIMIT:
        scores["histogram"] = histogram(splits.train, splits.test, levels)
    if levels and dims <= MIXTURE_LIMIT:
        scores["gaussian_mixture"] = gaussian_mixture(splits, seed)
    return {name: mean_and_error(bits_per_dim(log_prob, dims)) for name, log_prob in scores.items()}


def histogram(train: Split, test: Split, levels: int) -> Tensor:
    """log P(x) under independent values, each with its training histogram plus one count a level; nats, ``(N,)``."""
    columns = train.values.flatten(1).long()
    shift = levels * torch.arange(columns.shape[1])
    counts = torch.bincount((columns + shift).flatten(), minlength=levels * columns.shape[1])
    log_share = (counts + 1.0).double().log() - log(len(columns) + levels)
    return log_share[test.values.flatten(1).long() + shift].sum(1)


def gaussian_mixture(splits: Splits, seed: int) -> Tensor:
    """Lower bound on log P(x) by a mixture of full-covariance Gaussians on x + u, u uniform on [0, 1); nats, ``(N,)``.

    The density is fitted and scored in units of one level, so that its integral over x's unit cube is P(x). What is
    added to the variances is chosen on the validation rows: without it the mixture learns the training rows by heart.
    """
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(int(mix(seed)))
    rows = (split.values.flatten(1).numpy() for split in splits)
    train, val, test = (x + rng.uniform(size=x.shape) for x in rows)
    mixtures = [GaussianMixture(COMPONENTS, reg_covar=ridge, random_state=seed).fit(train) for ridge in RIDGES]
    return torch.from_numpy(max(mixtures, key=lambda mixture: mixture.score(val)).score_samples(test))


def mean_and_error(scores: Tensor, group: Tensor | None = None) -> tuple[float, float]:
    """Mean and standard error, over groups of rows where there are groups."""
    if group is None:
        return float(scores.mean()), float(scores.std() / sqrt(len(scores)))
    apart = scores.new_zeros(int(group.max()) + 1).index_add_(0, group, scores - scores.mean())
    count = len(group.unique())
    return float(scores.mean()), float((apart.square().sum() * count / (count - 1)).sqrt() / len(scores))
