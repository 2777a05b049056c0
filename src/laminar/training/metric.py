"""MeanScore: a mean over examples with its standard error, exact across batches and ranks."""

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
