"""Small numerical tools that every floor shares."""

from math import log

import torch
from torch import Tensor

LOG2 = log(2.0)


def sum_event(values: Tensor) -> Tensor:
    """Sum over everything but the batch: ``(B, ...) -> (B,)``."""
    return values.flatten(1).sum(1) if values.dim() > 1 else values


def bits_per_dim(log_prob: Tensor, dims: int) -> Tensor:
    """Nats to bits per dimension: ``-log_prob / (dims * ln 2)``. Nothing else: log_prob is that of the integers themselves."""
    return -log_prob / (dims * LOG2)


def full_precision(like: Tensor) -> torch.autocast:
    """Switches autocast off: likelihood arithmetic runs in the precision of its tensors, float32 or better."""
    return torch.autocast(like.device.type, enabled=False)


def logistic_quantile(u: Tensor) -> Tensor:
    """log(u / (1 - u)) of a uniform draw in [0, 1): a standard logistic draw.

    A zero, one draw in 2^24 in float32, counts as half of the smallest step above it, so that no draw is infinite.
    """
    return u.clamp(min=torch.finfo(u.dtype).eps / 4).log() - torch.log1p(-u)
