"""Solvers: orders of convergence, gradients, rows that do not know of each other, and what cannot be solved."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from laminar.flows.solver.dopri5 import Dopri5
from laminar.flows.solver.euler import Euler
from laminar.flows.solver.march import Unsolved, step
from laminar.flows.solver.rk4 import RK4
from laminar.flows.solver.tableau import mix
from laminar.refused import Refused

SPAN = (0.0, 1.0)


def turning(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """dy/dt = 2 t J y, a rotation by t^2."""
    return 2 * t.unsqueeze(1) * torch.stack([-y[:, 1], y[:, 0]], 1)


def turned(y: torch.Tensor, t: float = 1.0) -> torch.Tensor:
    c, s = np.cos(t * t), np.sin(t * t)
    return torch.stack([c * y[:, 0] - s * y[:, 1], s * y[:, 0] + c * y[:, 1]], 1)


class Net(nn.Module):
    """A rate with weights, and a context of each row."""

    def __init__(self, dtype: torch.dtype = torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3)).to(dtype)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(2)

    def forward(self, t: torch.Tensor, y: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return self.body(torch.cat([y[:, :2] + given, y[:, 2:].sin(), t.unsqueeze(1)], 1))


def rows(n: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 3, dtype=torch.float64).to(dtype), torch.randn(n, 2, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("kind", "order"), [(Euler, 1), (RK4, 4)])
def test_the_error_of_fixed_steps_falls_with_their_order(kind, order):
    y = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = [float((kind(steps=n)(turning, y, SPAN)[0] - turned(y)).abs().max()) for n in (20, 40, 80)]
    for coarse, fine in pairwise(errors):
        assert np.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_the_step_of_dopri5_is_of_order_5_and_its_error_estimate_of_order_4():
    y, tableau = torch.randn(1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), Dopri5.tableau
    errors, estimates = [], []
    for n in (10, 20, 40):
        t, h, here, estimate = torch.zeros(1, dtype=torch.float64), torch.full((1,), 1 / n, dtype=torch.float64), y, 0
        for _ in range(n):
            new, _, slopes = step(turning, tableau, t, h, here, ())
            estimate = estimate + h * mix(tableau.error, [*slopes, turning(t + h, new)])
            t, here = t + h, new
        errors.append(float((here - turned(y)).abs().max()))
        estimates.append(float(estimate.abs().max()))
    assert np.log2(errors[0] / errors[2]) / 2 == pytest.approx(5, abs=0.3)
    assert np.log2(estimates[0] / estimates[2]) / 2 == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("span", [(0.0, 1.0), (1.0, 0.0), (0.3, 2.0)])
def test_dopri5_agrees_with_scipy(span):
    net, (y, given) = Net(), rows(6)
    found, evaluations = Dopri5(rtol=1e-9, atol=1e-9)(net, y, span, [given])
    for i in range(len(y)):

        def rate(t, v, i=i):
            with torch.no_grad():
                t = torch.tensor([t], dtype=torch.float64)
                return net(t, torch.as_tensor(v)[None], given[i : i + 1])[0].numpy()

        expected = solve_ivp(rate, span, y[i].numpy(), method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
        np.testing.assert_allclose(found[i].detach(), expected, rtol=1e-7, atol=1e-7)
    assert evaluations.shape == (6,) and len(set(evaluations.tolist())) > 1


def test_dopri5_agrees_with_torchdiffeq():
    torchdiffeq = pytest.importorskip("torchdiffeq")
    net, (y, given) = Net(), rows(6)
    expected = torchdiffeq.odeint(
        lambda t, v: net(t.expand(len(v)), v, given), y, torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=1e-9, atol=1e-9
    )[-1]
    torch.testing.assert_close(Dopri5(rtol=1e-9, atol=1e-9)(net, y, SPAN, [given])[0], expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_the_error_follows_the_tolerance(tolerance):
    y = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, evaluations = Dopri5(tolerance, tolerance)(turning, y, SPAN)
    assert (found - turned(y)).abs().max() < 10 * tolerance
    assert evaluations.max() <= {1e-3: 31, 1e-5: 43, 1e-7: 85}[tolerance]


def test_evaluations_are_counted_as_they_are_asked():
    counted = []

    def rate(t, y):
        counted.append(len(y))
        return turning(t, y)

    y = torch.randn(64, 2, dtype=torch.float64) * torch.logspace(-8, 0, 64, dtype=torch.float64).unsqueeze(1)
    for solver in (RK4(steps=7), Dopri5(compact=False), Dopri5()):
        counted.clear()
        _, evaluations = solver(rate, y, SPAN)
        assert evaluations.sum() <= sum(counted)
        assert evaluations.max() == len(counted)
    assert counted[-1] <= 32 and evaluations.min() < evaluations.max()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("compact", [True, False])
def test_a_row_is_solved_the_same_in_any_batch(dtype, tolerance, compact):
    net, (y, given) = Net(dtype), rows(512, dtype)
    solver = Dopri5(compact=compact)
    whole, counts = solver(net, y, SPAN, [given])
    part, few = solver(net, y[:64], SPAN, [given[:64]])
    torch.testing.assert_close(whole[:64], part, rtol=tolerance, atol=tolerance)
    if dtype is torch.float64:
        assert torch.equal(counts[:64], few)


def gradients(solver, n: int = 40) -> list[torch.Tensor]:
    net, (y, given) = Net(), rows(n)
    y.requires_grad_(), given.requires_grad_()
    end, _ = solver(net, y, SPAN, [given], list(net.parameters()))
    weight = torch.randn(end.shape, dtype=end.dtype, generator=torch.Generator().manual_seed(2))
    return list(torch.autograd.grad((weight * end.square()).mean(), [y, given, *net.parameters()]))


@pytest.mark.parametrize(("kind", "options"), [(Dopri5, {}), (Dopri5, {"compact": False}), (RK4, {}), (Euler, {})])
def test_checkpointed_gradients_are_the_direct_ones(kind, options):
    direct, checkpointed = (gradients(kind(gradients=way, **options)) for way in ("direct", "checkpoint"))
    for a, b in zip(direct, checkpointed, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12)


def test_adjoint_gradients_are_the_direct_ones_to_tolerance():
    direct, adjoint = (gradients(Dopri5(1e-6, 1e-6, gradients=way)) for way in ("direct", "adjoint"))
    for a, b in zip(direct, adjoint, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * float(a.abs().max()))


def test_direct_gradients_are_those_of_finite_differences():
    net, (y, given) = Net(), rows(3)
    solver = Dopri5(1e-10, 1e-10, gradients="checkpoint")
    assert torch.autograd.gradcheck(
        lambda y, given: solver(net, y, SPAN, [given], list(net.parameters()))[0],
        (y.requires_grad_(), given.requires_grad_()),
        atol=1e-5,
    )


class Peak(TorchDispatchMode):
    """The most bytes that live at once among the tensors made inside."""

    def __init__(self):
        super().__init__()
        self.sizes, self.now, self.most = {}, 0, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage())._cdata not in self.sizes:
                self.sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.gone, storage._cdata)
        return made

    def gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


@pytest.mark.parametrize("way", ["direct", "checkpoint", "adjoint"])
def test_the_memory_of_a_gradient_grows_with_the_evaluations_where_it_is_direct_alone(way):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    y, peaks, evaluations = torch.randn(64, 2), [], []
    for tolerance in (1e-2, 1e-6):
        for parameter in net.parameters():
            parameter.grad = None
        with Peak() as peak:
            solver = Dopri5(tolerance, tolerance, gradients=way)
            start = y.clone().requires_grad_()
            end, asked = solver(lambda t, y: net(torch.cat([y, t[:, None]], 1)), start, SPAN, [], list(net.parameters()))
            end.square().sum().backward()
        peaks.append(peak.most)
        evaluations.append(int(asked.max()))
    assert evaluations[1] > 1.8 * evaluations[0]
    assert peaks[1] > 1.6 * peaks[0] if way == "direct" else peaks[1] == pytest.approx(peaks[0], rel=0.03)


@pytest.mark.parametrize("way", ["checkpoint", "adjoint"])
def test_frozen_weights_and_unused_tensors_get_no_gradient(way):
    net, (y, given) = Net(), rows(5)
    net.body[0].weight.requires_grad_(False)
    unused = torch.zeros(5, 1, dtype=torch.float64, requires_grad=True)
    end, _ = Dopri5(gradients=way)(lambda t, y, g, u: net(t, y, g), y, SPAN, [given, unused], list(net.parameters()))
    end.sum().backward()
    assert net.body[0].weight.grad is None and net.body[0].bias.grad.abs().sum() > 0
    assert given.grad is None and not unused.grad.any()


@pytest.mark.parametrize(
    ("rate", "solver", "sentence"),
    [
        (lambda t, y: 200 * y.roll(1, 1).sin(), Dopri5(max_steps=3), "took 3 steps without arriving: at time .* 4 rows remain"),
        (lambda t, y: y.square() * 2, Dopri5(max_steps=10000), "(shorter than 1e-12|not finite).* in row 3"),
        (lambda t, y: torch.where(t.unsqueeze(1) > 0.5, torch.nan, y), Dopri5(), r"not finite: at time 0\.[345].* in row 0"),
        (lambda t, y: torch.where(y > 3, torch.nan, y), RK4(), "not finite: at time 0 of .* in row 3"),
    ],
)
def test_what_cannot_be_solved_is_told_with_its_time_and_row(rate, solver, sentence):
    y = torch.tensor([[0.1, 0.2], [-0.3, 0.1], [0.2, -0.2], [5.0, 4.0]], dtype=torch.float64)
    with pytest.raises(Unsolved, match=sentence):
        solver(rate, y, SPAN)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Dopri5(rtol=0), "rtol=0"),
        (lambda: Dopri5(max_steps=0), "max_steps=0"),
        (lambda: RK4(steps=0), "steps=0"),
        (lambda: RK4(gradients="adjoint"), "adjoint needs a solver that controls its error"),
        (lambda: Dopri5(gradients="none"), "gradients is one of"),
    ],
)
def test_options_that_cannot_work_are_refused(make, sentence):
    with pytest.raises(Refused, match=sentence):
        make()
