"""Peers: what other libraries make of the same shapes, in their own words and their own defaults elsewhere."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Density(NamedTuple):
    """A flow of any library: its module, log p(x) of a batch, and n draws."""

    module: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Any] | None = None
    stepped: Callable[[], Any] | None = None  # after each optimizer step


class Elementwise(NamedTuple):
    """A law: y and log-slope of x and planes ``(B, arity, D)`` of parameters, and its inverse."""

    forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    inverse: Callable[[Tensor, Tensor], Tensor]


def mlp(before: int, after: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(before, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, after)),
    )


def of_zuko(flow: nn.Module) -> Density:
    return Density(flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,)))


def of_nflows(transform: nn.Module, shape: list[int]) -> Density:
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow

    flow = Flow(transform, StandardNormal(shape))
    return Density(flow, flow.log_prob, flow.sample)


def of_normflows(dims: int, flows: list[nn.Module]) -> Density:
    import normflows

    flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(dims, trainable=False), flows)
    return Density(flow, flow.log_prob, flow.sample)


def of_freia(net: nn.Module, shapes: list[tuple[int, ...]]) -> Density:
    def log_prob(x: Tensor) -> Tensor:
        z, log_det = net(x)
        parts = [z] if isinstance(z, Tensor) else z
        return log_det - sum(part.flatten(1).square().sum(1) for part in parts) / 2

    def sample(n: int) -> Tensor:
        device = next(net.parameters()).device
        parts = [torch.randn(n, *shape, device=device) for shape in shapes]
        return net(parts[0] if len(parts) == 1 else parts, rev=True)[0]

    return Density(net, log_prob, sample)


# -- W1: affine couplings ----------------------------------------------------------------------------------------------


def zuko_coupling(dims: int, layers: int, width: int) -> Density:
    from zuko.flows import RealNVP

    return of_zuko(RealNVP(dims, transforms=layers, hidden_features=(width, width)))


def nflows_coupling(dims: int, layers: int, width: int) -> Density:
    from nflows.nn.nets import MLP
    from nflows.transforms import AffineCouplingTransform, CompositeTransform
    from nflows.utils.torchutils import create_alternating_binary_mask

    class Net(MLP):  # their coupling hands a context on, and their MLP takes none
        def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
            return super().forward(inputs)

    def net(before: int, after: int) -> nn.Module:
        return Net([before], [after], [width, width])

    masks = [create_alternating_binary_mask(dims, even=bool(layer % 2)) for layer in range(layers)]
    return of_nflows(CompositeTransform([AffineCouplingTransform(mask, net) for mask in masks]), [dims])


def normflows_coupling(dims: int, layers: int, width: int) -> Density:
    from normflows.flows import AffineCouplingBlock, Permute
    from normflows.nets import MLP

    given, moved = dims - dims // 2, dims // 2
    flows = []
    for _ in range(layers):
        flows += [AffineCouplingBlock(MLP([given, width, width, 2 * moved])), Permute(dims, mode="swap")]
    return of_normflows(dims, flows)


def freia_coupling(dims: int, layers: int, width: int) -> Density:
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import GLOWCouplingBlock

    net = SequenceINN(dims)
    for _ in range(layers // 2):  # a block moves both halves
        net.append(GLOWCouplingBlock, subnet_constructor=lambda before, after: mlp(before, after, width))
    return of_freia(net, [(dims,)])


# -- W2, W3: masked autoregressive flows -------------------------------------------------------------------------------


def zuko_maf(dims: int, layers: int, width: int) -> Density:
    from zuko.flows import MAF

    return of_zuko(MAF(dims, transforms=layers, hidden_features=(width, width)))


def nflows_maf(dims: int, layers: int, width: int) -> Density:
    from nflows.transforms import CompositeTransform, MaskedAffineAutoregressiveTransform, ReversePermutation

    parts = []
    for _ in range(layers):
        made = MaskedAffineAutoregressiveTransform(dims, width, num_blocks=1, use_residual_blocks=False)
        parts += [made, ReversePermutation(dims)]
    return of_nflows(CompositeTransform(parts), [dims])


def normflows_maf(dims: int, layers: int, width: int) -> Density:
    from normflows.flows import MaskedAffineAutoregressive, Permute, Reverse

    flows = []
    for _ in range(layers):
        flows += [
            Permute(dims),
            Reverse(MaskedAffineAutoregressive(dims, width, num_blocks=1, use_residual_blocks=False)),
        ]
    return of_normflows(dims, flows)


# -- W4: rational-quadratic splines ------------------------------------------------------------------------------------


def spline_params(params: Tensor, bins: int) -> list[Tensor]:
    """As the peers read them: ``(B, D, K)``, contiguous, made outside the clock's reach only where a caller keeps them."""
    return [part.movedim(1, -1) for part in params.split([bins, bins, bins - 1], 1)]


