"""Pages: any flow of laminar-train, on its data, eager and compiled; an autoregressive one by its several ways back."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from bench.measure import Model
from bench.workloads import Setting
from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.data.datamodule import FlowDataModule
from laminar.flows.compose.inverse import Inverse
from laminar.flows.flow import Flow
from laminar.flows.initialise import initialising
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.memory import remember
from laminar.flows.naive import naive
from laminar.flows.space import rows_of
from laminar.runs.compiled import compile_flow, stepwise


def models(setting: Setting, words: Sequence[str]) -> Iterator[Model]:
    """Scores, trains and samples one batch. Of an autoregressive flow the slow direction (samples; of an IAF, densities) is
    taken step after step, all steps at once (untrained nets need few rounds: of trained ones tells scripts/decoding.py), and
    by a whole pass of the nets for each step."""
    config = compose("train", list(words))
    data = FlowDataModule(build(config.data, "data"), seed=0)
    x, context, *_ = data.first_batch()
    x, context = x.to(setting.device), rows_of(context, slice(None), setting.device)
    for kind in ("eager", "compiled") if setting.compile else ("eager",):
        torch.manual_seed(0)
        flow = build(config.flow, "flow")(data.space).to(setting.device)
        with initialising():
            flow.log_prob(x, context)
        remember(flow, config.memory)
        if kind == "compiled":
            compile_flow(flow, torch.device(setting.device), back=not stepwise(flow))
        optimizer = build(config.optimizer, "optimizer")(flow.parameters())

        @torch.no_grad()
        def scored(flow: Flow = flow) -> None:
            with setting.cast():
                flow.log_prob(x, context)

        @torch.no_grad()
        def sampled(flow: Flow = flow) -> None:
            with setting.cast():
                flow.sample(len(x), context)

        def trained(flow: Flow = flow, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            with setting.cast():
                loss = -flow.log_prob(x, context).mean()
            loss.backward()
            optimizer.step()

        able = {"log_prob": scored, "train": trained, "sample": sampled}
        yield Model(kind, able, sum(parameter.numel() for parameter in flow.parameters()))
        if kind == "eager" and any(isinstance(module, Autoregressive) for module in flow.modules()):
            slow = "log_prob" if any(isinstance(module, Inverse) for module in flow.modules()) else "sample"
            for name, way in (("all steps at once", at_once), ("a pass for each step", naively)):
                yield Model(name, {slow: partial(way, flow, able[slow])})


def naively(flow: Flow, operation: Callable[[], None]) -> None:
    with naive(flow):
        operation()


def at_once(flow: Flow, operation: Callable[[], None]) -> None:
    before = [part.decoding for part in flow.modules() if isinstance(part, Autoregressive)]
    flow.decode_by("jacobi")
    try:
        operation()
    finally:
        flow.decode_by(before[0])
