"""Truncated-normal dequantization against scipy's distribution, and against integrals over the cells of integers."""

from functools import partial

import numpy as np
import pytest
import torch
from pages import DIGITS, flow
from parts import refuses
from scipy import stats
from scipy.integrate import quad

from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.dequantization.truncated_normal import TruncatedNormal
from laminar.flows.flow import Flow
from laminar.flows.preprocessing.affine import Affine
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.space import Space

LEVELS = 5
LINE = Space((1,), levels=LEVELS)


def law(sigma: float):
    return stats.truncnorm(-0.5 / sigma, 0.5 / sigma, loc=0.5, scale=sigma)


def density(v: float) -> float:
    """Of the reals behind the dequantizer of ``model``."""
    return stats.norm.pdf(2 * v / LEVELS - 1) * 2 / LEVELS


def model(sigma: float) -> Flow:
    parts = [partial(TruncatedNormal, sigma=sigma), partial(Affine, low=-1.0, high=1.0)]
    return Flow(LINE, partial(Chain, parts=parts), Gaussian)


@pytest.mark.parametrize("sigma", [0.02, 0.125, 0.4, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_and_their_density_are_scipys(sigma, dtype):
    torch.manual_seed(0)
    part = TruncatedNormal(Space((1,), levels=256), sigma).to(dtype)
    z, contribution = part(torch.zeros(20_000, 1, dtype=torch.uint8))
    u = z.squeeze(1).double().numpy()
    assert z.dtype is dtype and (u > 0).all() and (u < 1).all()
    assert stats.kstest(u, law(sigma).cdf).pvalue > 0.01
    np.testing.assert_allclose(contribution.double(), -law(sigma).logpdf(u), atol=2e-4 if dtype is torch.float32 else 1e-9)


def test_weights_average_to_the_probability_of_an_integer():
    torch.manual_seed(0)
    built, n = model(0.3), 100_000
    assert built.grade == "bound" and built.unit == "bpd"
    for x in range(LEVELS):
        with torch.no_grad():
            values = built.log_prob(torch.full((n, 1), x)).double()
        weights, exact = values.exp(), quad(density, x, x + 1)[0]
        assert abs(weights.mean() - exact) < 4 * weights.std() / n**0.5 < 0.01 * exact
        q = law(0.3)
        bound = quad(lambda u, q=q, x=x: q.pdf(u) * (np.log(density(x + u)) - q.logpdf(u)), 0, 1)[0]
        assert abs(values.mean() - bound) < 4 * values.std() / n**0.5 and bound < np.log(exact)


def test_a_wide_one_is_uniform_and_the_centre_is_the_middle_of_the_cell():
    _, contribution = TruncatedNormal(LINE, 100.0)(torch.zeros(50, 1))
    assert contribution.abs().max() < 1e-4
    with noise.centre():
        z, _ = TruncatedNormal(LINE)(torch.arange(LEVELS).unsqueeze(1))
    assert z.flatten().tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


def test_every_level_comes_back_and_extreme_draws_stay_finite(monkeypatch):
    x = torch.randint(256, (1000, 3, 4, 4), dtype=torch.uint8)
    for sigma in (0.001, 0.125, 2.0):
        part = TruncatedNormal(Space((3, 4, 4), levels=256), sigma)
        for value in (0.0, 1 - 2**-24, 0.5):
            monkeypatch.setattr(noise, "uniform", lambda like, value=value: torch.full_like(like, value))
            z, contribution = part(x)
            assert torch.equal(part.inverse(z), x) and contribution.isfinite().all()


def test_it_is_a_page_and_is_refused_where_it_does_not_fit():
    assert flow(DIGITS, "flow=realnvp", "data=digits", "dequantization=truncated_normal", "size.levels=2").grade == "bound"
    refuses(lambda: TruncatedNormal(LINE, 0.0), r"dequantization\.sigma=0\.0 is no noise")
    refuses(lambda: TruncatedNormal(Space((2,))), "is for integers")
    refuses(lambda: TruncatedNormal(Space((2,), levels=(4, None))), "is for integers.*dequantization=uniform")
