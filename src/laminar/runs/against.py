"""Against: two trained flows on the same rows, compared row by row, or group by group."""

from math import log
from typing import Any

import torch
from torch import Tensor

from laminar.data.source import Split
from laminar.flows import noise
from laminar.flows.flow import Flow
from laminar.flows.numerics import score
from laminar.flows.space import rows_of
from laminar.refused import Refused
from laminar.training.metric import MeanScore

# Options that leave the test rows as they are
SERVING = {"batch_size", "eval_batch_size", "root", "cache", "flip", "shift", "parents"}


def check(ours: dict[str, Any], theirs: dict[str, Any], flow: Flow, other: Flow, name: str, split: str) -> None:
    """Refuses a comparison of runs whose rows of that split are others, or whose numbers are of other kinds."""
    mine, their = ({key: value for key, value in run["data"].items() if key not in SERVING} for run in (ours, theirs))
    if split == "test":
        mine, their = ({**options, "validation": None} for options in (mine, their))
    apart = sorted(key for key in mine.keys() | their.keys() if mine.get(key) != their.get(key))
    if split != "test" and ours["seed"] != theirs["seed"]:
        apart.append("seed")
    if apart:
        raise Refused(f"against={name} has other rows (its data differ in {', '.join(apart)}): compare runs of the same data")
    if flow.unit != other.unit:
        raise Refused(f"against={name} tells {other.unit}, and this run {flow.unit}: compare runs of one unit")


@torch.no_grad()
def paired(flow: Flow, other: Flow, split: Split, keys: Any, size: int, num_samples: int) -> dict[str, float]:
    """Mean over rows of this flow's score less the other's (below 0: this one is better), and its standard error.

    What makes a row easy or hard for both cancels, so that the error is far below that of either score.
    """
    groups = 0 if split.group is None else 1 + int(split.group.max())
    difference = MeanScore(groups)
    for first in range(0, len(split), size):
        rows = slice(first, min(first + size, len(split)))
        scores = [_scores(each, split, rows, keys[rows], num_samples) for each in (flow, other)]
        difference.update(scores[0] - scores[1], split.group[rows] if groups else None)
    mean, standard_error = difference.compute()
    return {"difference": mean.item(), "difference_se": standard_error.item()}


def _scores(flow: Flow, split: Split, rows: slice, keys: Any, num_samples: int) -> Tensor:
    x, context = split.values[rows].to(flow.device), rows_of(split.context, rows, flow.device)
    count = num_samples if flow.stochastic and not flow.noisy else 1
    with noise.source(keys):
        log_weights = flow.log_prob(x, context)[None] if count == 1 else flow.log_weights(x, context, count)
    log_prob = log_weights.double().cpu().logsumexp(0) - log(count)
    return score(log_prob, flow.unit, flow.space.size)
