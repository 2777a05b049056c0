"""Draws that repeat: sample i is a function of (seed, i), whatever is drawn with it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from laminar import noise
from laminar.flow import Flow
from laminar.space import Context

DRAW = 0xD4A3
VALUES = 2**20


@contextmanager
def keyed(n: int, seed: int = 0, first: int = 0) -> Iterator[None]:
    """Inside, row i of a draw depends on (seed, first + i) alone, and the training noise stays where it was."""
    with torch.no_grad(), noise.source(noise.mix(seed, DRAW, np.arange(first, first + n))):
        yield


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
        with keyed(count, seed, first):
            parts.append(flow.sample(count, context_of(flow, labels, rows), temperature).cpu())
    return torch.cat(parts)


def context_of(flow: Flow, labels: Tensor | None, rows: slice = slice(None)) -> Context:
    """What a flow is told of rows with these labels; None for an unconditional one."""
    return {"label": labels[rows].to(device_of(flow))} if flow.conditional and labels is not None else None


def device_of(flow: Flow) -> torch.device:
    return flow.prior.anchor.device


def classes_of(flow: Flow) -> int | None:
    """How many classes a flow conditions on; None without."""
    return flow.space.context["label"][0] if flow.conditional else None


def some_labels(flow: Flow, n: int) -> Tensor | None:
    """Classes in turn, for samples of a conditional flow; None for an unconditional one."""
    return None if (classes := classes_of(flow)) is None else torch.arange(n) % classes
