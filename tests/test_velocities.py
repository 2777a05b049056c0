"""Velocities of images: published counts, tangents against Jacobians, time and context, what does not fit."""

from functools import partial

import numpy as np
import pytest
import torch
from pages import CIFAR, DIGITS, MNIST, flow, parameters
from parts import refuses
from recipes import disturb
from torch import nn

from laminar.flows import noise
from laminar.flows.net.attention import attend
from laminar.flows.net.concat_conv import ConcatConv
from laminar.flows.net.timed_blocks import SpatialAttention, embed
from laminar.flows.net.unet import UNet
from laminar.flows.space import Space
from laminar.flows.trace.exact import Exact

IMAGE = Space((2, 4, 6), context={"label": (3,), "low": (1, 2, 3)})
unet = partial(UNet, width=8, depth=1, multipliers=(1, 2), attention=(4,), head_width=4, dropout=0.0)
NETS = {"concat_conv": partial(ConcatConv, width=8, depth=2), "unet": unet}


def test_ffjords_counts_on_images():
    """The published command's; with one hidden layer less, the paper's text's."""
    for depth, counts in (((), (800_646, 1_358_882)), (("size.depth=2",), (425_606, 833_826))):
        words = ("flow=ffjord_image", *depth)
        assert parameters(MNIST, *words, "data=mnist", "size.levels=3") == counts[0]
        assert parameters(CIFAR, *words, "data=cifar10", "size.levels=4") == counts[1]


def test_the_unets_counts():
    """torchcfm's own; Lipman's widths, in millions."""
    assert parameters(CIFAR, "flow=cfm", "data=cifar10") == 35_746_307
    assert round(parameters(CIFAR, "experiment=fm_cifar10") / 1e6) == 143


def given(n: int = 2) -> tuple[torch.Tensor, torch.Tensor, dict]:
    torch.manual_seed(0)
    x, t = torch.randn(n, *IMAGE.event, dtype=torch.float64), torch.rand(n, dtype=torch.float64)
    return x, t, {name: torch.randn(n, *shape, dtype=torch.float64) for name, shape in IMAGE.context.items()}


@pytest.mark.parametrize("name", NETS)
def test_time_context_and_every_weight_count(name):
    net, (x, t, context) = disturb(NETS[name](IMAGE), 1.0).double(), given()
    y = net(x, t, context)
    assert y.shape == x.shape
    assert (net(x, t + 0.5, context) - y).flatten(1).abs().amax(1).min() > 1e-4
    for key, value in context.items():
        assert (net(x, t, context | {key: value + 1}) - y).flatten(1).abs().amax(1).min() > 1e-4
    torch.testing.assert_close(net(x[:1], t[:1], {k: v[:1] for k, v in context.items()}), y[:1])
    y.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_it_starts_near_zero(name):
    x, t, context = given()
    assert NETS[name](IMAGE).double()(x, t, context).abs().max() < 0.2


@pytest.mark.parametrize("activation", [nn.Softplus, nn.Tanh])
def test_carried_tangents_are_autograds(activation):
    net, (x, t, context) = disturb(ConcatConv(IMAGE, width=8, depth=2, activation=activation), 1.0).double(), given()
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, t, context), x)
    jacobian = torch.stack([jacobian[i, ..., i, :, :, :].reshape(48, 48) for i in range(2)])
    v = torch.randn(5, 2, 48, dtype=torch.float64)
    y, moved = net.carry(x.flatten(1), t, v, context)
    torch.testing.assert_close(y, net(x, t, context).flatten(1))
    torch.testing.assert_close(moved, torch.einsum("bij,kbj->kbi", jacobian, v))
    _, shared = net.carry(x.flatten(1), t, v[:, :1], context)
    torch.testing.assert_close(shared[:, 1], v[:, 0] @ jacobian[1].T)


