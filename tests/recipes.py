"""Named recipes: every transform in every shape that it serves. The laws of test_transforms run over each of them."""

from functools import partial

import torch
from torch import nn

from laminar.flows.compose.chain import Chain
from laminar.flows.compose.inverse import Inverse
from laminar.flows.compose.level import Level
from laminar.flows.compose.multiscale import Multiscale
from laminar.flows.compose.scales import Scales
from laminar.flows.coupling.additive import Additive
from laminar.flows.coupling.affine import Affine, Bounded, Exp, Sigmoid, Tanh
from laminar.flows.coupling.deep_sigmoid import DeepSigmoid
from laminar.flows.coupling.dense_deep_sigmoid import DenseDeepSigmoid
from laminar.flows.coupling.gated import Gated
from laminar.flows.coupling.integral import Integral
from laminar.flows.coupling.mixture_gaussian import MixtureGaussian
from laminar.flows.coupling.mixture_logistic import MixtureLogistic
from laminar.flows.coupling.piecewise_linear import PiecewiseLinear
from laminar.flows.coupling.piecewise_quadratic import PiecewiseQuadratic
from laminar.flows.coupling.rational_quadratic import RationalQuadratic
from laminar.flows.dequantization.none import Reals
from laminar.flows.initialise import SetByData
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.layer.continuous import Continuous
from laminar.flows.layer.coupling import Coupling
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.layer.residual import Residual
from laminar.flows.layer.step import Step
from laminar.flows.mask.channel import Channel
from laminar.flows.mask.checkerboard import Checkerboard
from laminar.flows.mask.columns import Columns
from laminar.flows.mask.halves import Halves
from laminar.flows.mask.parity import Parity
from laminar.flows.mask.planes import Planes
from laminar.flows.mask.scheme import Scheme
from laminar.flows.mix.conv1x1 import Conv1x1
from laminar.flows.mix.householder import Householder
from laminar.flows.mix.permute import Permute
from laminar.flows.mix.plu import PLU
from laminar.flows.mix.triangular import Triangular
from laminar.flows.net.concat import Concat
from laminar.flows.net.concat_conv import ConcatConv
from laminar.flows.net.concat_squash import ConcatSquash
from laminar.flows.net.convnet import ConvNet
from laminar.flows.net.lipschitz import Lipschitz
from laminar.flows.net.lipschitz_densenet import LipschitzDenseNet
from laminar.flows.net.lipswish import CLipSwish
from laminar.flows.net.made import MADE
from laminar.flows.net.masked_conv import MaskedConv
from laminar.flows.net.masked_linear import MaskedLinear
from laminar.flows.net.mlp import MLP
from laminar.flows.net.pixelcnn import PixelCNN
from laminar.flows.net.recurrent import Recurrent
from laminar.flows.net.reslinear import ResLinear
from laminar.flows.net.spectral import Spectral
from laminar.flows.net.transformer import Transformer
from laminar.flows.norm.actnorm import ActNorm
from laminar.flows.norm.batchnorm import BatchNorm
from laminar.flows.order.dag import Dag
from laminar.flows.order.interleaved import Interleaved
from laminar.flows.order.random import Random
from laminar.flows.order.reversed import Reversed
from laminar.flows.order.sequential import Sequential
from laminar.flows.order.spiral import Spiral
from laminar.flows.preprocessing.affine import Affine as AffinePreprocessing
from laminar.flows.preprocessing.logit import Logit
from laminar.flows.preprocessing.none import Identity
from laminar.flows.preprocessing.sigmoid import Sigmoid as SigmoidTransform
from laminar.flows.preprocessing.standardise import Standardise
from laminar.flows.reshape.flatten import Flatten
from laminar.flows.reshape.squeeze import Squeeze
from laminar.flows.reshape.unsqueeze import Unsqueeze
from laminar.flows.solver.dopri5 import Dopri5
from laminar.flows.space import Space
from laminar.flows.trace.exact import Exact