def zuko_spline(bins: int, bound: float) -> Elementwise:
    from zuko.transforms import MonotonicRQSTransform

    def law(params: Tensor) -> Any:
        return MonotonicRQSTransform(*spline_params(params, bins), bound=bound)

    return Elementwise(lambda x, params: law(params).call_and_ladj(x), lambda y, params: law(params).inv(y))


def _splines(function: Callable, bins: int, bound: float) -> Elementwise:
    def law(x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        return function(x, *spline_params(params, bins), inverse=inverse, tails="linear", tail_bound=bound)

    return Elementwise(lambda x, params: law(x, params, False), lambda y, params: law(y, params, True)[0])


def nflows_spline(bins: int, bound: float) -> Elementwise:
    from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline

    return _splines(unconstrained_rational_quadratic_spline, bins, bound)


def normflows_spline(bins: int, bound: float) -> Elementwise:
    from normflows.utils.splines import unconstrained_rational_quadratic_spline

    return _splines(unconstrained_rational_quadratic_spline, bins, bound)


# -- W5: Glow ----------------------------------------------------------------------------------------------------------


def conv_net(before: int, after: int, width: int) -> nn.Sequential:
    last = nn.Conv2d(width, after, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        *(nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), last),
    )


def level_shapes(channels: int, side: int, levels: int) -> list[tuple[int, int, int]]:
    """Of what is let go at each level, and of what the last one leaves."""
    shapes = []
    for level in range(levels):
        channels, side = 4 * channels, side // 2
        if level < levels - 1:
            channels //= 2
        shapes.append((channels, side, side))
    return shapes


def nflows_glow(channels: int, side: int, levels: int, steps: int, width: int) -> Density:
    from nflows.transforms import (
        ActNorm,
        AffineCouplingTransform,
        CompositeTransform,
        MultiscaleCompositeTransform,
        OneByOneConvolution,
        SqueezeTransform,
    )

    class Net(nn.Module):
        def __init__(self, before: int, after: int):
            super().__init__()
            self.net = conv_net(before, after, width)

        def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return self.net(x)

    multiscale, here = MultiscaleCompositeTransform(levels), channels
    for level in range(levels):
        here, side = 4 * here, side // 2
        parts = [SqueezeTransform()]
        for _ in range(steps):
            mask = torch.arange(here) >= here // 2
            parts += [ActNorm(here), OneByOneConvolution(here), AffineCouplingTransform(mask, Net)]
        multiscale.add_transform(CompositeTransform(parts), (here, side, side))
        here //= 2 if level < levels - 1 else 1
    return of_nflows(multiscale, [channels * (2**levels * side) ** 2])


def normflows_glow(channels: int, side: int, levels: int, steps: int, width: int) -> Density:
    import normflows
    from normflows.flows import GlowBlock, Merge, Squeeze

    shapes = level_shapes(channels, side, levels)[::-1]  # theirs run from the noise
    flows = []
    for level in range(levels):
        here = shapes[level][0] * (2 if level else 1)
        flows.append([*(GlowBlock(here, width) for _ in range(steps)), Squeeze()])
    noise = [normflows.distributions.DiagGaussian(shape, trainable=False) for shape in shapes]
    flow = normflows.MultiscaleFlow(noise, flows, [Merge() for _ in shapes[1:]], class_cond=False)
    return Density(flow, lambda x: flow.log_prob(x, None), flow.sample)


def freia_glow(channels: int, side: int, levels: int, steps: int, width: int) -> Density:
    """Its 1x1 convolutions are fixed rotations, so this is less than a whole Glow."""
    from FrEIA.framework import GraphINN, InputNode, Node, OutputNode
    from FrEIA.modules import AllInOneBlock, IRevNetDownsampling, Split

    nodes, ends = [InputNode(channels, side, side)], []
    for level in range(levels):
        nodes.append(Node(nodes[-1], IRevNetDownsampling, {}))
        for _ in range(steps):
            block = {"subnet_constructor": lambda a, b: conv_net(a, b, width), "permute_soft": True}
            nodes.append(Node(nodes[-1], AllInOneBlock, block))
        if level < levels - 1:
            split = Node(nodes[-1], Split, {})
            nodes.append(split)
            ends.append(OutputNode(split.out1))
            nodes[-1:] = [split, Node(split.out0, _same(), {})]
    ends.append(OutputNode(nodes[-1]))
    net = GraphINN([*nodes, *ends])
    return of_freia(net, level_shapes(channels, side, levels))


def _same() -> type:
    """A part that does nothing: their graphs go on from a node, not from one of its outputs."""
    from FrEIA.modules import InvertibleModule

    class Same(InvertibleModule):
        def forward(self, x: Any, rev: bool = False, jac: bool = True) -> tuple[Any, float]:
            return x, 0.0

        def output_dims(self, input_dims: Any) -> Any:
            return input_dims

    return Same


