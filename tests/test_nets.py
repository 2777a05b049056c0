"""Conditioners: what every net promises, and what each paper's net must have."""

from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from recipes import settled
from torch import nn
from torch.nn import functional as F

from laminar.config.recipe import build
from laminar.flows.initialise import initialising
from laminar.flows.net.context import ContextReader
from laminar.flows.net.convnet import ConvNet, _Conv
from laminar.flows.net.data_init import DataInit
from laminar.flows.net.densenet import DenseNet
from laminar.flows.net.gated import Features
from laminar.flows.net.gated_attention import GatedAttention
from laminar.flows.net.mlp import MLP
from laminar.flows.net.residual import Residual
from laminar.flows.net.resnet import ResNet
from laminar.flows.net.vit import ViT
from laminar.flows.space import Space
from laminar.refused import Refused

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
    "residual vector": (partial(Residual, width=16, batch_norm=True), VECTOR),
    "residual image": (partial(Residual, width=16), IMAGE),
    "gated_attention": (partial(GatedAttention, width=8, depth=2), IMAGE),
    "gated_pointwise": (partial(GatedAttention, width=8, depth=1, attention=False), IMAGE),
    "gated_attention_imagenet32": (partial(GatedAttention, width=8, depth=1, elu_head=True, weight_norm=True), IMAGE),
    "gated_imagenet": (partial(GatedAttention, width=8, depth=2, attention=None, elu_head=True), IMAGE),
    "densenet": (partial(DenseNet, width=8, depth=2, growth=4, blocks=2), IMAGE),
    "densenet plain": (partial(DenseNet, width=8, depth=1, growth=4, gated=False), IMAGE),
    "vit": (partial(ViT, width=16), IMAGE),
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
    return settled(net).to(dtype).eval(), x, context


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
    net = settled(recipe(seen, asked, ARITY)).eval()
    start = torch.tensor([-1.0, 0.5, 2.0])
    net.start(start)
    x = torch.randn(5, *seen.event)
    context = {key: torch.randn(5, *shape) for key, shape in seen.context.items()}
    planes = start.view(ARITY, *[1] * len(asked.event)).expand(5, ARITY, *asked.event)
    torch.testing.assert_close(net(x, context), planes, rtol=0, atol=0.2)
    for key, parameter in net.head.named_parameters():
        if parameter.dim() > 1 and not key.endswith("original1"):  # weight norm's directions: it has lengths beside them
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


def test_copies_and_loads(name):
    net, x, context = make(name)
    torch.testing.assert_close(deepcopy(net)(x, context), net(x, context))
    recipe, (seen, asked) = NETS[name]
    other = recipe(seen, asked, ARITY).double().eval()
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(x, context), net(x, context))


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


@pytest.mark.parametrize("name", [name for name, (recipe, _) in NETS.items() if recipe.func.rank])
def test_refuses_the_wrong_rank(name):
    recipe, (seen, _) = NETS[name]
    wrong = Space((1, 8, 8)) if seen.is_vector else Space((6,))
    reads = "vectors" if seen.is_vector else "images"
    with pytest.raises(Refused, match=rf"net=\w+ reads {reads}, and the event here is"):
        recipe(wrong, wrong, ARITY)


PAGES = {  # width by default, how many times that the net is wide at side 8
    "mlp": (256, 1),
    "mlp_nice": (1000, 1),
    "residual": (256, 1),
    "residual_image": (96, 1),
    "convnet": (512, 1),
    "convnet_plain": (512, 1),
    "resnet": (32, 1),
    "resnet_32": (32, 4),
    "resnet_64": (32, 8),
    "gated_attention": (96, 1),
    "gated_pointwise": (96, 1),
    "densenet": (48, 1),
    "vit": (512, 1),
}


@pytest.mark.parametrize("page", PAGES)
def test_page_reads_the_size_words(page):
    node = OmegaConf.load(Path(__file__).parent.parent / "conf" / "net" / f"{page}.yaml")
    seen, asked = VECTOR if page in ("mlp", "mlp_nice", "residual") else IMAGE
    default, growth = PAGES[page]
    for sizes, width in ({}, default), ({"width": 8, "depth": 1, "steps": "???"}, 8), ({"width": "???"}, default):
        with torch.device("meta"):
            net = build(OmegaConf.create({"size": sizes, "net": node}).net, "flow")(seen, asked, ARITY)
        head = net.head.layer if isinstance(net.head, DataInit) else net.head
        assert head.weight.shape[1] == width * growth


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