VECTOR = Space((6,))
ODD = Space((5,))
SPATIAL = Space((3,))
IMAGE = Space((2, 4, 4))
GREY = Space((1, 4, 4))
PIXELS = Space((1, 4, 4), upper=16.0)
LABELLED = Space((4, 2, 2), context={"label": (3,)})

mlp = partial(MLP, width=16, depth=1)
conv = partial(ConvNet, width=8, depth=1)
affine = partial(Affine, Bounded())

LAWS = {
    "additive": Additive,
    "affine_bounded": affine,
    "affine_exp": partial(Affine, Exp()),
    "affine_tanh": partial(Affine, Tanh()),
    "affine_sigmoid": partial(Affine, Sigmoid()),
    "gated": partial(Gated, forget=1.0),
    "mixture_logistic": partial(MixtureLogistic, components=3),
    "mixture_logistic_unit": partial(MixtureLogistic, components=3, onto="unit"),
    "mixture_gaussian": partial(MixtureGaussian, components=3),
    "mixture_gaussian_unit": partial(MixtureGaussian, components=3, onto="unit"),
    "deep_sigmoid": partial(DeepSigmoid, components=3),
    "dense_deep_sigmoid": partial(DenseDeepSigmoid, width=3),
    "integral": partial(Integral, embedding=3, width=4, depth=2),
    "piecewise_linear": partial(PiecewiseLinear, bins=5),
    "piecewise_quadratic": partial(PiecewiseQuadratic, bins=5),
    "rational_quadratic": partial(RationalQuadratic, bins=5),
}

MASKS = {
    "parity": (partial(Parity), VECTOR),
    "parity_odd": (partial(Parity), ODD),
    "halves": (partial(Halves), VECTOR),
    "halves_odd": (partial(Halves), ODD),
    "channel": (partial(Channel), IMAGE),
    "channel_odd": (partial(Channel), Space((3, 2, 2))),
    "checkerboard": (partial(Checkerboard), GREY),
    "checkerboard_full": (partial(Checkerboard, full=True), IMAGE),
    "columns": (partial(Columns), IMAGE),
    "rows": (partial(Columns, axis="rows"), IMAGE),
    "planes_rows": (partial(Planes, axis="rows"), GREY),
    "planes_columns": (partial(Planes, axis="columns"), GREY),
}


def coupling(law=affine, net=conv):
    return partial(Coupling, law=law, net=net)


def step(law=affine, net=conv, **options):
    return partial(Step, layer=coupling(law, net), **options)


ORDERS = {"sequential": Sequential, "reversed": Reversed, "random": Random, "spiral": Spiral}
ORDERS |= {"interleaved": Interleaved, "interleaved_backwards": partial(Interleaved, backwards=True)}
made = partial(MADE, width=16, depth=2, activation=nn.Tanh)
recurrent = partial(Recurrent, width=8)
pixelcnn = partial(PixelCNN, width=8, depth=2)
masked_conv = partial(MaskedConv, width=8)
transformer = partial(Transformer, width=16, depth=2, head_width=8)


def autoregressive(law=affine, net=made, order=Sequential):
    return partial(Autoregressive, law=law, net=net, order=order)


REALNVP = Scheme(
    every=[
        [partial(Checkerboard, full=True), 3],
        Squeeze,
        [partial(Channel), 3],
        Unsqueeze,
        partial(Squeeze, order="diagonal"),
    ],
    last=[[partial(Checkerboard), 2]],
)
INTERLACED = Scheme(
    every=[partial(Squeeze, order="diagonal"), [partial(Channel), 1]],
    then=[[partial(Channel), 1]],
    last=[],
)
GLOW = Scheme(every=[Squeeze, [partial(Channel), 2]])