# -- W6: RealNVP -------------------------------------------------------------------------------------------------------


def normflows_realnvp(channels: int, side: int, levels: int, blocks: int, width: int) -> Density:
    """Checkerboards by masks, a net each for scale and shift (width over sqrt 2: as many parameters); channels by halves."""
    import normflows
    from normflows.flows import AffineCouplingBlock, MaskedAffineFlow, Merge, Permute, Squeeze
    from normflows.nets import ConvResidualNet

    def net(before: int, after: int, width: int) -> nn.Module:
        return ConvResidualNet(before, after, width, num_blocks=blocks, use_batch_norm=True)

    def checkerboards(channels: int, side: int, width: int, count: int) -> list[nn.Module]:
        flows, less = [], round(width / 2**0.5)
        for number in range(count):
            mask = (torch.arange(side)[:, None] + torch.arange(side) + number) % 2
            s = nn.Sequential(net(channels, channels, less), nn.Tanh())
            flows.append(MaskedAffineFlow(mask.expand(channels, -1, -1).float(), net(channels, channels, less), s))
        return flows

    shapes, flows, width = level_shapes(channels, side, levels), [], round(1.05 * width)
    shapes[-1] = (shapes[-2][0], *shapes[-2][1:]) if levels > 1 else (channels, side, side)
    for level in range(levels):
        if level == levels - 1:
            flows.append(checkerboards(channels, side, width, 4))
            break
        halves = []
        for _ in range(3):
            coupling = AffineCouplingBlock(net(2 * channels, 4 * channels, 2 * width), scale_map="sigmoid")
            halves += [coupling, Permute(4 * channels, mode="swap")]
        flows.append([*halves, Squeeze(), *checkerboards(channels, side, width, 3)])
        channels, side, width = 2 * channels, side // 2, 2 * width
    noise = [normflows.distributions.DiagGaussian(shape, trainable=False) for shape in shapes[::-1]]
    flow = normflows.MultiscaleFlow(noise, flows[::-1], [Merge() for _ in shapes[1:]], class_cond=False)
    return Density(flow, lambda x: flow.log_prob(x, None), flow.sample)


# -- W7: mixtures of logistics -----------------------------------------------------------------------------------------


def plain_mixture(components: int) -> Elementwise:
    """No peer has the law. This is what published code does: three logsumexps, and an inverse by bisection."""
    from torch.nn.functional import logsigmoid

    def parts(params: Tensor) -> tuple[Tensor, ...]:
        a, b = params[:, 0].tanh(), params[:, 1]
        logits, mean, log_scale = params[:, 2:].chunk(3, 1)
        return a, b, logits.log_softmax(1), mean, log_scale.clamp(min=-7)

    def logit_cdf(x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        z = (x.unsqueeze(1) - mean) * torch.exp(-log_scale)
        log_cdf = (log_weight + logsigmoid(z)).logsumexp(1)
        log_survival = (log_weight + logsigmoid(-z)).logsumexp(1)
        log_density = (log_weight + z - log_scale - 2 * nn.functional.softplus(z)).logsumexp(1)
        return log_cdf - log_survival, log_density - log_cdf - log_survival

    def forward(x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        a, b, *mixture = parts(params)
        q, log_slope = logit_cdf(x, *mixture)
        return q * a.exp() + b, log_slope + a

    def inverse(y: Tensor, params: Tensor) -> Tensor:
        a, b, *mixture = parts(params)
        q, (_, mean, log_scale) = (y - b) * torch.exp(-a), mixture
        wide = 20 * log_scale.exp().sum(1)
        low, high = mean.amin(1) - wide, mean.amax(1) + wide
        for _ in range(50):
            middle = (low + high) / 2
            above = logit_cdf(middle, *mixture)[0] > q
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2

    return Elementwise(forward, inverse)


# -- W8, W9: continuous and residual flows -----------------------------------------------------------------------------


def zuko_continuous(dims: int, width: int, tolerance: float) -> Density:
    """Its time enters as a cosine and a sine. See ``ours.same_field`` for what its weights are."""
    from zuko.flows import CNF

    options = {"freqs": 1, "hidden_features": (width,) * 3, "activation": nn.Tanh}
    return of_zuko(CNF(dims, atol=tolerance, rtol=tolerance, **options))


def normflows_residual(dims: int, layers: int, width: int) -> Density:
    from normflows.flows import ActNorm, Residual
    from normflows.nets import LipschitzMLP
    from normflows.utils import update_lipschitz

    flows = []
    for _ in range(layers):
        net = LipschitzMLP([dims, *[width] * 3, dims], lipschitz_const=0.98, max_lipschitz_iter=5)
        flows += [Residual(net, reverse=True, n_dist="poisson"), ActNorm((dims,))]
    density = of_normflows(dims, flows)
    return density._replace(stepped=lambda: update_lipschitz(density.module, 5))
