"""Roulette: a power series without an end, unbiased in finite time (Residual Flows, Chen, Behrmann, Duvenaud, Jacobsen 2019,
https://arxiv.org/abs/1906.02735)."""

from math import exp

import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.trace.series import Series
from laminar.refused import Refused

DISTRIBUTIONS = ("poisson", "geometric")
RAREST = 1e-15


class Roulette(Series):
    """The first n terms of log det(I + J), and N more, of which the m-th is weighed by 1 / P(N >= m).

    In training one N, that of the first row, serves the batch. In evaluation each row has its own, a function of its noise key
    alone, so that rows are independent and a score is the same in any batch.

    Args:
        exact_terms: n in training.
        evaluation_terms: n in evaluation.
        distribution: of N: ``poisson`` with the mean ``rate``, or ``geometric``, from 1 on, with the mean 1 / ``rate``.
    """

    def __init__(
        self,
        exact_terms: int = 2,
        evaluation_terms: int = 20,
        distribution: str = "poisson",
        rate: float = 2.0,
        num_probes: int = 1,
        probes: str = "gaussian",
        gradients: str = "neumann",
    ):
        super().__init__(num_probes, probes, gradients)
        for name, terms in (("exact_terms", exact_terms), ("evaluation_terms", evaluation_terms)):
            if terms < 0:
                raise Refused(f"trace.{name}={terms} is no number of terms: give 0 or more")
        if distribution not in DISTRIBUTIONS:
            raise Refused(f"trace.distribution is {' or '.join(DISTRIBUTIONS)}, not {distribution!r}")
        if not 0 < rate < (1 if distribution == "geometric" else 10):
            bound = "a chance, so it lies between 0 and 1" if distribution == "geometric" else "a mean above 0 and below 10"
            raise Refused(f"trace.rate={rate} of distribution={distribution} is {bound}")
        self.exact_terms, self.evaluation_terms = exact_terms, evaluation_terms
        self.survival = torch.tensor(_survival(distribution, rate), dtype=torch.float64, device="cpu")

    def weights(self, x: Tensor, training: bool) -> Tensor:
        count = self.exact_terms if training else self.evaluation_terms
        with noise.estimating():  # on the host, which has to know how many terms there are
            u = noise.uniform(torch.empty(len(x), dtype=torch.float64, device="cpu"))
        lives = (u[:1] if training else u) < self.survival.unsqueeze(1)
        lives = lives[: int(lives.sum(0).max())] if len(x) else lives[:0]
        weights = torch.cat([torch.ones(count, lives.shape[1]), lives / self.survival[: len(lives), None]])
        return weights.to(x.device, x.dtype, non_blocking=True)


def _survival(distribution: str, rate: float) -> list[float]:
    """P(N >= m) for m = 1, 2, ..., as long as it can be told from 0."""
    if distribution == "geometric":
        tail, survival = 1.0, []
        while tail > RAREST:
            survival.append(tail)
            tail *= 1 - rate
        return survival
    mass = [exp(-rate)]
    while mass[-1] > RAREST / 100 or len(mass) <= rate:
        mass.append(mass[-1] * rate / len(mass))
    return [tail for m in range(1, len(mass)) if (tail := sum(reversed(mass[m:]))) > RAREST]