TRANSFORMS = {
    "reals": (Reals, VECTOR),
    "identity": (Identity, VECTOR),
    "affine_preprocessing": (partial(AffinePreprocessing, low=-1.0, high=1.0), PIXELS),
    "logit": (Logit, PIXELS),
    "sigmoid": (SigmoidTransform, VECTOR),
    "level": (partial(Level, scheme=Scheme([Squeeze, [partial(Channel), 2]]), step=step()), GREY),
    "logit_no_margin": (partial(Logit, alpha=0.0), PIXELS),
    "flatten": (Flatten, IMAGE),
    "squeeze": (Squeeze, IMAGE),
    "squeeze_diagonal": (partial(Squeeze, order="diagonal"), IMAGE),
    "patches": (partial(Squeeze, factor=4), GREY),
    "unsqueeze": (Unsqueeze, Space((8, 2, 2))),
    "permute_vector": (Permute, VECTOR),
    "reverse_image": (partial(Permute, order="reverse"), IMAGE),
    "conv1x1": (Conv1x1, Space((4, 2, 2))),
    "conv1x1_near_identity": (partial(Conv1x1, near_identity=0.1), Space((4, 2, 2))),
    "linear_dense": (Conv1x1, VECTOR),
    "plu_image": (PLU, Space((4, 2, 2))),
    "plu_vector": (partial(PLU, identity=True), VECTOR),
    "standardise": (Standardise, VECTOR),
    "triangular_image": (Triangular, IMAGE),
    "triangular_vector": (Triangular, VECTOR),
    "householder_image": (Householder, Space((4, 2, 2))),
    "householder_vector": (Householder, VECTOR),
    "actnorm_channel": (ActNorm, IMAGE),
    "actnorm_element": (partial(ActNorm, per="element"), IMAGE),
    "actnorm_vector": (ActNorm, VECTOR),
    "actnorm_without_shift": (partial(ActNorm, per="element", shift=False), VECTOR),
    "batchnorm": (BatchNorm, IMAGE),
    "batchnorm_affine": (partial(BatchNorm, affine=True), VECTOR),
    "elementwise": (partial(Elementwise, law=affine), IMAGE),
    "elementwise_channel": (partial(Elementwise, law=affine, per="channel"), IMAGE),
    "elementwise_conditional": (partial(Elementwise, law=affine, per="channel", conditional=True), LABELLED),
    "elementwise_net": (partial(Elementwise, law=affine, net=ResLinear), Space((5,), context={"label": (3,)})),
    "elementwise_net_alone": (partial(Elementwise, law=affine, net=ResLinear, per="channel"), IMAGE),
    "step_whole": (step(before=[ActNorm, Conv1x1], after=[Permute], mask=partial(Channel)), Space((4, 2, 2))),
    "step_halves": (
        step(where="halves", before=[partial(ActNorm, per="element"), Conv1x1], mask=partial(Columns)),
        IMAGE,
    ),
    "step_moved": (step(where="moved", after=[BatchNorm], mask=partial(Checkerboard, full=True)), GREY),
    "step_given": (
        step(net=mlp, where=["whole", "given"], before=[PLU], after=[partial(Elementwise, law=affine)], mask=partial(Parity)),
        VECTOR,
    ),
    "step_conditional": (step(mask=partial(Channel)), LABELLED),
    "chain": (partial(Chain, parts=[Squeeze, ActNorm, Conv1x1, Flatten, partial(step(net=mlp), mask=Parity)]), IMAGE),
    "chain_empty": (partial(Chain, parts=[]), VECTOR),
    "inverse": (partial(Inverse, transform=partial(step(net=mlp), mask=Parity)), VECTOR),
    "multiscale_flat": (partial(Multiscale, scheme=Scheme([[partial(Checkerboard), 2]]), step=step()), GREY),
    "multiscale_realnvp": (
        partial(Multiscale, levels=2, scheme=REALNVP, step=step(where="moved", after=[BatchNorm])),
        GREY,
    ),
    "multiscale_interlaced": (
        partial(Multiscale, levels=3, scheme=INTERLACED, step=step(), top=partial(Chain, parts=[Flatten, autoregressive()])),
        GREY,
    ),
    "multiscale_glow": (
        partial(
            Multiscale,
            levels=2,
            scheme=GLOW,
            step=step(before=[ActNorm, PLU]),
            release=coupling(partial(Affine, Exp())),
            top=partial(Elementwise, law=partial(Affine, Exp()), per="channel", conditional=True),
        ),
        Space((1, 4, 4), context={"label": (3,)}),
    ),
}
TRANSFORMS |= {f"autoregressive_{name}": (autoregressive(law), VECTOR) for name, law in LAWS.items()}
TRANSFORMS |= {
    "autoregressive_residual": (autoregressive(net=partial(made, residual=True)), VECTOR),
    "autoregressive_linear": (autoregressive(net=partial(made, depth=0)), VECTOR),
    "autoregressive_narrow": (autoregressive(net=partial(made, width=3, degrees="random")), VECTOR),
    "autoregressive_conditional": (autoregressive(order=Random), Space((5,), context={"label": (3,)})),
    "autoregressive_conditional_residual": (
        autoregressive(net=partial(made, residual=True)),
        Space((5,), context={"label": (3,)}),
    ),
    "autoregressive_spiral": (autoregressive(net=partial(made, width=40), order=Spiral), IMAGE),
    "autoregressive_graph": (autoregressive(order=partial(Dag, parents=[[3], [0], [], [2], [1, 2], []])), VECTOR),
    "autoregressive_weight_norm": (autoregressive(net=partial(made, weight_norm=True, planes=2)), VECTOR),
    "autoregressive_weight_norm_conditional": (
        autoregressive(net=partial(made, weight_norm=True, residual=True)),
        Space((5,), context={"label": (3,)}),
    ),
    "autoregressive_recurrent": (autoregressive(net=recurrent, order=Random), VECTOR),
    "autoregressive_recurrent_image": (autoregressive(net=recurrent, order=Spiral), Space((2, 2, 3), context={"label": (3,)})),
    "autoregressive_pixelcnn": (autoregressive(net=pixelcnn), IMAGE),
    "autoregressive_pixelcnn_conditional": (
        autoregressive(net=pixelcnn, order=Reversed),
        Space((2, 3, 4), context={"label": (3,), "low": (1, 3, 4)}),
    ),
    "autoregressive_masked_conv": (autoregressive(net=masked_conv, order=Interleaved), IMAGE),
    "autoregressive_masked_conv_conditional": (
        autoregressive(net=masked_conv, order=partial(Interleaved, backwards=True)),
        Space((2, 3, 4), context={"label": (3,), "low": (1, 3, 4)}),
    ),
    "autoregressive_transformer": (autoregressive(net=transformer, order=Spiral), Space((2, 2, 3), context={"label": (3,)})),
    "autoregressive_transformer_vector": (autoregressive(net=transformer, order=Random), VECTOR),
    "autoregressive_jacobi": (partial(autoregressive(net=transformer), inverse="jacobi"), IMAGE),
    "autoregressive_jacobi_made": (
        partial(autoregressive(order=Random), inverse="jacobi"),
        Space((5,), context={"label": (3,)}),
    ),
    "affine_centred": (autoregressive(partial(Affine, Exp(), centred=True)), VECTOR),
    "permute_positions": (partial(Permute, of="positions"), IMAGE),
    "autoregressive_inverse": (partial(Inverse, transform=autoregressive(order=Reversed)), VECTOR),
    "plu_bias": (partial(PLU, identity=True, bias=True), IMAGE),
}
TRANSFORMS |= {f"coupling_{name}": (partial(step(law, mlp), mask=partial(Parity)), VECTOR) for name, law in LAWS.items()}
TRANSFORMS |= {
    f"mask_{name}": (partial(step(net=mlp if space.is_vector else conv), mask=mask), space)
    for name, (mask, space) in MASKS.items()
}


