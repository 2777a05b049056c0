"""Baselines: bits/dim of simple densities, against closed forms."""

from math import log2

import numpy as np
import pytest
import torch

from laminar.data.baselines import baselines, gaussian_mixture, histogram, mean_and_error
from laminar.data.digits import Digits
from laminar.data.source import Split, Splits
from laminar.data.toys import Moons
from laminar.flows.numerics import LOG2


def columns(*counts, repeat=1):
    """One-column rows in which level i occurs counts[i] times."""
    levels = torch.arange(len(counts), dtype=torch.uint8)
    return Split.whole(levels.repeat_interleave(torch.tensor(counts) * repeat).view(-1, 1, 1, 1))


def test_histogram_is_the_share_with_one_added():
    log_prob = histogram(columns(5, 1, 0), columns(1, 1, 1), levels=3)
    assert torch.allclose(log_prob.exp(), torch.tensor([6, 2, 1]).double() / 9)


def test_histogram_sums_over_all_images_to_one():
    rng = torch.Generator().manual_seed(0)
    train = Split.whole(torch.randint(0, 3, (50, 1, 1, 3), generator=rng, dtype=torch.uint8))
    every = Split.whole(torch.cartesian_prod(*[torch.arange(3, dtype=torch.uint8)] * 3).view(-1, 1, 1, 3))
    assert float(histogram(train, every, 3).exp().sum()) == pytest.approx(1)


def test_mixture_bounds_the_entropy_of_a_rounded_gaussian():
    """On rounded draws of one Gaussian the bound must stay above the entropy, and close to it."""
    rng = np.random.default_rng(0)
    draws = [np.floor(rng.normal(20, 4, (n, 2))).astype(np.uint8) for n in (4000, 1000, 4000)]
    splits = Splits(*(Split.whole(torch.from_numpy(x).view(-1, 1, 1, 2)) for x in draws))
    bits = float(-gaussian_mixture(splits, seed=0).mean() / (2 * LOG2))
    entropy = log2(4 * np.sqrt(2 * np.pi * np.e))
    assert entropy - 0.02 < bits < entropy + 0.05


def test_digits_reach_their_reference_points():
    scores = baselines(Digits(batch_size=1).load(seed=0), levels=17)
    (histograms, error), (mixture, _) = scores["histogram"], scores["gaussian_mixture"]
    assert histograms == pytest.approx(2.43, abs=0.02) and 0.005 < error < 0.02
    assert mixture == pytest.approx(2.68, abs=0.06)


def test_what_is_too_large_or_real_goes_without():
    images = Split.whole(torch.zeros(4, 1, 16, 16, dtype=torch.uint8))
    assert list(baselines(Splits(images, images, images), levels=256)) == ["histogram"]
    large = Split.whole(torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
    assert baselines(Splits(large, large, large), levels=256) == {}
    assert baselines(Moons(batch_size=1, train_size=20, test_size=10).load(0), levels=None) == {}


def test_standard_error():
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert mean_and_error(scores) == pytest.approx((2.5, np.std([1, 2, 3, 4], ddof=1) / 2))
