"""Estimates: their standard errors by simulation and on a trained flow, their noise, and what must not be done with them."""

from functools import partial
from math import log

import numpy as np
import pytest
import torch
from pages import PLANE, flow, members
from recipes import disturb
from sklearn.datasets import make_moons

from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.compose.repeat import Repeat
from laminar.flows.dequantization.uniform import Uniform
from laminar.flows.flow import Flow
from laminar.flows.layer.continuous import Continuous
from laminar.flows.net.concat_squash import ConcatSquash
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.solver.dopri5 import Dopri5
from laminar.flows.solver.euler import Euler
from laminar.flows.solver.finer import finer
from laminar.flows.solver.rk4 import RK4
from laminar.flows.space import Space
from laminar.flows.trace.exact import Exact
from laminar.flows.trace.hutchinson import Hutchinson
from laminar.refused import Refused
from laminar.training.metric import EstimatorError, MeanScore


def ffjord(space: Space = PLANE, trace=Hutchinson, first=(), tolerance: float = 1e-5) -> Flow:
    """A small flow, its weights far from their start."""
    torch.manual_seed(0)
    layer = partial(
        Continuous, net=partial(ConcatSquash, width=16, depth=2), trace=trace, solver=partial(Dopri5, tolerance, tolerance)
    )
    return disturb(Flow(space, partial(Chain, parts=[*first, layer]), Gaussian), 1.0)


def exact(model: Flow) -> Flow:
    """The same weights with an exact trace."""
    other = Flow(model.space, lambda space: model.transform, lambda space: model.prior)
    for part in other.modules():
        if isinstance(part, Continuous):
            part.trace = Exact()
    return other


# -- standard errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeats", [2, 5])
def test_both_intervals_cover_what_they_are_around(repeats):
    """1000 evaluations of 80 rows each, whose noise differs by the row as an estimator's does, by numbers that are known."""
    random = np.random.default_rng(0)
    inside, outside, trials = 0, 0, 1000
    for _ in range(trials):
        values = 3 + random.normal(size=80)
        noise_of_rows = random.gamma(1.0, 1.5, 80)
        estimates = torch.tensor(values + noise_of_rows * random.normal(size=(repeats, 80)))
        error, score = EstimatorError(), MeanScore()
        for part in estimates.split(30, 1):  # in batches
            error.update(part), score.update(part.mean(0))
        mean, se = score.compute()
        inside += bool((mean - values.mean()).abs() < 1.96 * error.compute())
        outside += bool((mean - 3).abs() < 1.96 * se)
    assert inside / trials == pytest.approx(0.95, abs=0.02) and outside / trials == pytest.approx(0.95, abs=0.02)