class TestResidual:
    def test_rqnsf_has_the_published_size(self):
        """11.8M on CIFAR-10: 3 levels of 7 steps (actnorm, 1x1 convolution, spline of 4 bins) and one 1x1 convolution more."""
        total = 0
        with torch.device("meta"):
            for channels, side in (12, 16), (48, 8), (192, 4):
                half = Space((channels // 2, side, side))
                total += 7 * (count(Residual(half, half, 11, width=96, depth=3, batch_norm=True)) + 2 * channels)
                total += 8 * channels**2
        assert abs(total - 11.8e6) < 0.05e6


class TestGatedAttention:
    SEEN = {(3, 32, 16): 4, (6, 16, 16): 2, (12, 16, 8): 3}  # Flow++ on CIFAR-10: what its couplings see, and how often

    def couplings(self, components: int, **options) -> int:
        """Both halves have a norm for each element and a 1x1 convolution."""
        total = 0
        with torch.device("meta"):
            for event, times in self.SEEN.items():
                half = Space(event)
                total += times * count(GatedAttention(half, half, 2 + 3 * components, **options))
                total += times * (4 * half.size + 2 * event[0] ** 2)
        return total

    def dequantizer(self, components: int, width: int) -> int:
        with torch.device("meta"):
            features = Features((3, 32, 32))
            half = Space((3, 32, 16), context={"image": features.event})
            net = GatedAttention(half, half, 2 + 3 * components, width=width, depth=2)
            return count(features) + 4 * (count(net) + 4 * half.size + 2 * 9)

    def test_net_of_one_coupling(self):
        """By hand: positions 49,152; in 2,688; 10 blocks of 165,984 + 37,056 + 46,560 + 384; out 254,310."""
        half = Space((3, 32, 16))
        with torch.device("meta"):
            assert count(GatedAttention(half, half, 98)) == 2_805_990

    def test_flowpp_has_the_published_sizes(self):
        assert self.couplings(32) + self.dequantizer(32, 96) == 31_443_440
        assert self.couplings(32, attention=False) + self.dequantizer(32, 96) == 31_443_440
        assert self.couplings(32, width=104) == 32_324_408
        assert self.couplings(0, width=108) + self.dequantizer(0, 108) == 32_045_708

    @pytest.mark.parametrize("imagenet", [False, True])
    def test_first_batch_sets_every_layer(self, imagenet):
        torch.manual_seed(0)
        seen, asked = IMAGE
        net = GatedAttention(seen, asked, ARITY, width=8, depth=2, dropout=0.0, elu_head=imagenet, weight_norm=imagenet)
        start = torch.tensor([-1.0, 0.5, 2.0])
        net.start(start)
        x, context = 3 + torch.randn(16, *seen.event), {k: torch.randn(16, *v) for k, v in seen.context.items()}
        with initialising():
            net(x, context)
        outputs = {}
        layers = {key: layer for key, layer in net.named_modules() if isinstance(layer, DataInit)}
        for key, layer in layers.items():
            layer.register_forward_hook(lambda _, __, output, key=key: outputs.update({key: output.flatten(0, -2)}))
        net(x, context)
        assert len(outputs) == 2 + 2 * 5
        for key, output in outputs.items():
            std, mean = torch.std_mean(output, 0, correction=0)
            target = start.repeat_interleave(2) if key == "head" else torch.zeros(len(mean))
            torch.testing.assert_close(mean, target, rtol=0, atol=1e-4)
            torch.testing.assert_close(std, torch.full_like(std, layers[key].gain), rtol=1e-3, atol=0)

    def test_attention_looks_everywhere_and_its_stand_in_does_not(self):
        seen = asked = Space((1, 16, 16))
        for attention in True, False:
            torch.manual_seed(0)
            net = settled(GatedAttention(seen, asked, 1, width=8, depth=1, attention=attention)).double().eval()
            x = torch.randn(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
            net(x)[0, 0, 0, 0, 0].backward()
            reach = x.grad[0, 0] != 0
            assert reach.all() if attention else not reach[4:].any() and not reach[:, 4:].any()

    def test_refusals(self):
        big, odd = Space((1, 128, 128)), Space((1, 8, 8))
        with pytest.raises(Refused, match=r"each of 128x128 positions attend to every other, 4.0 GiB .* attention=false"):
            GatedAttention(big, big, 2)
        with pytest.raises(Refused, match="10 is no multiple of 4"):
            GatedAttention(odd, odd, 2, width=10)
        with pytest.raises(Refused, match="raise the size of the patches"):
            ViT(big, big, 2)
        with pytest.raises(Refused, match="fold 2 columns"):
            Features((3, 8, 7))
        assert GatedAttention(big, big, 2, width=8, depth=1, attention=False)(torch.zeros(1, 1, 128, 128)).shape[1] == 2


@pytest.mark.parametrize("heads", [0, 4])
def test_features_of_imagenet_look_everywhere_by_attention_alone(heads):
    torch.manual_seed(0)
    features = Features((1, 16, 32), width=8, depth=1, norm=True, heads=heads, weight_norm=True)
    image = torch.randn(2, 1, 16, 32, requires_grad=True)
    out = settled(features).eval()(image)
    assert out.shape == (2, *features.event) == (2, 8, 16, 16)
    (out[0, :, 0, 0] * torch.randn(8)).sum().backward()
    reach = image.grad[0, 0] != 0
    assert reach.all() if heads else not reach[4:].any() and not reach[:, 8:].any()
    lengths = [p for name, p in features.named_parameters() if name.endswith("original0")]
    assert len(lengths) == 1 + (4 if heads else 2)


def test_features_fold_columns():
    torch.manual_seed(0)
    features, image = settled(Features((3, 8, 8), width=4)).eval(), torch.randn(2, 3, 8, 8, requires_grad=True)
    out = features(image)
    assert out.shape == (2, *features.event) == (2, 4, 8, 4)
    out[0, :, 4, 0].abs().sum().backward()
    reach = (image.grad[0] != 0).any(0)
    assert reach[4, :8].all()  # 7 convolutions of 3x3 on pairs of columns
    torch.testing.assert_close(out[1:], features(image[1:]))
