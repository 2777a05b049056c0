"""Traces: exact ones against the Jacobian, estimates unbiased with the variance that theory gives them, drawn row by row."""

from functools import partial

import numpy as np
import pytest
import torch
from recipes import disturb
from torch import nn

from laminar.flows import noise
from laminar.flows.net.bend import SLOPES
from laminar.flows.net.concat import Concat
from laminar.flows.net.concat_squash import ConcatSquash
from laminar.flows.space import Space
from laminar.flows.trace.exact import Exact
from laminar.flows.trace.hutchinson import Hutchinson
from laminar.refused import Refused

D = 4
ACTIVATIONS = [nn.Tanh, nn.Sigmoid, nn.Softplus, partial(nn.Softplus, beta=3.0), nn.ELU, partial(nn.ELU, alpha=0.5), nn.SiLU]


def net(kind=ConcatSquash, activation=nn.Tanh, **context):
    torch.manual_seed(0)
    return disturb(kind(Space((D,), context=context), width=8, depth=2, activation=activation), 2.0).double()


def events(n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, D, dtype=torch.float64), torch.rand(n, dtype=torch.float64)


def jacobians(field, x: torch.Tensor) -> torch.Tensor:
    whole = torch.autograd.functional.jacobian(field, x)
    return torch.stack([whole[i, :, i] for i in range(len(x))])


@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_the_exact_trace_is_that_of_the_jacobian(carried, recording, chunk):
    model, (x, t) = net(), events()
    carry = (lambda x, v: model.carry(x, t, v)) if carried else None
    with torch.set_grad_enabled(recording):
        y, trace, norm = Exact(chunk)(lambda x: model(x, t), x, None, carry, norm=True)
    jacobian = jacobians(lambda x: model(x, t), x)
    torch.testing.assert_close(y, model(x, t), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(trace, jacobian.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(norm, jacobian.square().sum((1, 2)), rtol=1e-10, atol=1e-12)
    assert trace.requires_grad == recording


@pytest.mark.parametrize("kind", [Concat, ConcatSquash])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_carried_tangents_are_autograds(kind, activation):
    model, (x, t) = net(kind, activation, label=(2,)), events()
    assert model.carries and {type(activation()) for activation in ACTIVATIONS} == set(SLOPES)
    v, context = torch.randn(5, 3, D, dtype=torch.float64), {"label": torch.randn(3, 2, dtype=torch.float64)}
    y, moved = model.carry(x, t, v, context)
    jacobian = jacobians(lambda x: model(x, t, context), x)
    torch.testing.assert_close(moved, torch.einsum("bij,kbj->kbi", jacobian, v), rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(y, model(x, t, context))


@pytest.mark.parametrize("kind", [Concat, ConcatSquash])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shared", [True, False])
def test_the_gradients_of_carried_tangents_are_autograds(kind, activation, shared):
    model, (x, t) = net(kind, activation), events()
    x, t = x.requires_grad_(), t.requires_grad_()
    v = torch.randn(5, 1 if shared else 3, D, dtype=torch.float64, requires_grad=True)
    whole = torch.autograd.functional.jacobian(lambda x: model(x, t), x, create_graph=True)
    jacobian = torch.stack([whole[i, :, i] for i in range(3)])
    truth = model(x, t), torch.einsum("bij,kbj->kbi", jacobian, v.expand(5, 3, D))
    asked = [x, t, v, *model.parameters()]
    loss, expected = (y.sin().sum() + (3 * moved).cos().sum() for y, moved in (model.carry(x, t, v), truth))
    for found, right in zip(torch.autograd.grad(loss, asked), torch.autograd.grad(expected, asked), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-7, atol=1e-9)


def test_an_activation_without_a_slope_leaves_it_to_autograd():
    assert not net(activation=nn.GELU).carries


@pytest.mark.parametrize("probes", ["rademacher", "gaussian"])
@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_hutchinsons_estimate_is_unbiased_and_so_are_its_gradients(probes, carried, count):
    model, (x, t), n = net(), events(1), 20_000
    estimate = Hutchinson(count, probes)
    torch.manual_seed(2)
    x, t = x.expand(n, D), t.expand(n)
    carry = (lambda x, v: model.carry(x, t, v)) if carried else None
    _, traces, norms = estimate(lambda x: model(x, t), x, estimate.draw(x), carry, norm=True)
    jacobian = jacobians(lambda x: model(x, t[:1]), x[:1])[0]
    symmetric = (jacobian + jacobian.T) / 2
    expected = 2 * symmetric.square().sum() / count
    if probes == "rademacher":
        expected -= 2 * symmetric.diagonal().square().sum() / count
    for values, truth in ((traces, jacobian.trace()), (norms, jacobian.square().sum())):
        assert abs(values.mean() - truth) < 4 * values.std() / n**0.5
    assert traces.detach().var() == pytest.approx(float(expected), rel=0.06)
    weight = model.body[1].linear.weight
    (mean,) = torch.autograd.grad(traces.mean(), weight)
    exact = Exact()(lambda x: model(x, t[:1]), x[:1].contiguous(), None)[1]
    (truth,) = torch.autograd.grad(exact.sum(), weight)
    assert (mean - truth).norm() < 0.1 * truth.norm()


def test_probes_belong_to_their_rows():
    x, keys = torch.zeros(6, D), noise.mix(0, np.arange(6))
    for probes in ("rademacher", "gaussian"):
        estimate = Hutchinson(2, probes)
        with noise.source(keys):
            whole = estimate.draw(x)
        with noise.source(keys[2:4]):
            part = estimate.draw(x[2:4])
        assert torch.equal(whole[2:4], part) and not torch.equal(whole[0], whole[1])
    assert set(Hutchinson().draw(torch.zeros(50, D)).unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Exact(chunk=0), "trace.chunk=0"),
        (lambda: Hutchinson(0), "num_probes=0"),
        (lambda: Hutchinson(probes="uniform"), "rademacher or gaussian"),
        (lambda: Exact().check(Space((3, 32, 32))), "3072 dimensions.*trace=hutchinson"),
    ],
)
def test_options_that_cannot_work_are_refused(make, sentence):
    with pytest.raises(Refused, match=sentence):
        make()
