"""Evaluation: the likelihood of a split, with its standard error, its grade and the samples behind it."""

import json
import sys
from collections.abc import Callable
from math import log
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from laminar.data.source import Split
from laminar.flows import noise
from laminar.flows.draw import classes_of, of_class
from laminar.flows.flow import Flow
from laminar.flows.numerics import UNITS, score
from laminar.flows.space import rows_of
from laminar.refused import Refused
from laminar.runs.open import open_data, open_run, split_of
from laminar.training.metric import MeanScore
from laminar.training.module import STAGES


def start(config: DictConfig) -> float:
    """Evaluates, prints a table, and writes ``<run>/evaluations/<split>-K<samples>.json``. Gives the score."""
    if config.num_samples < 1:
        raise Refused(f"num_samples={config.num_samples} is no number of draws: take 1 or more (64 is a good start)")
    if config.accuracy_samples < 0:
        raise Refused(f"accuracy_samples={config.accuracy_samples} is negative: take 0 to leave the accuracy out")
    flow, trained, folder = open_run(config.run, config.device, config.allow)
    data = open_data(trained, config.data, config.allow)
    if data.source.empty:
        raise Refused(f"{config.run} was trained on no data, so there is nothing to score: its metrics.json has its numbers")
    split = split_of(data, config.split)
    size = config.batch_size or data.source.eval_batch_size or data.source.batch_size
    keys = noise.mix(trained["seed"], STAGES[config.split], 0, range(len(split)))
    began = monotonic()
    numbers = evaluate(flow, split, keys, size, config.num_samples, data.source.log_prob)
    if (classes := classes_of(flow)) and config.accuracy_samples:
        counts = torch.bincount(data.splits.train.labels, minlength=classes)
        numbers |= accuracy(flow, split, keys, size, counts, config.accuracy_samples)
    numbers = {"split": config.split, "rows": len(split), **numbers, "seconds": round(monotonic() - began, 1)}
    path = folder / "evaluations" / f"{config.split}-K{numbers['num_samples']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"run": str(config.run), **numbers}, indent=2) + "\n")
    show(numbers, path)
    return numbers[flow.unit]


@torch.no_grad()
def evaluate(
    flow: Flow, split: Split, keys: Any, size: int, num_samples: int, known: Callable[[Tensor], Tensor] | None = None
) -> dict[str, Any]:
    """Mean score of a split in bits/dim (``bpd``, integers) or nats (``nll``, reals; or what else ``flow.unit`` calls them).

    For a stochastic flow it is the importance-weighted bound of K samples, and beside it the mean bound of one. ``keys``
    ``(N,)`` are the examples' noise keys: numbers depend on neither ``size`` nor device order. Beside the ``known`` log-density
    of the data stands the paired ``excess`` over it, in nats.
    """
    unit, own = flow.unit, flow.unit == flow.space.unit
    num_samples = num_samples if flow.stochastic or flow.noisy else 1
    tight, single, excess = MeanScore(), MeanScore(), MeanScore()
    for rows in _batches(len(split), size, f"{num_samples} samples of each example"):
        x, context = split.values[rows].to(flow.device), rows_of(split.context, rows, flow.device)
        with noise.source(keys[rows]):
            one = num_samples == 1  # drawn as validation and test draw
            log_weights = flow.log_prob(x, context)[None] if one else flow.log_weights(x, context, num_samples)
        log_weights = log_weights.double().cpu()
        log_prob = log_weights.logsumexp(0) - log(num_samples)
        tight.update(score(log_prob, unit, flow.space.size))
        if known is not None and own:
            excess.update(known(split.values[rows]) - log_prob)
        single.update(score(log_weights.mean(0), unit, flow.space.size))
    numbers = {"grade": flow.grade, "num_samples": num_samples}
    numbers[unit], numbers[f"{unit}_se"] = (value.item() for value in tight.compute())
    if known is not None and own:
        numbers["excess"], numbers["excess_se"] = (value.item() for value in excess.compute())
    if num_samples > 1:
        numbers[f"{unit}_K1"], numbers[f"{unit}_K1_se"] = (value.item() for value in single.compute())
    return numbers


@torch.no_grad()
def accuracy(flow: Flow, split: Split, keys: Any, size: int, counts: Tensor, num_samples: int) -> dict[str, float]:
    """How often argmax_y p(x | y) p(y) is the label, p(y) being the training split's frequencies ``counts / sum``."""
    log_prior = (counts / counts.sum()).log().double()
    right = MeanScore()
    for rows in _batches(len(split), size, f"p(x | y) of {len(counts)} classes"):
        x, labels = split.values[rows].to(flow.device), split.labels[rows]
        joint = []
        for label in range(len(counts)):
            context = rows_of({**split.context, **of_class(label, len(split))}, rows, flow.device)
            with noise.source(keys[rows]):
                joint.append(flow.log_prob(x, context, num_samples).double().cpu() + log_prior[label])
        right.update(torch.stack(joint).argmax(0) == labels)
    mean, standard_error = right.compute()
    return {"accuracy": mean.item(), "accuracy_se": standard_error.item()}


def show(numbers: dict[str, Any], path: Path) -> None:
    """Prints the numbers and where they lie."""
    table = Table(show_header=False, title=str(path), title_justify="left")
    table.add_row("split", f"{numbers['split']}, {numbers['rows']:,} examples")
    for unit, name in UNITS.items():
        if unit in numbers:
            exact = numbers["grade"] == "exact"
            behind = "exact" if exact else f"{numbers['grade']}, K = {numbers['num_samples']}"
            table.add_row(name, f"{numbers[unit]:.4f} ± {numbers[unit + '_se']:.4f}  {behind}")
        if f"{unit}_K1" in numbers:
            single = f"{numbers[unit + '_K1']:.4f} ± {numbers[unit + '_K1_se']:.4f}"
            table.add_row("", f"{single}  {numbers['grade']}, K = 1, mean of {numbers['num_samples']}")
    if "excess" in numbers:
        table.add_row("excess", f"{numbers['excess']:.4f} ± {numbers['excess_se']:.4f}  nats over the density's own, same rows")
    if "accuracy" in numbers:
        table.add_row("accuracy of p(y | x)", f"{numbers['accuracy']:.2%} ± {numbers['accuracy_se']:.2%}")
    table.add_row("time", f"{numbers['seconds']:,.1f} s")
    Console().print(table)


def _batches(count: int, size: int, what: str) -> Any:
    """Slices of ``size`` rows, with a progress bar where somebody watches."""
    slices = [slice(first, min(first + size, count)) for first in range(0, count, size)]
    return track(slices, what, disable=not sys.stdout.isatty(), transient=True)
