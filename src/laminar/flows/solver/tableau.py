"""Tableau: a Runge-Kutta method as numbers (Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, chapter II)."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from laminar.flows.numerics import full_precision


@dataclass(frozen=True)
class Tableau:
    """k_i = f(t + nodes_i h, y + h sum_j stages_ij k_j);  y(t + h) = y + h sum_i weights_i k_i.

    Attributes:
        error: what weighs the slopes in the estimate of a step's error; its last entry is for the slope at the new point, which
            is the next step's first. None for a method of fixed steps.
        order: of the error over a fixed time, in h.
    """

    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    order: int
    error: tuple[float, ...] | None = None


def mix(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """sum_i weights_i slopes_i, in one product."""
    if len(slopes) == 1:
        return weights[0] * slopes[0]
    row = constants(weights, slopes[0].dtype, slopes[0].device)
    with full_precision(row):
        return (row @ torch.stack(slopes).flatten(1)).view_as(slopes[0])


@lru_cache(maxsize=100)
def constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A method's numbers as a tensor, made once."""
    with torch.inference_mode(False):  # or no gradient could ever pass through it
        return torch.tensor(values, dtype=dtype, device=device)
