"""Scoring: a trained flow on the rows of a split, whatever the batch size: alone, against another flow, by a finer solver."""

import sys
from collections.abc import Callable, Iterator, Sequence
from math import log
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from laminar.data.source import Split
from laminar.flows import noise
from laminar.flows.draw import of_class
from laminar.flows.flow import Flow
from laminar.flows.numerics import score
from laminar.flows.solver.finer import finer
from laminar.flows.solver.march import Unsolved
from laminar.flows.space import rows_of
from laminar.training.metric import MeanScore
from laminar.training.scores import Scores


def log_weights(flow: Flow, split: Split, rows: slice, keys: np.ndarray, num_samples: int = 1, repeats: int = 1) -> Tensor:
    """The logarithms of K importance weights of some rows, ``(K, B)`` on the CPU; of a noisy flow R estimates, ``(R, B)``.

    ``keys`` ``(N,)`` are the noise keys of all examples of the split; one sample is drawn as validation and test draw it.
    """
    x, context = split.values[rows].to(flow.device), rows_of(split.context, rows, flow.device)
    with noise.source(keys[rows]):
        one = num_samples == 1  # more of a noisy flow are refused
        return (flow.estimates(x, context, repeats) if one else flow.log_weights(x, context, num_samples)).double().cpu()


@torch.no_grad()
def evaluate(
    flow: Flow,
    split: Split,
    keys: np.ndarray,
    size: int,
    num_samples: int,
    known: Callable[[Tensor], Tensor] | None = None,
    repeats: int = 1,
) -> dict[str, Any]:
    """Mean score of a split in bits/dim (``bpd``, integers) or nats (``nll``, reals; or what else ``flow.units`` calls them).

    For a stochastic flow it is the importance-weighted bound of K samples, and beside it the mean bound of one; for a noisy one
    the mean of ``repeats`` estimates, and beside it the error of the estimator alone. Beside the ``known`` log-density of the
    data stands the paired ``excess`` over it, in nats. Numbers depend on neither ``size`` nor device order.
    """
    num_samples = num_samples if flow.stochastic or flow.noisy else 1
    groups = groups_of(split)
    scores = Scores(flow.units, flow.space.size, groups)
    for rows in batches(len(split), size, f"{num_samples} samples of each example"):
        group = split.group[rows] if groups else None
        log_prob = scores.enter(log_weights(flow, split, rows, keys, num_samples, repeats), flow.noisy, group)
        if known is not None and flow.unit == flow.space.unit:
            scores.update("excess", known(split.values[rows]) - log_prob, group)
    numbers = {"grade": flow.grade, "num_samples": num_samples, **({"repeats": repeats} if flow.noisy else {})}
    return numbers | {name: value.item() for name, value in scores.numbers().items()}


@torch.no_grad()
def paired(
    flow: Flow, other: Flow, split: Split, keys: np.ndarray, size: int, draws: Sequence[tuple[int, int]]
) -> dict[str, float]:
    """Mean over rows of this flow's score less the other's (below 0: this one is better), and its standard error.

    What makes a row easy or hard for both cancels, so that the error is far below that of either score. ``draws`` are the
    samples and the repeats of each.
    """
    groups = groups_of(split)
    difference = MeanScore(groups)
    for rows in batches(len(split), size, "the same rows by the other run"):
        scores = []
        for each, (num_samples, repeats) in zip((flow, other), draws, strict=True):
            drawn = log_weights(each, split, rows, keys, num_samples, repeats)
            log_prob = drawn.mean(0) if each.noisy else drawn.logsumexp(0) - log(len(drawn))
            scores.append(score(log_prob, each.unit, each.space.size))
        difference.update(scores[0] - scores[1], split.group[rows] if groups else None)
    mean, standard_error = difference.compute()
    return {"difference": mean.item(), "difference_se": standard_error.item()}


@torch.no_grad()
def resolved(flow: Flow, split: Split, keys: np.ndarray, size: int, count: int) -> dict[str, Any]:
    """What a score moves by, row by row, where the flow's solvers are finer: on ``count`` rows, spread over a split.

    All that is drawn stays as it is. ``moved`` is the mean of finer minus usual, in the score's unit, ``moved_se`` its standard
    error, ``moved_most`` the largest move of a row; all three None where the finer equation could not be solved.
    """
    moved, most = MeanScore(), 0.0
    index = torch.linspace(0, len(split) - 1, min(count, len(split))).round().long()
    split, keys = split.pick(index), keys[index.numpy()]
    for rows in batches(len(split), size, "a finer solve"):
        usual = log_weights(flow, split, rows, keys)[0]
        try:
            with finer(flow):
                fine = log_weights(flow, split, rows, keys)[0]
        except Unsolved:
            return {"rows": len(index), "moved": None, "moved_se": None, "moved_most": None}
        change = score(fine - usual, flow.unit, flow.space.size)
        moved.update(change)
        most = max(most, change.abs().max().item())
    mean, error = (value.item() for value in moved.compute())
    return {"rows": len(index), "moved": mean, "moved_se": error, "moved_most": most}


@torch.no_grad()
def accuracy(flow: Flow, split: Split, keys: np.ndarray, size: int, counts: Tensor, num_samples: int) -> dict[str, float]:
    """How often argmax_y p(x | y) p(y) is the label, p(y) being the training split's frequencies ``counts / sum``."""
    log_prior = (counts / counts.sum()).log().double()
    right = MeanScore()
    for rows in batches(len(split), size, f"p(x | y) of {len(counts)} classes"):
        x, labels = split.values[rows].to(flow.device), split.labels[rows]
        joint = []
        for label in range(len(counts)):
            context = rows_of({**split.context, **of_class(label, len(split))}, rows, flow.device)
            with noise.source(keys[rows]):
                joint.append(flow.log_prob(x, context, num_samples).double().cpu() + log_prior[label])
        right.update(torch.stack(joint).argmax(0) == labels)
    mean, standard_error = right.compute()
    return {"accuracy": mean.item(), "accuracy_se": standard_error.item()}


def groups_of(split: Split) -> int:
    """An upper bound of the numbers of a split's groups; 0 where its rows are independent."""
    return 0 if split.group is None else 1 + int(split.group.max())


def batches(count: int, size: int, what: str) -> Iterator[slice]:
    """Slices of ``size`` rows, with a progress bar where somebody watches."""
    slices = [slice(first, min(first + size, count)) for first in range(0, count, size)]
    return track(slices, what, disable=not sys.stdout.isatty(), transient=True)
