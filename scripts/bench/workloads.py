"""Workloads: W1 to W10, ours first and then the peers, at equal shapes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench import loop, ours, peers
from bench.measure import Model
from bench.peers import Density, Elementwise
from laminar.flows.initialise import initialising
from laminar.flows.space import Space
from laminar.runs.compiled import compile_flow, stepwise


@dataclass(frozen=True)
class Setting:
    """How all models are run: where, networks in bfloat16 or not, compiled or not, and further words for ours."""

    device: str = "cpu"
    bf16: bool = False
    compile: bool = False
    words: Sequence[str] = ()
    peers: bool = True

    def cast(self) -> Any:
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.bf16 else nullcontext()


@dataclass(frozen=True)
class Workload:
    """What is timed, with its sizes as published here, and tiny ones for a test that it runs at all."""

    title: str
    models: Callable[..., Iterator[Model]]
    sizes: dict[str, int]
    tiny: dict[str, int]


def contestants(setting: Setting, entries: Sequence[tuple | None], enter: Callable[[str, Any, bool], Model]) -> Iterator[Model]:
    """What ``enter(name, made, peer)`` says of what each ``(name, recipe, *sizes)`` makes; those after a None are peers'.

    What is not installed is said so.
    """
    peer = False
    for entry in entries:
        if entry is None:
            if not setting.peers:
                return
            peer = True
            continue
        name, recipe, *sizes = entry
        torch.manual_seed(0)
        try:
            made = recipe(*sizes)
        except ModuleNotFoundError as error:
            yield Model(name, peer=peer, trouble=f"{error.name} is not installed: pip install laminar[bench]")
            continue
        yield enter(name, made, peer)


def contest(x: Tensor, asked: Sequence[str], setting: Setting, entries: Sequence[tuple | None]) -> Iterator[Model]:
    """Flows: what is asked of each."""
    return contestants(setting, entries, lambda name, density, peer: model(name, density, x, asked, setting, peer))


def model(name: str, density: Density, x: Tensor, asked: Sequence[str], setting: Setting, peer: bool) -> Model:
    """What can be asked of a flow: ``train`` (a step of fused Adam), ``log_prob``, ``sample`` (as many as x has rows)."""
    module = density.module.to(setting.device)
    x = x.to(setting.device)
    with initialising(), torch.no_grad():  # an actnorm of theirs, too, starts with its first batch
        density.log_prob(x)
    log_prob, sample = density.log_prob, density.sample
    if setting.compile:
        if peer:
            log_prob, sample = torch.compile(log_prob), sample and torch.compile(sample)
        else:
            compile_flow(module, torch.device(setting.device), back=not stepwise(module))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, fused=True)

    def train() -> None:
        optimizer.zero_grad()
        with setting.cast():
            loss = -log_prob(x).mean()
        loss.backward()
        if density.stepped is not None:
            density.stepped()
        optimizer.step()

    @torch.no_grad()
    def score() -> Tensor:
        with setting.cast():
            return log_prob(x)

    @torch.no_grad()
    def draw() -> None:
        with setting.cast():
            sample(len(x))

    able = {"train": train, "log_prob": score, "sample": draw}
    parameters = sum(parameter.numel() for parameter in module.parameters())
    operations = {name: able[name] for name in asked}
    return Model(name, operations, parameters, peer, ready=lambda operation: module.train(operation == "train"))


def laws(x: Tensor, params: Tensor, setting: Setting, entries: Sequence[tuple | None]) -> Iterator[Model]:
    """Laws alone: forward, forward and backward, inverse."""
    x, params = x.to(setting.device), params.to(setting.device)
    learning = [x.clone().requires_grad_(), params.clone().requires_grad_()]

    def law_of(name: str, law: Elementwise, peer: bool) -> Model:
        forward, inverse = map(torch.compile, law) if setting.compile else law

        def both() -> None:
            y, log_slope = forward(*learning)
            torch.autograd.grad(y.sum() + log_slope.sum(), learning)

        operations = {
            "forward + backward": both,
            "forward": partial(torch.no_grad()(forward), x, params),
            "inverse": partial(torch.no_grad()(inverse), x, params),
        }
        return Model(name, operations, peer=peer)

    return contestants(setting, entries, law_of)


def coupling(setting: Setting, batch: int, dims: int, layers: int, width: int) -> Iterator[Model]:
    words = ["flow=realnvp_flat", f"size.steps={layers}", f"size.width={width}", "size.depth=2", *setting.words]
    flow = partial(ours.flow, Space((dims,)), words)
    entries = [
        ("laminar", flow, {"step.before": []}),
        ("laminar, its page", flow),
        None,
        *(
            (name, getattr(peers, f"{name.lower()}_coupling"), dims, layers, width)
            for name in ("zuko", "nflows", "normflows", "FrEIA")
        ),
    ]
    yield from contest(torch.randn(batch, dims), ["train", "log_prob", "sample"], setting, entries)


def maf(setting: Setting, batch: int, dims: int, layers: int, width: int, asked: Sequence[str]) -> Iterator[Model]:
    words = ["flow=maf", f"size.steps={layers}", f"size.width={width}", "size.depth=2", *setting.words]
    flow = partial(ours.flow, Space((dims,)), words)
    entries = [
        ("laminar", flow, {"parts[3].parts": ["${layer}", "${mix}"]}),
        ("laminar, its page", flow),
        None,
        *((name, getattr(peers, f"{name}_maf"), dims, layers, width) for name in ("zuko", "nflows", "normflows")),
    ]
    yield from contest(torch.randn(batch, dims), asked, setting, entries)


def spline(setting: Setting, batch: int, dims: int, bins: int) -> Iterator[Model]:
    law, ours_ = ours.law("rational_quadratic", bins=bins)
    entries = [
        ("laminar", lambda: ours_),
        None,
        *((name, getattr(peers, f"{name}_spline"), bins, law.high) for name in ("zuko", "nflows", "normflows")),
    ]
    yield from laws(torch.randn(batch, dims), torch.randn(batch, 3 * bins - 1, dims), setting, entries)


def glow(setting: Setting, batch: int, side: int, levels: int, steps: int, width: int) -> Iterator[Model]:
    words = ["flow=glow", f"size.levels={levels}", f"size.steps={steps}", f"size.width={width}"]
    flow = partial(ours.flow, Space((3, side, side)))
    alike = ["multiscale=halves", "net=convnet_plain", "mix=conv1x1_plu"]
    shape = 3, side, levels, steps, width
    entries = [
        ("laminar", flow, [*words, *alike, *setting.words]),
        ("laminar, its page", flow, [*words, *setting.words]),
        None,
        *((name, getattr(peers, f"{name.lower()}_glow"), *shape) for name in ("nflows", "normflows", "FrEIA")),
    ]
    yield from contest(torch.rand(batch, 3, side, side), ["train", "log_prob", "sample"], setting, entries)


def realnvp(setting: Setting, batch: int, side: int, levels: int, blocks: int, width: int) -> Iterator[Model]:
    words = ["flow=realnvp", "net=resnet_32", f"size.levels={levels}", f"size.depth={blocks}", f"size.width={width}"]
    flow = partial(ours.flow, Space((3, side, side)))
    entries = [
        ("laminar", flow, [*words, *setting.words]),
        ("laminar, packed", flow, [*words, "mask=realnvp_packed", *setting.words]),
        None,
        ("normflows", peers.normflows_realnvp, 3, side, levels, blocks, width),
    ]
    yield from contest(torch.rand(batch, 3, side, side), ["train", "sample"], setting, entries)


def mixture(setting: Setting, batch: int, channels: int, side: int, components: int) -> Iterator[Model]:
    law, ours_ = ours.law("mixture_logistic", components=components)
    entries = [("laminar", lambda: ours_), None, ("as published", peers.plain_mixture, components)]
    x = torch.randn(batch, channels, side, side)
    params = torch.randn(batch, law.arity, channels, side, side)
    yield from laws(x, params, setting, entries)


def continuous(setting: Setting, batch: int, width: int) -> Iterator[Model]:
    words = ["flow=ffjord", "net=concat", f"size.width={width}", "size.depth=3", *setting.words]
    layers = []

    def flow() -> Density:
        density = ours.flow(Space((2,)), words, {"layer.learn_end": False})
        layers.extend(ours.moving(density.module))
        return density

    def zuko() -> Density:
        peer = peers.zuko_continuous(2, width, 1e-5)
        ours.same_field(layers, peer.module)
        return peer

    entries = [("laminar", flow), None, ("zuko", zuko)]
    yield from contest(torch.randn(batch, 2), ["log_prob", "train"], setting, entries)


def residual(setting: Setting, batch: int, layers: int, width: int) -> Iterator[Model]:
    activation = "net.activation._target_=laminar.flows.net.lipswish.LipSwish"
    words = ["flow=resflow_mlp", f"size.steps={layers}", f"size.width={width}", "size.depth=3", activation]
    flow = partial(ours.flow, Space((2,)))
    entries = [
        ("laminar", flow, [*words, "trace=roulette", *setting.words]),
        ("laminar, its page (exact)", flow, [*words, *setting.words]),
        None,
        ("normflows", peers.normflows_residual, 2, layers, width),
    ]
    yield from contest(torch.randn(batch, 2), ["train"], setting, entries)


WORKLOADS = {
    "W1": Workload(
        "affine couplings on 63 values, 8 layers of 2 x 256 units, 512 rows",
        coupling,
        {"batch": 512, "dims": 63, "layers": 8, "width": 256},
        {"batch": 4, "dims": 5, "layers": 2, "width": 8},
    ),
    "W2": Workload(
        "masked autoregressive flow on 63 values, 5 layers of 2 x 256 units, 512 rows",
        partial(maf, asked=["train", "log_prob"]),
        {"batch": 512, "dims": 63, "layers": 5, "width": 256},
        {"batch": 4, "dims": 5, "layers": 2, "width": 8},
    ),
    "W3": Workload(
        "256 samples of that flow",
        partial(maf, asked=["sample"]),
        {"batch": 256, "dims": 63, "layers": 5, "width": 256},
        {"batch": 4, "dims": 5, "layers": 2, "width": 8},
    ),
    "W3b": Workload(
        "256 samples of such a flow of 784 values and 2 x 1,024 units",
        partial(maf, asked=["sample"]),
        {"batch": 256, "dims": 784, "layers": 5, "width": 1024},
        {"batch": 4, "dims": 6, "layers": 2, "width": 8},
    ),
    "W4": Workload(
        "rational-quadratic spline alone, 512 x 63, 8 bins",
        spline,
        {"batch": 512, "dims": 63, "bins": 8},
        {"batch": 4, "dims": 5, "bins": 3},
    ),
    "W5": Workload(
        "Glow on 3x32x32, 3 levels of 8 steps, 128 channels, 16 images",
        glow,
        {"batch": 16, "side": 32, "levels": 3, "steps": 8, "width": 128},
        {"batch": 2, "side": 8, "levels": 2, "steps": 1, "width": 4},
    ),
    "W6": Workload(
        "RealNVP on 3x32x32, 2 levels, 4 blocks of 32 channels, 16 images",
        realnvp,
        {"batch": 16, "side": 32, "levels": 2, "blocks": 4, "width": 32},
        {"batch": 2, "side": 8, "levels": 2, "blocks": 1, "width": 4},
    ),
    "W7": Workload(
        "mixture of 32 logistics alone, 16x3x32x32",
        mixture,
        {"batch": 16, "channels": 3, "side": 32, "components": 32},
        {"batch": 2, "channels": 1, "side": 2, "components": 3},
    ),
    "W8": Workload(
        "continuous flow on 2 values, 3 x 64 units, dopri5 at 1e-5, exact trace, 512 rows",
        continuous,
        {"batch": 512, "width": 64},
        {"batch": 4, "width": 4},
    ),
    "W9": Workload(
        "residual flow on 2 values, 8 blocks of 3 x 128 units, 512 rows",
        residual,
        {"batch": 512, "layers": 8, "width": 128},
        {"batch": 4, "layers": 2, "width": 8},
    ),
    "W10": Workload(
        "laminar-train on 1x28x28 beside its bare steps",
        loop.models,
        {"steps": 300},
        {"steps": 12},
    ),
}
