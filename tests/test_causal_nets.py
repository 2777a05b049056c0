"""What single causal nets promise beside causality: a field, parameters that are shared, a norm."""

from functools import partial

import pytest
import torch
from recipes import affine, autoregressive, batch, context_of, disturb
from torch import nn

from laminar.flows.coupling.affine import Affine, Exp
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.net.made import MADE
from laminar.flows.net.mlp import MLP
from laminar.flows.net.pixelcnn import PixelCNN
from laminar.flows.net.recurrent import Recurrent
from laminar.flows.net.reslinear import ResLinear
from laminar.flows.net.weight_norm import MaskedWeightNorm
from laminar.flows.order.reversed import Reversed
from laminar.flows.order.sequential import Sequential
from laminar.flows.space import Space


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("kernel", "depth"), [(3, 0), (5, 0), (3, 2), (7, 1)])
def test_a_pixelcnn_sees_a_limited_field(kernel, depth):
    torch.manual_seed(0)
    space, reach = Space((1, 9, 11)), kernel // 2 + depth
    net = disturb(PixelCNN(space, space, 1, width=4, depth=depth, kernel=kernel, order=Sequential)).double()
    x, (i, j) = batch(space).requires_grad_(), (6, 5)
    (seen,) = torch.autograd.grad(net(x)[:, :, 0, i, j].sum(), x)
    rows, columns = seen[:, 0].abs().amax(0).nonzero().T
    assert (rows.min(), columns.min(), columns.max()) == (max(i - reach, 0), max(j - reach, 0), min(j + reach, 10))


def test_a_pixelcnn_of_the_reversed_order_is_the_same_one_turned_round():
    space = Space((2, 4, 5), context={"low": (1, 4, 5)})
    forth, back = (PixelCNN(space, space, 3, width=4, depth=1, order=order).double() for order in (Sequential, Reversed))
    back.load_state_dict(forth.state_dict())
    x, context = batch(space), context_of(space)
    turned = forth(x.flip((2, 3)), {"low": context["low"].flip((2, 3))}).flip((3, 4))
    torch.testing.assert_close(back(x, context), turned)


def test_a_recurrent_net_has_as_many_parameters_for_any_number_of_values():
    few, many = (count(Recurrent(space, space, 2, order=Sequential)) for space in (Space((4,)), Space((1, 28, 28))))
    assert few == many == 3 * (128 * (1 + 128) + 2 * 128) + 2 * (128 + 1)


def test_images_make_a_round_trip_in_single_precision():
    for net in (partial(PixelCNN, width=16, depth=3), partial(Recurrent, width=32)):
        torch.manual_seed(0)
        layer = disturb(autoregressive(affine, net)(Space((1, 28, 28))))
        x = torch.randn(4, 1, 28, 28)
        with torch.no_grad():
            assert (layer.inverse(layer(x)[0]) - x).abs().max() < 1e-4


@pytest.mark.parametrize("context", [{}, {"label": (3,)}], ids=["alone", "conditional"])
def test_conditional_weight_norm_scales_and_shifts_normed_rows(context):
    torch.manual_seed(0)
    space = Space((5,), context=context)
    net = disturb(MADE(space, space, 2, width=8, depth=1, weight_norm=True, planes=2, order=Sequential)).double()
    x, told = batch(space), torch.cat([*(context_of(space) or {"none": torch.zeros(5, 1).double()}).values()], 1)
    first, last = net.layers[0], net.spread
    assert isinstance(first, MaskedWeightNorm) and len(last.weight) == 5 * 2 * (8 // 5)

    def affine_of_context(layer, seen, direction):
        scale = told @ layer.scale.weight.T + layer.scale.bias
        return scale * (seen @ direction.T) + told @ layer.shift.weight.T + layer.bias

    rows = last.weight / last.weight.norm(dim=1, keepdim=True).clamp(min=1e-5)
    planes = affine_of_context(last, affine_of_context(first, x, first.weight).relu(), rows).view(5, 2, 5)
    expected = torch.einsum("ap,bpv->bav", net.head.weight[:, :, 0], planes) + net.head.bias[:, None]
    torch.testing.assert_close(net(x, context_of(space)), expected)


@pytest.mark.parametrize("net", [ResLinear, partial(MLP, width=8, depth=1)], ids=["reslinear", "mlp"])
def test_a_net_may_make_an_elementwise_laws_parameters_from_the_context_alone(net):
    torch.manual_seed(0)
    space = Space((4,), context={"label": (3,), "low": (1, 2, 2)})
    layer = Elementwise(space, partial(Affine, Exp()), net=net)
    x, context = batch(space, dtype=torch.float32), context_of(space, dtype=torch.float32)
    torch.testing.assert_close(layer(x, context)[0], x, rtol=0.05, atol=0.05)  # where the law starts
    disturb(layer)
    z, log_det = layer(x, context)
    other, _ = layer(x, {**context, "label": context["label"] + 1})
    assert (z != other).all()
    params = layer.net(context["label"])
    torch.testing.assert_close(z, x * params[:, 0].exp() + params[:, 1])
    torch.testing.assert_close(log_det, params[:, 0].sum(1))


def test_naf_ends_in_two_residual_blocks_of_a_blank():
    """One for shifts, one for scales: maps of D x 1, D x 1 and D x D weights, with D norms and D biases each."""
    layer = Elementwise(Space((6,)), partial(Affine, Exp()), net=ResLinear)
    assert count(layer) == 2 * (2 * 6 + 6 * 6 + 3 * 2 * 6) == 168
