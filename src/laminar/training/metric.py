"""Means over examples with their standard errors, exact across batches and ranks."""

from math import log

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanScore(Metric):
    """mean = sum(v) / n and se = sqrt(sum((v - mean)^2) / (n (n - 1))) over every example's value v, once each.

    Sums are float64 and the count is int64; ranks add them up, so that a number depends on neither batch nor rank.
    """

    full_state_update = False

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(self, values: Tensor) -> None:
        """Adds one value per example, ``(B,)``."""
        values = values.double()
        self.total += values.sum()
        self.squares += values.square().sum()
        self.count += values.numel()

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard error (NaN for fewer than two examples)."""
        mean = self.total / self.count
        spread = (self.squares - self.count * mean.square()).clamp(min=0)
        return mean, (spread / (self.count * (self.count - 1))).sqrt()


class LogWeights(Metric):
    """What importance weights w = p(x) / q(x) of draws x ~ q say of p, whose constant Z may be missing from it::

        log_z   log of mean(w)
        kl      KL(q || p / Z) = log Z - mean(log w)
        ess     mean(w)^2 / mean(w^2): the effective sample size, as a share of the draws

    They know what the draws have seen. Where ess is small, q may have missed some of p: log_z is then too low, and by more
    than its error says.

    Args:
        normalised: whether Z is known to be 1. Then kl counts on it, and log_z tells how much of p the draws have seen.
    """

    full_state_update = False

    def __init__(self, normalised: bool = False):
        super().__init__()
        self.normalised = normalised
        self.add_state("logs", [], dist_reduce_fx="cat")
        self.set_dtype(torch.float64)

    def update(self, log_weights: Tensor) -> None:
        """Adds draws' log w, of any shape."""
        self.logs.append(log_weights.detach().double().flatten())

    def compute(self) -> dict[str, Tensor]:
        """The three numbers, and the first two's standard errors by the delta method."""
        logs = torch.cat(self.logs) if isinstance(self.logs, list) else self.logs
        log_z = logs.logsumexp(0) - log(len(logs))
        share = (logs - log_z).exp()  # w over its mean
        surprise = -logs if self.normalised else share - logs
        root = len(logs) ** 0.5
        return {
            "log_z": log_z,
            "log_z_se": share.std() / root,
            "kl": -logs.mean() if self.normalised else log_z - logs.mean(),
            "kl_se": surprise.std() / root,
            "ess": 1 / share.square().mean(),
        }