def test_the_estimators_error_by_its_formula():
    estimates = torch.randn(3, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    metric = EstimatorError()
    metric.update(estimates[:, :4]), metric.update(estimates[:, 4:])
    assert metric.compute().item() == pytest.approx(np.sqrt((estimates.numpy().var(0, ddof=1) / 3).sum()) / 11)


@pytest.fixture(scope="module")
def trained() -> tuple[Flow, torch.Tensor]:
    """A FFJORD that learned moons by Hutchinson's estimate, and 60 rows that it has not seen."""
    x = torch.tensor(make_moons(2060, noise=0.1, random_state=0)[0], dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    torch.manual_seed(0)
    net = partial(ConcatSquash, width=24, depth=2)
    layer = partial(Continuous, net=net, trace=Hutchinson, solver=partial(RK4, 4, "direct"))
    model = Flow(PLANE, partial(Repeat, parts=[layer], times=1), Gaussian)
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    for step in range(100):
        optimizer.zero_grad()
        loss = -model.log_prob(x[60 + torch.randint(2000, (128,), generator=torch.Generator().manual_seed(step))]).mean()
        loss.backward()
        optimizer.step()
    for part in model.transform.parts:
        part.solver = Dopri5()
    return model.requires_grad_(False).eval(), x[:60]


def test_intervals_around_an_estimate_cover_the_exact_number_on_the_same_rows(trained):
    """200 evaluations with keys of their own, of two repeats each."""
    model, x = trained
    seeds = np.arange(200)
    with torch.no_grad():
        with noise.source(noise.mix(seeds[:, None], np.arange(60)[None]).reshape(-1)):
            estimates = model.estimates(x.repeat(200, 1), repeats=2)
        assert model.grade == "estimate"
        truth = exact(model).log_prob(x)
        model.transform.parts[0].trace = Hutchinson()
        start = Gaussian(PLANE).log_prob(x)
    assert truth.mean() - start.mean() > 0.3  # it has learned
    covered = 0
    for repeats in estimates.view(2, 200, 60).unbind(1):
        metric = EstimatorError()
        metric.update(repeats)
        covered += bool((repeats.mean() - truth.mean()).abs() < 1.96 * metric.compute())
    assert 0.90 <= covered / 200 <= 0.99


def test_log_mean_exp_inflates_an_estimate(trained):
    """What a forced bound of 32 samples would give: up to half of the variance too much, and no bound."""
    model, x = trained
    keys = noise.mix(0, np.arange(60))
    with torch.no_grad():
        with noise.source(keys):
            estimates = model.estimates(x, repeats=32).double()
        truth = exact(model).log_prob(x).double()
        model.transform.parts[0].trace = Hutchinson()
    forced = (estimates.logsumexp(0) - log(32)).mean()
    metric = EstimatorError()
    metric.update(estimates)
    assert abs(estimates.mean() - truth.mean()) < 3 * metric.compute() < forced - truth.mean()
    with pytest.raises(Refused, match="trace=exact, or num_samples=1"):
        model.log_prob(x, num_samples=64)


def test_no_repeat_is_no_number():
    with pytest.raises(Refused, match="repeats=0"):
        ffjord().estimates(torch.zeros(1, 2), repeats=0)


# -- their noise -----------------------------------------------------------------------------------------------------


def test_a_repeat_changes_the_estimate_and_leaves_the_models_draws():
    space = Space((3,), levels=8)
    model, x = ffjord(space, first=[Uniform]), torch.randint(8, (6, 3), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), noise.source(noise.mix(0, np.arange(6))):
        estimates, single = model.estimates(x, repeats=3), model.estimates(x, repeats=1)
        bound = exact(model)
        repeated = bound.estimates(x, repeats=2)
    assert bound.grade == "bound"
    assert torch.equal(estimates[:1], single) and not torch.equal(estimates[0], estimates[1])
    assert torch.equal(*repeated)  # the dequantizer drew the same
    assert (estimates.mean(0) - repeated[0]).abs().max() < 6 * estimates.std(0).max() / 3**0.5


def test_a_repeat_belongs_to_its_row():
    model, x, keys = ffjord().double(), torch.randn(5, 2, dtype=torch.float64), noise.mix(0, np.arange(5))
    with torch.no_grad():
        with noise.source(keys):
            whole = model.estimates(x, repeats=3)
        with noise.source(keys[3:]):
            part = model.estimates(x[3:], repeats=3)
    torch.testing.assert_close(whole[:, 3:], part, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("trace", members("trace"))
def test_whatever_draws_is_drawn_anew_by_a_repeat(trace):
    x, found = torch.randn(16, 2), 0
    for layer in ("ffjord", "resflow_mlp"):
        try:
            model = flow(PLANE, f"flow={layer}", "data=moons", f"trace={trace}", "size.width=8", "size.steps=1").eval()
        except Refused:  # a trace for the other kind of layer
            continue
        disturb(model, 0.3).refresh()
        with noise.source(noise.mix(0, np.arange(16))):
            one, two = model.estimates(x, repeats=2).detach()
        assert bool((one != two).any()) == model.noisy  # in the plane, two signs can be the same or opposite
        found += 1
    assert found


# -- solvers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [Dopri5(1e-3, 1e-3), RK4(3), Euler(20)])
def test_a_finer_solver_is_nearer_and_the_flow_goes_back_to_its_own(solver):
    model, x = ffjord(trace=Exact).double(), torch.randn(50, 2, dtype=torch.float64)
    (part,) = (part for part in model.modules() if isinstance(part, Continuous))
    part.solver = Dopri5(1e-10, 1e-10)
    with torch.no_grad():
        truth = model.log_prob(x)
        part.solver = solver
        usual = (model.log_prob(x) - truth).abs().max()
        with finer(model):
            fine = (model.log_prob(x) - truth).abs().max()
    assert fine < usual / 3 and part.solver is solver


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("trace", [Exact, Hutchinson])
def test_a_score_is_the_same_in_batches_of_64_and_512(trace, dtype, tolerance):
    model, x = ffjord(trace=trace).to(dtype), torch.randn(512, 2, dtype=dtype, generator=torch.Generator().manual_seed(0))
    keys, scores = noise.mix(0, np.arange(512)), []
    for size in (64, 512):
        mean = MeanScore()
        for rows in torch.arange(512).split(size):
            with torch.no_grad(), noise.source(keys[rows]):
                mean.update(-model.log_prob(x[rows]))
        scores.append(mean.compute()[0].item())
    assert scores[0] == pytest.approx(scores[1], rel=tolerance, abs=tolerance)
