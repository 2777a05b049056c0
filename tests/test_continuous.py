"""Continuous flows: published counts, densities that integrate to 1, round trips, gradients, grades and notes."""

from functools import partial

import numpy as np
import pytest
import torch
from pages import PLANE, flow, parameters
from recipes import disturb
from sklearn.datasets import make_moons
from torch import nn

from laminar.flows import ledger, noise
from laminar.flows.compose.repeat import Repeat
from laminar.flows.flow import Flow
from laminar.flows.layer.continuous import Continuous, regularising
from laminar.flows.net.concat import Concat
from laminar.flows.net.concat_squash import ConcatSquash
from laminar.flows.net.mlp import MLP
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.solver.dopri5 import Dopri5
from laminar.flows.solver.march import Unsolved
from laminar.flows.solver.rk4 import RK4
from laminar.flows.space import Space
from laminar.flows.trace.exact import Exact
from laminar.flows.trace.hutchinson import Hutchinson
from laminar.refused import Refused

TABLES = {  # dimensions, width in units of them, depth, flows, the paper's best; the counts of its code
    "power": (6, 10, 3, 5, "concat_squash", 43_325),
    "gas": (8, 20, 3, 5, "concat_squash", 278_565),
    "hepmass": (21, 10, 2, 10, "concat_squash_softplus", 546_850),
    "miniboone": (43, 20, 2, 1, "concat_squash_softplus", 820_613),
    "bsds300": (63, 20, 3, 2, "concat_squash_softplus", 6_698_666),
}


@pytest.mark.parametrize("table", TABLES)
def test_ffjords_counts_on_tables(table):
    dims, factor, depth, steps, net, count = TABLES[table]
    sizes = (f"size.width={factor * dims}", f"size.depth={depth}", f"size.steps={steps}")
    assert parameters(Space((dims,)), "flow=ffjord", "data=moons", f"net={net}", *sizes) == count


def curved(space=PLANE, trace=Exact, solver=Dopri5, times=1, scale=2.0, net=ConcatSquash, **options) -> Flow:
    """A flow that bends its space: weights far from their start."""
    torch.manual_seed(0)
    layer = partial(Continuous, net=partial(net, width=16, depth=2), trace=trace, solver=solver, learn_end=True, **options)
    built = disturb(Flow(space, partial(Repeat, parts=[layer], times=times), Gaussian), scale)
    for part in built.transform.parts:
        nn.init.ones_(part.root)
    return built


def test_a_density_of_the_plane_integrates_to_one():
    model, side = curved(times=2), torch.linspace(-8, 8, 107)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        log_prob = model.log_prob(grid)
    assert log_prob.exp().sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=0.01)
    assert (log_prob - Gaussian(PLANE).log_prob(grid)).abs().max() > 1


@pytest.mark.parametrize("trace", [Exact, Hutchinson])
def test_there_and_back_at_the_usual_tolerance(trace):
    model, x = curved(trace=trace, times=2), 2 * torch.randn(200, 2)
    with torch.no_grad():
        assert (model.decode(model.encode(x)) - x).abs().max() < 1e-3


def test_samples_carry_the_log_prob_that_the_way_there_gives_them():
    model = curved(times=2)
    with torch.no_grad():
        x, log_prob = model.sample_with_log_prob(200)
        torch.testing.assert_close(model.log_prob(x), log_prob, rtol=1e-3, atol=1e-3)


def test_the_log_det_of_a_strong_flow_is_that_of_its_jacobian():
    layer, x = curved(solver=partial(Dopri5, 1e-9, 1e-9)).double().transform, torch.randn(3, 2, dtype=torch.float64)
    _, log_det = layer(x)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None])[0][0], x[i])
        torch.testing.assert_close(log_det[i], torch.linalg.slogdet(jacobian)[1], rtol=1e-7, atol=1e-7)
    assert log_det.abs().min() > 0.05


