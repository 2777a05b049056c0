"""Classifier-free guidance (Ho, Salimans 2022, https://arxiv.org/abs/2207.12598) of flows, as TarFlow samples: on the way back
every law's parameters p are moved away from what they were if nothing were known, p + weight (p - p_nothing)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_weight: ContextVar[float] = ContextVar("guidance_weight", default=0.0)


@contextmanager
def guided(weight: float) -> Iterator[None]:
    """Inside, every event stands in a batch twice: in its first half with its context, in its second half with none."""
    token = _weight.set(weight)
    try:
        yield
    finally:
        _weight.reset(token)


def steered(params: Tensor) -> Tensor:
    """A net's answers ``(B, ...)`` as they are, or inside ``guided`` moved, the same in both halves."""
    weight = _weight.get()
    if not weight:
        return params
    told, untold = params.chunk(2)
    moved = told + weight * (told - untold)
    return torch.cat([moved, moved])
