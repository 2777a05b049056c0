"""Priors: densities against scipy and integrals, draws against their distribution, temperature in its own sense."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy import stats

from laminar.config.recipe import build
from laminar.flows import noise
from laminar.flows.initialise import initialising
from laminar.flows.prior.beta import Beta
from laminar.flows.prior.fitted_mixture import FittedMixture, log_joint
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.prior.logistic import Logistic
from laminar.flows.prior.mixture import Mixture
from laminar.flows.prior.uniform import Uniform
from laminar.flows.space import Space
from laminar.refused import Refused

PRIORS = {
    "gaussian": Gaussian,
    "logistic": Logistic,
    "uniform": partial(Uniform, low=-1.0, high=3.0),
    "beta": Beta,
    "beta_skew": partial(Beta, a=0.7, b=2.0),
    "mixture": partial(Mixture, components=4),
    "mixture_logistic": partial(Mixture, components=4, family="logistic"),
    "mixture_per_dimension": partial(Mixture, components=4, joint=False),
}
KNOWN = {  # with its distribution at temperature 1/2
    "gaussian": (stats.norm(), stats.norm(scale=0.5)),
    "logistic": (stats.logistic(), stats.logistic(scale=0.5)),
    "uniform": (stats.uniform(-1, 4), stats.uniform(0, 2)),
    "beta": (stats.beta(5, 5), stats.beta(9, 9)),
    "beta_skew": (stats.beta(0.7, 2), stats.beta(0.4, 3)),
}
every_prior = pytest.mark.parametrize("name", PRIORS)
known_priors = pytest.mark.parametrize("name", KNOWN)


def built(name, *event, dtype=torch.float64):
    torch.manual_seed(0)
    prior = PRIORS[name](Space(event)).to(dtype)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return prior


@known_priors
def test_log_prob_is_scipys(name):
    prior = built(name, 3, 2)
    z = torch.from_numpy(KNOWN[name][0].rvs((50, 3, 2), random_state=1))
    expected = KNOWN[name][0].logpdf(z.numpy()).sum((1, 2))
    np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-12)


@every_prior
def test_density_integrates_to_one_in_two_dimensions(name):
    inside = {"uniform": (-1, 3), "beta": (0, 1), "beta_skew": (0, 1), "logistic": (-50, 50)}.get(name, (-30, 30))
    n = 1000
    middles = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    if name == "beta_skew":  # its density is unbounded at 0: a grid that is finer there, z = t^4
        z, cell = middles**4, 4 * middles**3 / n
    else:
        z, cell = inside[0] + (inside[1] - inside[0]) * middles, torch.full((n,), (inside[1] - inside[0]) / n)
    grid = torch.cartesian_prod(z, z)
    mass = built(name, 2).log_prob(grid).exp() @ torch.outer(cell.double(), cell.double()).flatten()
    assert mass.item() == pytest.approx(1, abs=1e-4)


@known_priors
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_follow_their_distribution(name, temperature):
    prior = built(name, 10, dtype=torch.float32)
    draws = prior.sample(2000, temperature).flatten().double().numpy()
    assert stats.kstest(draws, KNOWN[name][0 if temperature == 1 else 1].cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["mixture", "mixture_logistic", "mixture_per_dimension"])
def test_mixture_draws_follow_their_density(name):
    """E[w(z)] under draws against the same integral of the density on a grid, w covering the plane."""
    prior = built(name, 2)
    z = torch.linspace(-30, 30, 1501, dtype=torch.float64)
    grid = torch.cartesian_prod(z, z)
    weight = prior.log_prob(grid).detach().exp() * (z[1] - z[0]) ** 2
    draws = prior.sample(40_000)
    for angle in (0.0, 1.0, 2.0):
        frequency = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        assert (draws @ frequency).cos().mean().item() == pytest.approx(((grid @ frequency).cos() @ weight).item(), abs=0.02)
        assert (draws @ frequency).sin().mean().item() == pytest.approx(((grid @ frequency).sin() @ weight).item(), abs=0.02)


@pytest.mark.parametrize("name", ["mixture", "mixture_logistic", "mixture_per_dimension"])
def test_a_cold_mixture_sits_on_its_means(name):
    prior = built(name, 3)
    draws = prior.sample(500, temperature=0.0)
    if prior.joint:
        distance = (draws[:, None] - prior.mean).abs().amax(2).amin(1)
        nearest = (draws[:, None] - prior.mean).abs().amax(2).argmin(1)
        assert len(nearest.unique()) == 4
    else:
        distance = (draws[:, None] - prior.mean).abs().amin(1)
    assert distance.max() < 1e-12


@pytest.mark.parametrize("options", [{}, {"joint": False}, {"family": "logistic"}])
def test_mixture_components_start_apart_at_about_unit_variance(options):
    torch.manual_seed(0)
    prior = Mixture(Space((50,)), components=5, **options)
    gaps = (prior.mean[:, None] - prior.mean[None]).abs().amax(2) + torch.eye(5)
    assert gaps.min() > 0.05
    assert 0.7 < prior.sample(2000).std().item() < 1.3


@every_prior
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_have_finite_logs_and_gradients_or_minus_infinity_outside(name, dtype):
    prior = built(name, 1, dtype=dtype)
    bounded = name in ("uniform", "beta", "beta_skew")
    far = torch.tensor([[0.0], [1.0], [0.5], [1e-40], [-1e4], [1e4], [-1e15]], dtype=dtype, requires_grad=True)
    log_prob = prior.log_prob(far)
    outside = torch.tensor([bounded and not 0 <= z <= 1 for z in far.flatten().tolist()])
    assert log_prob[~outside].isfinite().all() and (log_prob[outside] == -torch.inf).all()
    if log_prob.requires_grad:
        assert torch.autograd.grad(log_prob[~outside].sum(), far)[0].isfinite().all()


@every_prior
def test_draws_have_the_shape_and_precision_of_the_prior_and_a_finite_density(name):
    for event, dtype in (((3,), torch.float32), ((2, 4, 4), torch.float64)):
        prior = built(name, *event, dtype=dtype)
        draws = prior.sample(6)
        assert draws.shape == (6, *event) and draws.dtype == dtype
        assert prior.log_prob(draws).shape == (6,) and prior.log_prob(draws).isfinite().all()


@every_prior
def test_a_row_of_a_draw_is_a_function_of_its_key(name):
    prior = built(name, 3, dtype=torch.float32)
    keys = noise.mix(np.arange(4))
    with noise.source(keys):
        draws = prior.sample(4)
    with noise.source(keys[2:]):
        assert prior.sample(2).equal(draws[2:])


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (partial(Uniform, low=1, high=1), "prior.low=1 and prior.high=1"),
        (partial(Beta, a=0), "prior.a=0"),
        (partial(Mixture, components=0), "prior.components=0"),
        (partial(Mixture, family="cauchy"), "not 'cauchy'"),
    ],
)
def test_options_that_cannot_work_are_refused(recipe, words):
    with pytest.raises(Refused, match=words):
        recipe(Space((2,)))


@pytest.mark.parametrize(("prior", "temperature"), [("beta", 0.0), ("beta_skew", 0.25)])
def test_a_temperature_that_leaves_no_beta_is_refused(prior, temperature):
    with pytest.raises(Refused, match="temperature"):
        built(prior, 2).sample(1, temperature)


@pytest.mark.parametrize("page", sorted((Path(__file__).parents[1] / "conf" / "prior").glob("*.yaml")), ids=lambda p: p.stem)
def test_pages_cook(page):
    prior = build(yaml.safe_load(page.read_text()), "flow")(Space((4,)))
    assert prior.log_prob(torch.rand(200, 4)).isfinite().all()  # one that is fitted sees noise first
    assert prior.log_prob(prior.sample(3)).isfinite().all()


# -- a mixture fitted by expectation maximisation ------------------------------------------------------------------------


def clouds(rows: int = 2000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator, dtype=torch.float64) @ torch.randn(3, 3, generator=generator).double()
    x[: rows // 3] += torch.tensor([6.0, -4.0, 2.0], dtype=torch.float64)
    return x


def test_a_fitted_mixture_is_the_best_one_by_bic():
    from sklearn.mixture import GaussianMixture

    prior, x = FittedMixture(Space((3,)), components=8).double(), clouds()
    with initialising():
        prior.log_prob(x)
    peer = GaussianMixture(2, random_state=0, reg_covar=1e-3).fit(x.numpy())
    assert prior.log_prob(x).mean().item() == pytest.approx(peer.score(x.numpy()), abs=2e-3)
    weights = prior.log_weight.exp()
    assert weights[2:].eq(0).all() and sorted(weights[:2].tolist()) == pytest.approx([1 / 3, 2 / 3], abs=0.02)
    assert not list(prior.parameters()) and all(value.isfinite().all() for value in prior.state_dict().values())
    with noise.keyed(40_000, 0):
        drawn, cold = prior.sample(40_000), prior.sample(40_000, temperature=0.5)
    torch.testing.assert_close(drawn.T.cov(), x.T.cov(correction=0), atol=0.15, rtol=0.05)
    inside = [x[1000:].T.cov().trace(), cold[prior_of(prior, cold) == weights[:2].argmax()].T.cov().trace()]
    assert inside[1] == pytest.approx(inside[0].item() / 4, rel=0.1)
    one = FittedMixture(Space((3,)), components=8).double()
    with initialising():
        one.log_prob(x[1000:])  # a single Gaussian
    assert one.log_weight.exp()[1:].eq(0).all()


def test_a_fitted_student_knows_its_tails_and_its_density():
    truth = stats.multivariate_t([1.0, -2.0, 0.5], np.diag([1.0, 4.0, 0.25]) + 0.1, df=5)
    prior = FittedMixture(Space((3,)), components=4, tails="student").double()
    x = torch.from_numpy(truth.rvs(4000, random_state=0))
    with initialising():
        prior.log_prob(x)
    assert prior.freedom == 5 and prior.log_weight.exp()[1:].eq(0).all()
    shape = (prior.factor[0] @ prior.factor[0].T).numpy()
    np.testing.assert_allclose(prior.mean[0], truth.loc, atol=0.15)
    np.testing.assert_allclose(shape, truth.shape, atol=0.4)
    own = stats.multivariate_t(prior.mean[0].numpy(), shape, df=5)
    far = torch.cat([x[:50], 1e3 * x[:5]])
    np.testing.assert_allclose(prior.log_prob(far), own.logpdf(far.numpy()), rtol=1e-9)
    with noise.keyed(20_000, 0):
        drawn = prior.sample(20_000)
    for column, (place, scale) in enumerate(zip(own.loc, np.diag(shape) ** 0.5, strict=True)):
        assert stats.kstest(drawn[:, column].numpy(), stats.t(5, place, scale).cdf).pvalue > 1e-3
    assert FittedMixture(Space((3,))).state_dict().keys() == prior.state_dict().keys() - {"freedom"}


def prior_of(prior: FittedMixture, z: torch.Tensor) -> torch.Tensor:
    """The likeliest component of each row."""
    return log_joint(z, prior.log_weight, prior.mean, prior.factor).argmax(1)


def test_a_mixture_that_saw_no_data_refuses():
    with pytest.raises(Refused, match="has never seen data"):
        FittedMixture(Space((3,))).eval().log_prob(torch.zeros(2, 3))
    with pytest.raises(Refused, match="there is none yet to draw"):
        FittedMixture(Space((3,))).sample(2)
    with pytest.raises(Refused, match="one of vectors"):
        FittedMixture(Space((1, 2, 2)))
    with pytest.raises(Refused, match=r"prior\.components=0"):
        FittedMixture(Space((3,)), components=0)
    with pytest.raises(Refused, match=r"prior\.tails"):
        FittedMixture(Space((3,)), tails="heavy")