def continuous(net=ConcatSquash, trace=Exact, **options):
    """Solved so tightly that the laws of the exact hold."""
    net = partial(net, width=8, depth=2)
    return partial(Continuous, net=net, trace=trace, solver=partial(Dopri5, 1e-10, 1e-10), **options)


TRANSFORMS |= {
    "continuous": (continuous(learn_end=True), SPATIAL),
    "continuous_by_autograd": (continuous(partial(Concat, activation=nn.GELU), end=0.5), SPATIAL),
    "continuous_conditional": (continuous(), Space((3,), context={"label": (3,)})),
    "continuous_chunked": (continuous(partial(Concat, activation=nn.Softplus), partial(Exact, chunk=2)), SPATIAL),
    "continuous_image": (continuous(ConcatConv), Space((2, 2, 3))),
}


def residual(net=Lipschitz, **options):
    """An exact log-det, and weights whose bound is at work."""
    return partial(Residual, net=partial(net, **options), trace=Exact)


TRANSFORMS |= {
    "residual": (residual(width=16, depth=2), VECTOR),
    "residual_conditional": (residual(width=16, depth=1, activation=CLipSwish), Space((3,), context={"label": (3,)})),
    "residual_image": (residual(width=8, depth=2, activation=nn.ELU), IMAGE),
    "residual_image_conditional": (residual(width=8, depth=1), Space((2, 3, 4), context={"label": (3,), "low": (1, 3, 4)})),
    "residual_flat": (partial(residual(width=8, flat=True), first=True), Space((2, 2, 3))),
    "residual_dense": (residual(LipschitzDenseNet, growth=6, depth=2, first_width=8), VECTOR),
    "residual_dense_image": (residual(LipschitzDenseNet, growth=6, depth=2), IMAGE),
    "scales": (
        partial(
            Scales,
            levels=2,
            steps=2,
            squeeze=Squeeze,
            start=[ActNorm],
            block=[residual(width=8), ActNorm],
            end=[Flatten, residual(width=8)],
        ),
        GREY,
    ),
    "scales_halves": (
        partial(Scales, steps=1, levels=2, block=[residual(width=8)], squeeze=Squeeze, at="start", halves=True),
        GREY,
    ),
}


