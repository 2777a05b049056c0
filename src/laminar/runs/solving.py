"""Solving: how much of a number is the solver's error."""

from typing import Any

import torch

from laminar.data.source import Split
from laminar.flows import noise
from laminar.flows.flow import Flow
from laminar.flows.numerics import score
from laminar.flows.solver.finer import finer
from laminar.flows.solver.march import Unsolved
from laminar.flows.space import rows_of
from laminar.training.metric import MeanScore

LARGEST = 0.01  # bits/dim or nats that a finer solve may move a score by without a warning


@torch.no_grad()
def resolved(flow: Flow, split: Split, keys: Any, size: int, count: int) -> dict[str, Any]:
    """What a score moves by, row by row, where the flow's solvers are finer: on ``count`` rows, spread over a split.

    All that is drawn stays as it is. ``moved`` is the mean of finer minus usual, in the score's unit, ``moved_se`` its standard
    error, ``moved_most`` the largest move of a row; all three None where the finer equation could not be solved.
    """
    moved, most = MeanScore(), 0.0
    index = torch.linspace(0, len(split) - 1, min(count, len(split))).round().long()
    for rows in index.split(size):
        x, context = split.values[rows].to(flow.device), rows_of(split.context, rows, flow.device)
        scores = []
        for fine in (False, True):
            with noise.source(keys[rows.numpy()]):
                try:
                    scores.append(_score(flow, x, context, fine))
                except Unsolved:
                    return {"rows": len(index), "moved": None, "moved_se": None, "moved_most": None}
        change = scores[1] - scores[0]
        moved.update(change)
        most = max(most, change.abs().max().item())
    mean, error = (value.item() for value in moved.compute())
    return {"rows": len(index), "moved": mean, "moved_se": error, "moved_most": most}


def _score(flow: Flow, x: torch.Tensor, context: Any, fine: bool) -> torch.Tensor:
    if fine:
        with finer(flow):
            return _score(flow, x, context, False)
    return score(flow.log_prob(x, context).double().cpu(), flow.unit, flow.space.size)


def warning(found: dict[str, Any], unit: str) -> str | None:
    """One sentence where a solver is not fine enough for a score to be trusted."""
    if found["moved"] is None:
        return (
            "a finer solve did not arrive, so the solver's error is unknown: allow more solver.max_steps, or keep to "
            "tolerances that the numbers' precision carries"
        )
    if abs(found["moved"]) > LARGEST:
        return (
            f"a finer solve moves the score by {found['moved']:+.4f} {unit}, more than {LARGEST}: the number is the solver's "
            "as much as the flow's, so lower solver.rtol and solver.atol (or raise solver.steps)"
        )
    return None
