"""Conditioners: what every net promises, and what each paper's net must have."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from laminar.net.context import ContextReader
from laminar.net.convnet import ConvNet, _Conv
from laminar.net.mlp import MLP
from laminar.net.resnet import ResNet
from laminar.refused import Refused
from laminar.space import Space
from laminar.transform import initialising

ARITY = 3
VECTOR = Space((6,), context={"label": (4,)}), Space((5,))
IMAGE = Space((3, 4, 8), context={"label": (4,), "image": (2, 8, 8)}), Space((2, 4, 8))

NETS = {
    "mlp": (partial(MLP, width=16), VECTOR),
    "mlp tanh": (partial(MLP, width=16, depth=3, activation=nn.Tanh), VECTOR),
    "mlp linear": (partial(MLP, depth=0), VECTOR),
    "convnet": (partial(ConvNet, width=16), IMAGE),
    "convnet of one layer": (partial(ConvNet, depth=0), IMAGE),
    "convnet plain": (partial(ConvNet, width=16, depth=3, actnorm=False, edges=False), IMAGE),
    "resnet": (partial(ResNet, width=8, depth=2), IMAGE),
    "resnet growing": (partial(ResNet, width=4, depth=1, reference=32), IMAGE),
}


def make(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, torch.Tensor, dict]:
    """A net in evaluation mode whose head does something, with a batch and its context."""
    torch.manual_seed(0)
    recipe, (seen, asked) = NETS[name]
    net = recipe(seen, asked, ARITY)
    for parameter in net.head.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(5, *seen.event, dtype=dtype)
    context = {key: torch.randn(5, *shape, dtype=dtype) for key, shape in seen.context.items()}
    return net.to(dtype).eval(), x, context


@pytest.fixture(params=NETS)
def name(request) -> str:
    return request.param


def test_shape_and_rows(name):
    net, x, context = make(name)
    out = net(x, context)
    assert out.shape == (5, ARITY, *net.asked.event)
    row = net(x[3:4], {key: value[3:4] for key, value in context.items()})
    torch.testing.assert_close(out[3:4], row, rtol=1e-10, atol=1e-10)


def test_starts_where_the_law_wants(name):
    torch.manual_seed(0)
    recipe, (seen, asked) = NETS[name]
    net = recipe(seen, asked, ARITY).eval()
    start = torch.tensor([-1.0, 0.5, 2.0])
    net.start(start)
    x = torch.randn(5, *seen.event)
    context = {key: torch.randn(5, *shape) for key, shape in seen.context.items()}
    planes = start.view(ARITY, *[1] * len(asked.event)).expand(5, ARITY, *asked.event)
    torch.testing.assert_close(net(x, context), planes, rtol=0, atol=0.2)
    for parameter in net.head.parameters():
        if parameter.dim() > 1:
            nn.init.zeros_(parameter)
    torch.testing.assert_close(net(x, context), planes, rtol=0, atol=1e-6)


def test_sees_every_value(name):
    """Every value of the input and of every context moves the output, and every parameter learns."""
    net, x, context = make(name)
    inputs = [x, *context.values()]
    for value in inputs:
        value.requires_grad_()
    net.train()(x, context).pow(3).sum().backward()
    for value in inputs:
        assert (value.grad.flatten(1).abs().amax(0) > 0).all()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


def test_context_is_asked_for(name):
    net, x, context = make(name)
    with pytest.raises(Refused, match="label was not given"):
        net(x, {key: value for key, value in context.items() if key != "label"})


def test_compiles_without_breaks(name):
    net, x, context = make(name)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, context), net(x, context))
    torch.testing.assert_close(compiled.train()(x, context).shape, net(x, context).shape)


def test_bfloat16_is_near_float32(name):
    net, x, context = make(name, torch.float32)
    exact = net(x, context)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = net.to(memory_format=torch.channels_last)(x, context)
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_refuses_the_wrong_rank(name):
    recipe, (seen, _) = NETS[name]
    wrong = Space((1, 8, 8)) if seen.is_vector else Space((6,))
    reads = "vectors" if seen.is_vector else "images"
    with pytest.raises(Refused, match=rf"net=\w+ reads {reads}, and the event here is"):
        recipe(wrong, wrong, ARITY)


class TestContext:
    def read(self, event: tuple, **context: torch.Tensor) -> torch.Tensor:
        reader = ContextReader(Space(event, context={key: value.shape[1:] for key, value in context.items()}))
        out = reader.read(torch.zeros(2, *event), context)
        assert out.shape == (2, reader.channels, *event[1:])
        return out

    def test_none_costs_nothing(self):
        reader, x = ContextReader(Space((3, 4, 4))), torch.randn(2, 3, 4, 4)
        assert reader.channels == 0 and reader(x, None) is x

    def test_vectors(self):
        label, images = torch.randn(2, 5), torch.randn(2, 1, 3, 3)
        torch.testing.assert_close(self.read((7,), label=label, image=images), torch.cat([label, images.flatten(1)], 1))
        planes = self.read((1, 3, 2), label=label)
        torch.testing.assert_close(planes, label[:, :, None, None].expand(-1, -1, 3, 2))

    def test_fine_map_keeps_every_value(self):
        image = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(self.read((1, 8, 8), image=image), image)
        half = self.read((1, 8, 4), image=image)
        torch.testing.assert_close(half.unflatten(1, (3, 2)), torch.stack([image[..., 0::2], image[..., 1::2]], 2))
        torch.testing.assert_close(self.read((1, 4, 4), image=image), F.pixel_unshuffle(image, 2))

    def test_coarse_map_is_repeated(self):
        image = torch.randn(2, 3, 2, 4)
        fine = self.read((1, 4, 4), image=image)
        torch.testing.assert_close(fine[:, :, 0::2], image)
        torch.testing.assert_close(fine[:, :, 1::2], image)

    def test_indivisible_map_is_refused(self):
        with pytest.raises(Refused, match="'image' is a map of 7x8 positions and a net here sees 4x4"):
            ContextReader(Space((1, 4, 4), context={"image": (3, 7, 8)}))


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


class TestConvNet:
    def test_edges_mark_the_padding(self):
        torch.manual_seed(0)
        conv, x = _Conv(3, 5, 3, sizes=[4, 6]), torch.randn(2, 3, 4, 6)
        marked = torch.cat([F.pad(x, [1] * 4), F.pad(torch.zeros(2, 1, 4, 6), [1] * 4, value=1.0)], 1)
        expected = F.conv2d(marked, torch.cat([conv.weight, conv.edge], 1), conv.bias)
        torch.testing.assert_close(conv(x), expected)

    def test_first_batch_normalises_the_hidden_layers_once(self):
        torch.manual_seed(0)
        net = ConvNet(Space((3, 4, 4)), Space((2, 4, 4)), 1, width=8, depth=3)
        x = 5 + 3 * torch.randn(64, 3, 4, 4)
        with initialising():
            net(x)
        for layer in (0, 2, 4):
            std, mean = torch.std_mean(net.body[: layer + 1](x), (0, 2, 3), correction=0)
            torch.testing.assert_close(mean, torch.zeros(8), rtol=0, atol=1e-5)
            torch.testing.assert_close(std, torch.ones(8), rtol=0, atol=1e-4)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        with initialising():
            net(2 * x)
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())

    @pytest.mark.parametrize(
        "levels, steps, plain, published, full",
        [(3, 32, 43_954_416, 44.0e6, 44.5e6), (4, 48, 110_883_792, 110.9e6, 112.0e6)],
        ids=["cifar10", "imagenet64"],
    )
    def test_glow_has_the_published_size(self, levels, steps, plain, published, full):
        """Steps (actnorm, 1x1 convolution, coupling) and split priors; the published counts are those of the plain net."""

        def size(**options) -> int:
            total = 0
            for level in range(levels):
                channels, side = 6 * 2 ** (level + 1), 16 // 2**level
                half = Space((channels // 2, side, side))
                total += steps * (count(ConvNet(half, half, 2, **options)) + 2 * channels + channels**2)
                if level < levels - 1:
                    total += count(ConvNet(half, half, 2, depth=0, **options))
            return total

        with torch.device("meta"):
            assert size(actnorm=False, edges=False) == plain
            assert abs(plain - published) < 0.05e6
            assert abs(size() - full) < 0.1e6


class TestResNet:
    def test_width_doubles_when_the_side_halves(self):
        def width(*event: int) -> int:
            return ResNet(Space(event), Space(event), 2, width=4, depth=1, reference=32).head.in_channels

        assert [width(3, 64, 64), width(3, 32, 32), width(3, 32, 16), width(6, 16, 16), width(6, 8, 8)] == [4, 4, 4, 8, 16]

    def test_parameters_of_the_published_cifar10_nets(self):
        """64 maps and 8 blocks at side 32; weights and gains by hand from the description."""
        with torch.device("meta"):
            net = ResNet(Space((4, 32, 32)), Space((3, 32, 32)), 2, width=64, depth=8, reference=32)
        block = 2 * (2 * 64 + 9 * 64 * 64 + 64) + 64
        skips = 9 * (64 * 64 + 2 * 64)
        assert count(net) == 8 + (9 * 8 * 64 + 2 * 64) + 8 * block + skips + 2 * 64 + 65 * 6