def settled(module: nn.Module) -> nn.Module:
    """The module with its data-dependent parts where they are, as if they had seen data."""
    for part in module.modules():
        if isinstance(part, SetByData):
            part.settle()
    return module


def disturb(module: nn.Module, scale: float = 0.3) -> nn.Module:
    """Moves every parameter off its start by ``scale`` * N(0, 1) / sqrt(fan-in), so that nothing is zero by construction."""
    generator = torch.Generator().manual_seed(7)
    settled(module)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype)
            parameter.add_(scale * noise / fan_in**0.5)
        for name, buffer in module.named_buffers():
            if name.endswith("mean"):
                buffer.normal_(generator=generator)
            elif name.endswith("running_var") or name.rpartition(".")[2] == "scale":
                buffer.uniform_(0.5, 2.0, generator=generator)
    for part in module.modules():
        if isinstance(part, MaskedLinear):
            part.clean()
        if isinstance(part, Spectral) and not part.weight.is_meta:
            part.refresh()
    return module


def batch(space: Space, n: int = 5, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Seeded events of a space, inside its range if it has one."""
    generator = torch.Generator().manual_seed(3)
    if space.upper is not None:
        return torch.rand(n, *space.event, generator=generator, dtype=torch.float64).mul(space.upper).to(dtype)
    return torch.randn(n, *space.event, generator=generator, dtype=torch.float64).to(dtype)


def context_of(space: Space, n: int = 5, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor] | None:
    generator = torch.Generator().manual_seed(5)
    return {k: torch.randn(n, *v, generator=generator).to(dtype) for k, v in space.context.items()} or None
