"""Truncated: a power series broken off (i-ResNet, Behrmann, Grathwohl, Chen, Duvenaud, Jacobsen 2019,
https://arxiv.org/abs/1811.00995)."""

import torch
from torch import Tensor

from laminar.flows.trace.series import Series
from laminar.refused import Refused


class Truncated(Series):
    """The first n terms of log det(I + J).

    Where ||J|| <= c < 1 they miss at most D c^(n+1) / ((n+1) (1-c)), in the mean over the probes: a bias, no noise that
    averages away, so that the number is graded a biased estimate.

    Args:
        terms: n.
    """

    biased = True

    def __init__(self, terms: int = 5, num_probes: int = 1, probes: str = "gaussian", gradients: str = "series"):
        super().__init__(num_probes, probes, gradients)
        if terms < 1:
            raise Refused(f"trace.terms={terms} leaves nothing of the series: give 1 or more")
        self.terms = terms

    def weights(self, x: Tensor, training: bool) -> Tensor:
        return torch.ones(self.terms, 1, dtype=x.dtype, device=x.device)
