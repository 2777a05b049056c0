"""Observations: p(x | params) of stored values, against enumeration, scipy and their own quantiles."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from laminar.flows import noise
from laminar.flows.observation.bernoulli import Bernoulli
from laminar.flows.observation.categorical import Categorical
from laminar.flows.observation.discretized_logistic import DiscretizedLogistic
from laminar.flows.observation.gaussian import Gaussian
from laminar.flows.space import Space
from laminar.refused import Refused

INTEGERS = {
    "bernoulli": (Bernoulli, 2),
    "categorical": (Categorical, 5),
    "discretized_logistic": (DiscretizedLogistic, 17),
    "discretized_logistic_binary": (DiscretizedLogistic, 2),
    "discretized_logistic_one_scale": (partial(DiscretizedLogistic, one_scale=True), 17),
}
every_kind = pytest.mark.parametrize("name", INTEGERS)


def drawn(name: str, n: int = 6, event: tuple[int, ...] = (3, 2, 2)):
    """An observation, parameters of n events, and every level ``(levels, n, *event)`` with its log-probabilities."""
    kind, levels = INTEGERS[name]
    observation = kind(Space(event, levels=levels))
    planes, generator = observation.arity + observation.shared, torch.Generator().manual_seed(1)
    params = 1.5 * torch.randn(n, planes, *event, generator=generator, dtype=torch.float64)
    x = torch.arange(levels, dtype=torch.float64).view(-1, 1, 1, 1, 1).expand(-1, n, *event)
    return observation, params, x, torch.stack([observation.log_probs(value, params) for value in x])


@every_kind
def test_the_levels_share_all_of_the_probability(name):
    _, _, _, log_probs = drawn(name)
    torch.testing.assert_close(log_probs.logsumexp(0), torch.zeros_like(log_probs[0]), rtol=0, atol=1e-12)


@every_kind
def test_an_events_log_prob_is_the_sum_of_its_values(name):
    observation, params, x, log_probs = drawn(name)
    torch.testing.assert_close(observation.log_prob(x[1], params), log_probs[1].flatten(1).sum(1))


@every_kind
def test_the_mean_is_that_of_the_levels(name):
    observation, params, x, log_probs = drawn(name)
    torch.testing.assert_close(observation.mean(params), (x * log_probs.exp()).sum(0))


@every_kind
def test_a_quantile_is_the_first_level_that_reaches_u(name):
    observation, params, _, log_probs = drawn(name)
    u = torch.rand(params[:, 0].shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = (log_probs.exp().cumsum(0)[:-1] <= u).sum(0)
    assert torch.equal(observation.quantile(u, params).long(), expected)


@every_kind
def test_draws_fall_as_often_as_they_should(name):
    observation, params, x, log_probs = drawn(name, n=1, event=(2, 1, 1))
    torch.manual_seed(0)
    draws = observation.sample(params.expand(20_000, -1, -1, -1, -1))
    share = (draws == x[:, :1]).double().mean(1, keepdim=True)
    p = log_probs.exp()
    assert ((share - p).abs() <= 5 * (p * (1 - p) / len(draws)).sqrt() + 1e-9).all()


def test_the_centre_of_an_observation_is_its_median():
    observation, params, _, log_probs = drawn("discretized_logistic")
    with noise.centre():
        assert torch.equal(observation.sample(params).long(), (log_probs.exp().cumsum(0)[:-1] <= 0.5).sum(0))


def test_bernoulli_by_hand():
    params = torch.tensor([[[0.0, np.log(3.0)]]], dtype=torch.float64)
    log_probs = Bernoulli(Space((2,), levels=2)).log_probs(torch.tensor([[1.0, 0.0]]).double(), params)
    torch.testing.assert_close(log_probs.exp(), torch.tensor([[0.5, 0.25]], dtype=torch.float64))


def test_a_discretized_logistics_mass_is_that_of_its_bin():
    mean, log_scale, levels = 0.3, -1.2, 17
    observation = DiscretizedLogistic(Space((1,), levels=levels))
    params = torch.tensor([[[mean], [log_scale]]], dtype=torch.float64)
    edges = (np.arange(levels + 1) - 0.5) * 2 / (levels - 1) - 1
    cdf = stats.logistic.cdf(edges, mean, np.exp(log_scale))
    cdf[0], cdf[-1] = 0, 1
    for k, mass in enumerate(np.diff(cdf)):
        assert observation.log_prob(torch.tensor([[float(k)]]).double(), params).item() == pytest.approx(np.log(mass))


@pytest.mark.parametrize("kind", [partial(Bernoulli), partial(DiscretizedLogistic)])
def test_extreme_parameters_give_finite_numbers_and_gradients(kind):
    levels = 2 if kind.func is Bernoulli else 256
    observation = kind(Space((1,), levels=levels))
    for value in (-1e4, -50.0, 0.0, 50.0, 1e4):
        params = torch.full((levels, observation.arity, 1), value).requires_grad_()
        log_probs = observation.log_prob(torch.arange(float(levels))[:, None], params)
        log_probs.sum().backward()
        assert log_probs.isfinite().all() and params.grad.isfinite().all()


@pytest.mark.parametrize("scale", [None, 0.7])
def test_gaussian_is_scipys(scale):
    observation = Gaussian(Space((3,)), scale=scale)
    params = torch.randn(4, observation.arity, 3, dtype=torch.float64)
    x, sd = torch.randn(4, 3, dtype=torch.float64), scale or params[:, 1].exp().numpy()
    expected = stats.norm.logpdf(x.numpy(), params[:, 0].numpy(), sd).sum(1)
    torch.testing.assert_close(observation.log_prob(x, params), torch.from_numpy(expected))
    u = torch.rand(4, 3, dtype=torch.float64)
    torch.testing.assert_close(observation.quantile(u, params), torch.from_numpy(stats.norm.ppf(u, params[:, 0], sd)))
    assert torch.equal(observation.mean(params), params[:, 0])


@pytest.mark.parametrize(
    ("kind", "space", "sentence"),
    [
        (Bernoulli, Space((2,)), "observation=bernoulli scores integers.*no dequantizer.*observation=gaussian"),
        (Bernoulli, Space((2,), levels=17), "these data have 17 levels.*observation=discretized_logistic"),
        (Categorical, Space((2,)), "observation=categorical scores integers"),
        (DiscretizedLogistic, Space((2,), levels=(2, 3)), "one number of levels"),
        (Gaussian, Space((2,), levels=2), "no upper bound.*observation=bernoulli"),
        (partial(Gaussian, scale=0.0), Space((2,)), "observation.scale=0.0"),
    ],
)
def test_what_an_observation_cannot_score_is_refused(kind, space, sentence):
    with pytest.raises(Refused, match=sentence):
        kind(space)
