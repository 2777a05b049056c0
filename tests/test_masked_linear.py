"""Masked linear layers: piece by piece they are what they are as a whole, and nothing sees what its mask hides."""

from functools import partial

import numpy as np
import pytest
import torch
from recipes import ORDERS, autoregressive, disturb
from torch import nn
from torch.nn import functional as F

from laminar.flows.net import masked_linear
from laminar.flows.net.made import MADE
from laminar.flows.net.masked_linear import MaskedLinear, pieces
from laminar.flows.net.weight_norm import MaskedWeightNorm
from laminar.flows.space import Space

rank = np.arange(80)
TRIANGLE = np.sort(np.arange(96) % 80)[:, None] >= rank
MASKS = {
    "sorted": TRIANGLE,
    "backwards": TRIANGLE[:, ::-1].copy(),
    "heads": np.tile(rank[:, None] > rank, (3, 1)),
    "a line that sees nothing": np.vstack([np.zeros((1, 80), dtype=bool), TRIANGLE]),
    "a row out of its place": np.vstack([TRIANGLE[50:51], TRIANGLE]),
}


@pytest.fixture(autouse=True)
def always(monkeypatch):
    torch.manual_seed(3)
    monkeypatch.setattr(masked_linear, "WORTH", 0)


@pytest.mark.parametrize("name", MASKS)
def test_pieces_cover_a_mask_once_and_leave_out_a_quarter(name):
    mask, covered = MASKS[name], np.zeros(MASKS[name].shape, dtype=int)
    for piece in pieces(mask):
        covered[piece] += 1
    assert covered.max() == 1 and not covered[~mask].all() and covered[mask].all()
    assert covered.sum() <= 0.75 * mask.size


@pytest.mark.parametrize("mask", [np.ones((64, 64), dtype=bool), np.random.default_rng(0).permuted(TRIANGLE, axis=0)])
def test_a_mask_without_shape_has_no_pieces(mask):
    assert pieces(mask) == []


def called(layer: nn.Module, x: torch.Tensor) -> bool:
    """Whether it went piece by piece."""
    return type(layer(x).grad_fn).__name__ == "_PiecewiseBackward"


@pytest.mark.parametrize("name", MASKS)
def test_values_and_gradients_are_those_of_the_whole(name):
    layer = MaskedLinear(MASKS[name]).double()
    x = torch.randn(7, 80, dtype=torch.float64, requires_grad=True)
    assert called(layer, x)
    whole = F.linear(x, layer.weight * layer.mask, layer.bias)
    torch.testing.assert_close(layer(x), whole, rtol=1e-13, atol=1e-13)
    down = torch.randn_like(whole)
    learned = [x, layer.weight, layer.bias]
    for ours, theirs in zip(*(torch.autograd.grad(y, learned, down) for y in (layer(x), whole)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).sin(), x)


def test_a_first_layer_asks_for_no_gradient_of_data_and_none_of_a_bias_that_it_lacks():
    layer, x = MaskedLinear(TRIANGLE).double(), torch.randn(5, 80, dtype=torch.float64)
    y = layer.product(x, layer.free())
    assert called(layer, x)
    torch.testing.assert_close(y, x @ layer.weight.T, rtol=1e-12, atol=1e-12)
    y.sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.sum(0).expand(96, -1) * layer.mask, rtol=1e-12, atol=1e-12)
    assert layer.bias.grad is None


def test_weight_norm_goes_piece_by_piece_too():
    layer, x = MaskedWeightNorm(TRIANGLE, context=2, norm=True).double(), torch.randn(5, 80, dtype=torch.float64)
    given = torch.randn(5, 2, dtype=torch.float64)
    rows = layer.weight / (layer.weight.square().sum(1, keepdim=True) + 1e-12).sqrt()
    expected = layer.scale(given) * (x @ rows.T) + layer.shift(given) + layer.bias
    torch.testing.assert_close(layer(x, given), expected, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradgradcheck(lambda x: layer(x, given).sin(), x.requires_grad_())


def test_weights_that_learn_nothing_cost_nothing(monkeypatch):
    layer, x = MaskedLinear(TRIANGLE).requires_grad_(False), torch.randn(5, 80, requires_grad=True)
    monkeypatch.setattr(torch, "mm", None)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad[0], layer.weight.sum(0))


def test_halves_are_multiplied_as_halves():
    layer, x = MaskedLinear(TRIANGLE), torch.randn(5, 80)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)
    y.sum().backward()
    assert layer.weight.grad.dtype == torch.float32 and not layer.weight.grad[layer.mask == 0].any()


@pytest.mark.parametrize("options", [{}, {"residual": True}, {"degrees": "random"}, {"weight_norm": True, "planes": 4}])
@pytest.mark.parametrize("order", ["sequential", "reversed", "random"])
def test_a_value_sees_those_before_it_alone(options, order, monkeypatch):
    net = partial(MADE, width=96, activation=nn.Tanh, **options)
    layer = disturb(autoregressive(net=net, order=ORDERS[order])(Space((64,)))).double()
    x = torch.randn(64, dtype=torch.float64)
    z, log_det = layer(x[None])
    seen = torch.autograd.functional.jacobian(lambda x: layer(x[None])[0][0], x)
    rank = layer.net.order.rank
    before, itself = torch.from_numpy(layer.net.order.sees(rank[:, None], rank)), torch.eye(64, dtype=torch.bool)
    assert not seen[~before & ~itself].any() and seen[before].count_nonzero() > 0.9 * before.sum()
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(seen)[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(layer.inverse(z)[0], x, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(masked_linear, "WORTH", 2**60)
    torch.testing.assert_close(layer(x[None])[0], z, rtol=1e-12, atol=1e-12)
