"""How long a flow's operations take: python scripts/benchmark.py flow=glow data=cifar10 [rounds=9] [compiled=false]

Takes the overrides of laminar-train, those of several flows with -- between them. Scores, trains and samples one batch, eager
and compiled, by turns within one process, so that the ratios between the rows mean something on a machine that drifts. An
autoregressive flow takes its slow direction (samples; of an IAF, densities) step after step (its way, or by layer.inverse),
all steps at once (untrained nets need few rounds; of a trained one tells scripts/decoding.py), and, in every third round, by a
whole pass of the nets for each step.
"""

import sys
from itertools import groupby
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.data.datamodule import FlowDataModule
from laminar.flows.compose.inverse import Inverse
from laminar.flows.initialise import initialising
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.naive import naive
from laminar.flows.space import rows_of

JACOBI, NAIVE = "all steps at once", "a pass for each step"


def main(overrides: list[str], rounds: int, kinds: tuple[str, ...]) -> None:
    config = compose("train", overrides)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = FlowDataModule(build(config.data, "data"), seed=0)
    x, context, *_ = data.first_batch()
    x, context = x.to(device), rows_of(context, slice(None), device)
    operations = {}
    for kind in kinds:
        torch.manual_seed(0)
        flow = build(config.flow, "flow")(data.space).to(device)
        with initialising():
            flow.log_prob(x, context)
        if kind == "compiled":
            flow.transform.compile()
        optimizer = build(config.optimizer, "optimizer")(flow.parameters())
        operations |= {
            (kind, "log_prob"): lambda flow=flow: scored(flow, x, context),
            (kind, "train"): lambda flow=flow, optimizer=optimizer: trained(flow, optimizer, x, context),
            (kind, "sample"): lambda flow=flow: sampled(flow, len(x), context),
        }
        if kind == "eager" and any(isinstance(module, Autoregressive) for module in flow.modules()):
            slow = "log_prob" if any(isinstance(module, Inverse) for module in flow.modules()) else "sample"
            operation = operations[kind, slow]
            operations[kind, JACOBI] = lambda flow=flow, operation=operation: at_once(flow, operation)
            operations[kind, NAIVE] = lambda flow=flow, operation=operation: naively(flow, operation)
    times = {key: [] for key in operations}
    for turn in track(range(rounds + 2), "rounds", transient=True):
        for key, operation in operations.items():
            if key[1] == NAIVE and turn % 3 != 2:
                continue
            began = perf_counter()
            operation()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:  # the first rounds compile and warm up
                times[key].append(1000 * (perf_counter() - began))
    table = Table(
        *("operation", "eager, ms", "compiled, ms", "ratio"),
        title=f"{len(x)} examples {tuple(x.shape[1:])} on {device}, {torch.get_num_threads()} threads: {' '.join(overrides)}",
    )
    for name in ("log_prob", "train", "sample"):
        eager, compiled = (median(times[kind, name]) if kind in kinds else None for kind in ("eager", "compiled"))
        table.add_row(name, f"{eager:.1f}", *([f"{compiled:.1f}", f"{eager / compiled:.2f}"] if compiled else []))
    for name in (JACOBI, NAIVE):
        if ("eager", name) in times:
            other = median(times["eager", name])
            table.add_row(f"{slow}, {name}", f"{other:.1f}", "", f"{other / median(times['eager', slow]):.2f} x {slow}")
    Console().print(table)


@torch.no_grad()
def scored(flow, x, context):
    return flow.log_prob(x, context)


@torch.no_grad()
def sampled(flow, n, context):
    return flow.sample(n, context)


def naively(flow, operation):
    """The same by a whole pass of the net for every step."""
    with naive(flow):
        operation()


def at_once(flow, operation):
    """The same by all steps at once until nothing changes."""
    before = [part.decoding for part in flow.modules() if isinstance(part, Autoregressive)]
    flow.decode_by("jacobi")
    try:
        operation()
    finally:
        flow.decode_by(before[0])


def trained(flow, optimizer, x, context):
    optimizer.zero_grad()
    (-flow.log_prob(x, context).mean()).backward()
    optimizer.step()


if __name__ == "__main__":
    words, own = [], {"rounds": "9", "compiled": "true"}
    for word in sys.argv[1:]:
        name, _, value = word.partition("=")
        if name in own:
            own[name] = value
        else:
            words.append(word)
    for separator, flow_words in groupby(words, "--".__eq__):
        if not separator:
            main([*flow_words], int(own["rounds"]), ("eager", "compiled") if own["compiled"] == "true" else ("eager",))
