"""Means over examples with their standard errors, exact across batches and ranks."""

from math import log

import torch
from torch import Tensor
from torchmetrics import Metric

REPEATS = 2  # of an estimate behind a test score


class MeanScore(Metric):
    """mean = sum(v) / n and se = sqrt(sum((v - mean)^2) / (n (n - 1))) over every example's value v, once each.

    Where examples are parts of G groups that are independent of each other, but not within, se is that of the groups::

        se = sqrt(G / (G - 1) sum_g (s_g - n_g mean)^2) / n       s_g the sum and n_g the number of a group's values

    Sums are float64 and the count is int64; ranks add them up, so that a number depends on neither batch nor rank.

    Args:
        groups: an upper bound of the groups' numbers; 0 where examples are independent.
    """

    full_state_update = False

    def __init__(self, groups: int = 0):
        super().__init__()
        self.groups = groups
        if groups:
            self.add_state("sums", torch.zeros(groups, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state("sizes", torch.zeros(groups, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(self, values: Tensor, group: Tensor | None = None) -> None:
        """Adds one value per example, ``(B,)``, of the groups of these numbers."""
        values = values.double()
        if self.groups:
            self.sums.index_add_(0, group, values)
            self.sizes.index_add_(0, group, torch.ones_like(values))
        self.total += values.sum()
        self.squares += values.square().sum()
        self.count += values.numel()

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard error (NaN for fewer than two examples, or groups)."""
        mean = self.total / self.count
        if self.groups:
            count = (self.sizes > 0).sum()
            spread = (self.sums - self.sizes * mean).square().sum() * count / (count - 1)
            return mean, spread.sqrt() / self.count
        spread = (self.squares - self.count * mean.square()).clamp(min=0)
        return mean, (spread / (self.count * (self.count - 1))).sqrt()


class EstimatorError(Metric):
    """What other draws of an estimator would change in a mean m over n examples, the examples staying as they are.

    Example i is known by R estimates e_ir of v_i, the examples' draws independent of each other, and enters m by their mean
    e_i. With s_i^2, the sample variance over an example's R estimates::

        estimator_se = sqrt(sum_i s_i^2 / R) / n        of m around the mean of the v_i: the exact number on the same rows

    It is a part of the standard error that ``MeanScore`` gives of the e_i, not an addition to it: var_i(e_i) estimates
    var_i(v_i) + mean_i(var(e_ir)) / R, so that sqrt(var_i(e_i) / n) is the error of m around the expectation over all data, and
    of it estimator_se the share that more repeats or probes would take away.
    """

    full_state_update = False

    def __init__(self):
        super().__init__()
        self.add_state("variances", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(self, estimates: Tensor) -> None:
        """Adds R >= 2 estimates of each example's value, ``(R, B)``."""
        self.variances += estimates.double().var(0).sum() / len(estimates)
        self.count += estimates.shape[1]

    def compute(self) -> Tensor:
        return self.variances.sqrt() / self.count


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
