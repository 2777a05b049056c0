"""RNODE: the regularised objective against quadrature along exact solutions, what it does to dynamics, how it is logged."""

from functools import partial

import pytest
import torch
from engine import prepared
from pages import DIGITS, composed, flow
from parts import refuses

from laminar.config.recipe import build
from laminar.flows.compose.repeat import Repeat
from laminar.flows.flow import Flow
from laminar.flows.layer.continuous import Continuous
from laminar.flows.net.concat import Concat
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.solver.dopri5 import Dopri5
from laminar.flows.space import Space
from laminar.flows.trace.exact import Exact
from laminar.runs.run import run
from laminar.training.objective.rnode import RNODE

MATRICES = torch.tensor([[[0.3, -1.0], [0.8, -0.2]], [[-0.5, 0.1], [0.4, 0.6]]], dtype=torch.float64)
TIME = 0.7


def linear() -> Flow:
    """Two layers dx/dt = A x, one after the other."""
    layer = partial(Continuous, net=partial(Concat, depth=0), trace=Exact, solver=partial(Dopri5, 1e-9, 1e-9), end=TIME)
    model = Flow(Space((2,)), partial(Repeat, parts=[layer], times=2), Gaussian).double()
    for part, matrix in zip(model.transform.parts, MATRICES, strict=True):
        part.net.head.linear.weight.data.copy_(matrix)
    return model


def test_the_objective_is_the_likelihood_less_integrals_along_the_way():
    torch.manual_seed(0)
    x = torch.randn(5, 2, dtype=torch.float64)
    found = RNODE(kinetic=0.3, jacobian=0.2)(linear(), x, {}, 0)
    times, here, expected = torch.linspace(0, TIME, 2001, dtype=torch.float64), x, 0
    for a in MATRICES:
        path = torch.linalg.matrix_exp(times[:, None, None] * a) @ here.T
        energy = torch.trapezoid((a @ path).square().sum(1), times, dim=0)
        expected = expected + TIME * a.trace() - 0.3 * energy - 0.2 * TIME * a.square().sum()
        here = path[-1].T
    expected = expected + Gaussian(Space((2,))).log_prob(here)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_its_gradient_is_that_of_finite_differences():
    model, objective = linear(), RNODE(0.3, 0.2)
    torch.manual_seed(0)
    x, weight = torch.randn(5, 2, dtype=torch.float64), model.transform.parts[0].net.head.linear.weight
    (gradient,) = torch.autograd.grad(objective(model, x, {}, 0).sum(), weight)
    with torch.no_grad():
        for place in ((0, 0), (1, 0)):
            values = []
            for shift in (1e-5, -1e-5):
                weight[place] += shift
                values.append(objective(model, x, {}, 0).sum())
                weight[place] -= shift
            assert gradient[place] == pytest.approx(float(values[0] - values[1]) / 2e-5, rel=1e-4)


def test_prices_of_nothing_are_the_likelihood():
    model, x = linear(), torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(RNODE(0, 0)(model, x, {}, 0), model.log_prob(x), rtol=1e-6, atol=1e-6)
    assert (RNODE()(model, x, {}, 0) < model.log_prob(x)).all()


def test_it_is_logged_as_no_likelihood(tmp_path):
    words = ("flow=ffjord", "objective=rnode", "data=moons", "data.train_size=500", "data.test_size=100", "size.depth=1")
    engine = ("trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1", "data.batch_size=50")
    numbers = run(prepared(tmp_path, *words, *engine, "solver.rtol=1e-3", "solver.atol=1e-3"), tmp_path)
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/regularised", "train/kinetic", "train/jacobian", "train/nfe", "val/nll"} <= set(header)
    assert "train/nll" not in header and "test/nll" in numbers and numbers["grade"] == "exact"


def test_what_it_cannot_hold_down_is_refused():
    refuses(lambda: RNODE(kinetic=-1), r"objective\.kinetic=-1 would pay")
    words = ("flow=realnvp_flat", "objective=rnode", "data=digits")
    refuses(
        lambda: build(composed(*words).objective, "objective").check(flow(DIGITS, *words, device="meta")),
        "this flow has none: flow=ffjord",
    )