@pytest.mark.slow
def test_a_flow_that_learned_moons_takes_75_evaluations_at_the_usual_tolerance():
    """By flow matching, as the measurements of solvers were made: dopri5 at 1e-5 with an exact trace."""
    x = torch.tensor(make_moons(20000, noise=0.1, random_state=0)[0], dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    torch.manual_seed(0)
    layer = Continuous(PLANE, partial(Concat, width=64, depth=2), Exact, Dopri5)
    optimizer = torch.optim.Adam(layer.net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 3000)
    for _ in range(3000):
        data, t = x[torch.randint(len(x), (512,))], torch.rand(512)
        z = torch.randn_like(data)
        loss = (layer.net(data + t[:, None] * (z - data), t) - (z - data)).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad(), ledger.noting() as notes:
        z, log_det = layer(x[:512])
        layer.double().solver = Dopri5(1e-10, 1e-10)
        truth, log_det_truth = layer(x[:512].double())
    assert notes["nfe"][0].max() <= 75 and notes["nfe"][0].mean() <= 65
    assert max((z - truth).abs().max(), (log_det - log_det_truth).abs().max()) < 4e-4


@pytest.mark.parametrize(("trace", "dtype", "tolerance"), [(Exact, torch.float64, 1e-12), (Hutchinson, torch.float32, 1e-5)])
def test_a_score_depends_on_its_own_row_alone(trace, dtype, tolerance):
    model, x = curved(trace=trace).to(dtype), torch.randn(512, 2, dtype=dtype)
    keys = noise.mix(0, np.arange(512))
    with torch.no_grad():
        with noise.source(keys):
            whole = model.log_prob(x)
        with noise.source(keys[:64]):
            part = model.log_prob(x[:64])
    torch.testing.assert_close(whole[:64], part, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("probes", ["rademacher", "gaussian"])
def test_estimated_log_probs_average_to_the_exact_one(probes):
    exact, noisy = curved(), curved(trace=partial(Hutchinson, probes=probes))
    noisy.load_state_dict(exact.state_dict())
    assert (exact.grade, noisy.grade) == ("exact", "estimate")
    x, n = torch.tensor([[0.5, -1.0]]), 4000
    torch.manual_seed(0)
    with torch.no_grad():
        draws, truth = noisy.log_prob(x.expand(n, 2)), exact.log_prob(x)
    assert draws.std() > 0.01 and abs(draws.mean() - truth) < 4 * draws.std() / n**0.5
    with pytest.raises(Refused, match="num_samples > 1 would inflate"):
        noisy.log_prob(x, num_samples=2)


def gradients(model: Flow, x: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(-model.log_prob(x).mean(), list(model.parameters())))


@pytest.mark.parametrize("trace", [Exact, Hutchinson])
@pytest.mark.parametrize(("way", "tolerance"), [("checkpoint", 1e-9), ("adjoint", 1e-4)])
def test_gradients_of_the_likelihood(way, tolerance, trace):
    x, keys = torch.randn(20, 2, dtype=torch.float64), noise.mix(0, np.arange(20))
    found = []
    for gradient in ("direct", way):
        model = curved(trace=trace, solver=partial(Dopri5, 1e-6, 1e-6, gradients=gradient), scale=1.0).double()
        with noise.source(keys):
            found.append(gradients(model, x))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(a.abs().max().clamp(min=0.1)))


def test_context_receives_its_gradient_in_every_way():
    space, found = Space((2,), context={"label": (3,)}), []
    x, label = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    for way in ("direct", "checkpoint", "adjoint"):
        torch.manual_seed(0)
        layer = Continuous(space, Concat, Exact, partial(Dopri5, 1e-7, 1e-7, gradients=way))
        layer, here = disturb(layer, 1.0).double(), label.clone().requires_grad_()
        layer(x, {"label": here})[1].sum().backward()
        found.append(here.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[0], found[2], rtol=1e-4, atol=1e-6)
    assert found[0].abs().min() > 0


def test_energies_are_the_integrals_along_the_way():
    """Of a linear equation dx/dt = A x they are known by a fine sum over its exact solution."""
    a = torch.tensor([[0.3, -1.0], [0.8, -0.2]], dtype=torch.float64)
    layer = Continuous(PLANE, partial(Concat, depth=0), Exact, partial(Dopri5, 1e-9, 1e-9), end=0.7).double()
    with torch.no_grad():
        layer.net.head.linear.weight.copy_(a)
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with ledger.noting() as notes, regularising() as energies:
        z, log_det = layer(x)
    times = torch.linspace(0, 0.7, 2001, dtype=torch.float64)
    path = torch.linalg.matrix_exp(times[:, None, None] * a) @ x.T
    torch.testing.assert_close(z.T, path[-1], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(log_det, (0.7 * a.trace()).expand(5), rtol=1e-7, atol=1e-7)
    ((kinetic, jacobian),) = energies
    torch.testing.assert_close(kinetic, torch.trapezoid((a @ path).square().sum(1), times, dim=0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(jacobian, (0.7 * a.square().sum()).expand(5), rtol=1e-7, atol=1e-7)
    assert kinetic.requires_grad and jacobian.requires_grad
    assert {name: len(noted) for name, noted in notes.items()} == {"nfe": 1, "kinetic": 1, "jacobian": 1}
    assert notes["nfe"][0].shape == (5,) and notes["nfe"][0].min() > 12


def test_energies_leave_the_flow_as_it_is():
    model, x = curved(times=2), torch.randn(7, 2)
    with torch.no_grad(), regularising() as energies:
        regularised = model.log_prob(x)
    assert len(energies) == 2
    with torch.no_grad():
        torch.testing.assert_close(regularised, model.log_prob(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("net", [ConcatSquash, partial(Concat, activation=nn.GELU)])
def test_inference_mode_is_no_obstacle(net):
    model, x = curved(net=net, solver=partial(Dopri5, rtol=1e-6, atol=1e-6)), torch.randn(5, 2)
    expected = model.log_prob(x).detach()
    with torch.inference_mode():
        here = torch.cat([x])
        torch.testing.assert_close(model.log_prob(here), expected)
        torch.testing.assert_close(model.decode(model.encode(here)), x, rtol=1e-3, atol=1e-3)
        assert torch.isfinite(model.sample_with_log_prob(4)[1]).all()
    with torch.no_grad():
        assert not model.log_prob(x).requires_grad


def test_the_learned_end_takes_part_in_learning():
    model = curved(solver=partial(RK4, steps=30)).double()
    x, root = torch.randn(8, 2, dtype=torch.float64), model.transform.parts[0].root
    (gradient,) = torch.autograd.grad(model.log_prob(x).mean(), root)
    values = []
    for shift in (1e-5, -1e-5):
        with torch.no_grad():
            root.add_(shift)
            values.append(model.log_prob(x).mean())
            root.sub_(shift)
    assert gradient == pytest.approx(float(values[0] - values[1]) / 2e-5, rel=1e-5)
    assert not list(Continuous(PLANE, Concat, Exact, Dopri5).parameters(recurse=False))


def test_the_start_is_nearly_the_identity():
    built = flow(PLANE, "flow=ffjord", "data=moons")
    x = torch.randn(50, 2)
    with torch.no_grad():
        assert (built.encode(x) - x).abs().max() < 0.05


def test_an_estimate_of_the_steps_that_were_not_enough_names_the_time():
    model = curved(solver=partial(Dopri5, 1e-6, 1e-6, max_steps=3))
    with pytest.raises(Unsolved, match=r"took 3 steps without arriving: at time 0.* solver\.max_steps"):
        model.log_prob(torch.randn(4, 2))


def test_wrong_nets_and_times_are_refused():
    with pytest.raises(Refused, match="does not know the time"):
        Continuous(PLANE, MLP, Exact, Dopri5)
    with pytest.raises(Refused, match=r"layer\.end=0"):
        Continuous(PLANE, Concat, Exact, Dopri5, end=0)


@pytest.mark.parametrize("way", ["direct", "checkpoint", "adjoint"])
def test_a_solve_that_fails_names_its_layer(way):
    model, x = curved(times=3, solver=partial(Dopri5, gradients=way)), torch.randn(4, 2)
    with torch.no_grad():
        model.transform.parts[1].net.head.linear.bias[0] = float("nan")
    with pytest.raises(
        Unsolved, match=r"equation of transform\.parts\.1 met a value that is not finite: at time 0 .* in row 0"
    ):
        model.log_prob(x)
    with pytest.raises(Unsolved, match=r"equation of transform\.parts\.1 met .* at time 1 of \[1\.0, 0\.0\]"):
        model.sample(3)
    many = curved(times=2, solver=partial(Dopri5, 1e-6, 1e-6, max_steps=3, gradients=way))
    with pytest.raises(Unsolved, match=r"equation of transform\.parts\.0 took 3 steps without arriving: at time 0"):
        many.log_prob(x)


def test_a_coarser_solve_serves_training_alone():
    loose, x = curved(solver=partial(Dopri5, 1e-8, 1e-8, train_factor=1e5)).double(), torch.randn(20, 2, dtype=torch.float64)
    tight = curved(solver=partial(Dopri5, 1e-8, 1e-8)).double()
    tight.load_state_dict(loose.state_dict())
    with torch.no_grad():
        counts = [evaluations(model.train(training), x) for model in (loose, tight) for training in (True, False)]
        assert 3 * counts[0] < counts[1] == counts[2] == counts[3]
        torch.testing.assert_close(loose.eval().log_prob(x), tight.train().log_prob(x), rtol=0, atol=0)


def evaluations(model, x) -> float:
    """Evaluations of a row on the way to its log p."""
    with ledger.noting() as notes:
        model.log_prob(x)
    return float(torch.stack(notes["nfe"]).mean())


def test_an_adjoint_that_fails_on_its_way_back_names_its_layer():
    """A dynamics net whose gradient alone is not finite."""

    class Root(Concat):
        def forward(self, x, t, context=None):
            return super().forward(x, t, context) + (x - x.detach()).abs().sqrt().sum(1, keepdim=True)

        carries = False

    model = curved(net=Root, solver=partial(Dopri5, gradients="adjoint"))
    x = model.decode(torch.randn(4, 2))
    with pytest.raises(Unsolved, match=r"equation of transform\.parts\.0 met a value that is not finite: at time 0 of \[0"):
        x.sum().backward()


def test_a_net_that_changes_the_shape_is_refused():
    class Narrow(Concat):
        carries = False

        def forward(self, x, t, context=None):
            return super().forward(x, t, context)[:, :1]

    layer = Continuous(PLANE, Narrow, Exact, Dopri5)
    with pytest.raises(Refused, match=r"Narrow gives \(1,\) for events of shape \(2,\), and a velocity has the shape"):
        layer(torch.randn(3, 2))


def test_a_velocity_is_the_slope_of_the_way():
    model, x = curved(solver=partial(Dopri5, 1e-9, 1e-9)).double(), torch.randn(6, 2, dtype=torch.float64)
    layer = model.transform.parts[0]
    with torch.no_grad():
        layer.root.fill_(1.3)
        start, before, here, after, end = layer.walk(x, [0.0, 0.4, 0.4001, 0.4002, 1.0])
        slope = layer.velocity(here, torch.full((6,), 0.4001, dtype=torch.float64))
        torch.testing.assert_close((after - before) / 2e-4, slope, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(end, layer(x)[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(layer.walk(end, [1.0, 0.5, 0.0])[-1], x, rtol=1e-6, atol=1e-6)
    assert start is x