def test_the_time_reaches_the_edges_as_a_padded_plane():
    """A convolution of the image and a plane of t, both padded with zeros."""
    net = ConcatConv(Space((1, 5, 5)), width=4, depth=0).double()
    nn.init.normal_(net.head.conv.weight)
    x, t = torch.randn(3, 1, 5, 5, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    plane = torch.cat([x, t.view(3, 1, 1, 1).expand(3, 1, 5, 5)], 1)
    torch.testing.assert_close(net(x, t), net.head.conv(plane))


def test_the_embedding_holds_pairs_of_waves():
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    waves = embed(t, 8)
    torch.testing.assert_close(waves[:, :4].square() + waves[:, 4:].square(), torch.ones(3, 4, dtype=torch.float64))
    torch.testing.assert_close(waves[:, 0], t.cos())
    torch.testing.assert_close(waves[:, 6], (t / 100).sin())


def test_image_flows_score_and_come_back():
    for words in (("flow=ffjord_image", "size.levels=2"), ("flow=cfm", "net.multipliers=[1,2]", "net.dropout=0")):
        torch.manual_seed(0)
        model = disturb(flow(DIGITS, *words, "data=digits", "size.width=8", "size.depth=1"), 0.3)
        x = torch.randint(17, (3, 1, 8, 8))
        with torch.no_grad():
            assert torch.equal(model.decode(model.encode(x)).long(), x)
            assert model.log_prob(x).isfinite().all() and model.grade == "bound+estimate"


def test_a_unets_trace_and_its_gradient():
    """Derivatives of what the trace differentiates, through attention too."""
    net, x, t = (
        disturb(unet(Space((1, 2, 2)), attention=(2,)), 0.7).double(),
        torch.randn(2, 1, 2, 2).double(),
        torch.rand(2).double(),
    )
    weight, values = net.middle[0].attention.qkv.weight, []

    def trace() -> torch.Tensor:
        return Exact()(lambda x: net(x.view(2, 1, 2, 2), t).flatten(1), x.flatten(1), None)[1]

    found = trace()
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, t), x)
    expected = torch.stack([jacobian[i, ..., i, :, :, :].reshape(4, 4).trace() for i in range(2)])
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), weight)
    place = divmod(int(gradient.abs().argmax()), weight.shape[1])
    with torch.no_grad():
        for shift in (1e-5, -1e-5):
            weight[place] += shift
            values.append(trace().sum())
            weight[place] -= shift
    assert gradient[place] == pytest.approx(float(values[0] - values[1]) / 2e-5, rel=1e-4)


def test_attention_is_torchs():
    part, h = SpatialAttention(8, 2).double(), torch.randn(3, 8, 2, 3, dtype=torch.float64)
    nn.init.normal_(part.out.weight)
    found = attend(part.qkv(part.norm(h).flatten(2).transpose(1, 2)), 2)
    torch.testing.assert_close(part(h), h + part.out(found).transpose(1, 2).unflatten(2, (2, 3)))


def test_dropout_and_solvers_do_not_go_together():
    model = flow(DIGITS, "flow=cfm", "data=digits", "net.multipliers=[1,2]", "size.width=8")
    x = torch.randint(17, (2, 1, 8, 8))
    refuses(lambda: model.log_prob(x), r"net\.dropout.*take net\.dropout=0, or objective=flow_matching")
    with torch.no_grad(), noise.source(noise.mix(0, np.arange(2))):
        looked = model.log_prob(x)
    assert all(part.training for part in model.modules())
    model.eval()
    with noise.source(noise.mix(0, np.arange(2))):
        torch.testing.assert_close(model.log_prob(x), looked)


WRONG = {
    "vectors": ("flow=cfm_mlp net=unet", "net=unet reads images"),
    "odd halvings": ("flow=cfm", "halves its images 3 times, and 28x28 cannot be.*net.multipliers"),
    "an odd width": ("flow=cfm size.width=31 net.multipliers=[1,2]", "size.width=31 is odd"),
    "a velocity of vectors": ("flow=cfm net=concat", "net=concat reads vectors.*choose net=concat_conv or net=unet"),
    "a net without the time": ("flow=cfm net=convnet", "net=convnet does not know the time"),
    "an exact trace": (
        "flow=ffjord_image size.levels=3 trace=exact trace.largest=100",
        "784 dimensions.*choose trace=hutchinson",
    ),
    "a mask that splits": ("flow=ffjord_image mask=checkerboard", "layer=continuous works on whole events"),
    "four levels of 28 pixels": ("flow=ffjord_image size.levels=4", "does not divide"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(case):
    words, sentence = WRONG[case]
    refuses(lambda: flow(MNIST, *words.split(), "data=mnist", device="meta"), sentence)


def test_a_conditioner_is_no_velocity():
    refuses(lambda: ConcatConv(Space((1, 4, 4)), Space((1, 4, 4)), 2), "only layer=continuous reads")
