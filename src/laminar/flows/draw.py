"""Draws that repeat: sample i is a function of (seed, i), whatever is drawn with it."""

import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.flow import Flow
from laminar.flows.space import Context

VALUES = 2**20


def at_once(flow: Flow) -> int:
    """Events that pass a flow together: about a million values, what a training batch of any model has."""
    return max(1, VALUES // flow.space.size)


def draw(
    flow: Flow, n: int, labels: Tensor | None = None, temperature: float = 1.0, seed: int = 0, chunk: int | None = None
) -> Tensor:
    """n samples on the CPU, ``(n, *event)``, ``chunk`` at a time; class indices ``(n,)`` for a conditional flow."""
    parts, chunk = [], chunk or at_once(flow)
    for first in range(0, n, chunk):
        rows = slice(first, min(first + chunk, n))
        count = rows.stop - rows.start
        with noise.keyed(count, seed, first):
            parts.append(flow.sample(count, context_of(flow, labels, rows), temperature).cpu())
    return torch.cat(parts)


def context_of(flow: Flow, labels: Tensor | None, rows: slice = slice(None)) -> Context:
    """What a flow is told of rows with these labels; None for an unconditional one."""
    return {"label": labels[rows].to(flow.device)} if flow.conditional and labels is not None else None


def classes_of(flow: Flow) -> int | None:
    """How many classes a flow conditions on; None without."""
    return flow.space.context["label"][0] if flow.conditional else None


def some_labels(flow: Flow, n: int) -> Tensor | None:
    """Classes in turn, for samples of a conditional flow; None for an unconditional one."""
    return None if (classes := classes_of(flow)) is None else torch.arange(n) % classes
