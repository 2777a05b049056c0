"""Scores: what an evaluation finds, in training and by the command."""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

from laminar.flows.numerics import score
from laminar.training.metric import EstimatorError, MeanScore


class Scores:
    """Means over examples with their standard errors: of log-likelihoods in each unit, and of whatever else has a name.

    A number is called by its unit (``bpd``, ``nll``, ...). Beside that of K importance weights stands the mean of single ones,
    ``<unit>_K1``; beside that of repeated estimates the error of the estimator alone, ``<unit>_estimator_se``.

    Args:
        units: of log-likelihoods, see ``Flow.units``.
        size: the data's dimensions.
        groups: an upper bound of the numbers of what examples are parts of; 0 where they are independent.
        device: where values come from.
    """

    def __init__(self, units: Sequence[str], size: int, groups: int = 0, device: torch.device | str = "cpu"):
        self.units, self.size, self.groups, self.device = units, size, groups, device
        self.means: dict[str, MeanScore] = {}
        self.errors: dict[str, EstimatorError] = {}

    def update(self, name: str, values: Tensor, group: Tensor | None = None) -> None:
        """Adds one value per example, ``(B,)``."""
        if name not in self.means:
            self.means[name] = MeanScore(0 if group is None else self.groups).to(self.device)
        self.means[name].update(values, group)

    def enter(self, log_weights: Tensor, estimates: bool, group: Tensor | None = None) -> Tensor:
        """Adds examples by the logarithms of K weights ``(K, B)``, or by as many estimates; gives their log p(x) ``(B,)``."""
        log_weights = log_weights.double()
        mean, count = log_weights.mean(0), len(log_weights)
        log_prob = mean if estimates or count == 1 else log_weights.logsumexp(0) - log(count)
        for unit in self.units:
            self.update(unit, score(log_prob, unit, self.size), group)
            if count > 1 and estimates:
                error = self.errors.setdefault(unit, EstimatorError().to(self.device))
                error.update(score(log_weights, unit, self.size))
            elif count > 1:
                self.update(f"{unit}_K1", score(mean, unit, self.size), group)
        return log_prob

    def numbers(self) -> dict[str, Tensor]:
        """Name -> mean, ``<name>_se`` -> its standard error, over all ranks."""
        found = {}
        for name, metric in self.means.items():
            found[name], found[f"{name}_se"] = metric.compute()
        return found | {f"{unit}_estimator_se": metric.compute() for unit, metric in self.errors.items()}
