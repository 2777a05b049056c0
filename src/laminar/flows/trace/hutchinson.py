"""Hutchinson's estimate of a trace (1990, Communications in Statistics 19; in flows: FFJORD, https://arxiv.org/abs/1810.01367)."""

import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.trace.trace import Carry, Field, Pulled, Trace
from laminar.refused import Refused


class Hutchinson(Trace):
    """The mean of v^T J v over K probes v with E[v v^T] = 1: unbiased, at the price of K columns.

    Its variance is 2 ||S - diag S||^2 / K for signs and 2 ||S||^2 / K for Gaussian probes, S being J's symmetric part.

    Args:
        num_probes: K.
        probes: ``rademacher``, random signs, or ``gaussian``.
    """

    noisy = True

    def __init__(self, num_probes: int = 1, probes: str = "rademacher"):
        if num_probes < 1:
            raise Refused(f"trace.num_probes={num_probes} leaves nothing to average: give 1 or more")
        if probes not in ("rademacher", "gaussian"):
            raise Refused(f"trace.probes is rademacher or gaussian, not {probes!r}")
        self.num_probes, self.probes = num_probes, probes

    def draw(self, x: Tensor) -> Tensor:
        like = x.detach().unsqueeze(1).expand(-1, self.num_probes, -1)
        with noise.estimating():
            if self.probes == "gaussian":
                return noise.normal(like)
            return torch.where(noise.uniform(like) < 0.5, -1.0, 1.0).to(x.dtype)

    def __call__(
        self, field: Field, x: Tensor, probes: Tensor | None, carry: Carry | None = None, norm: bool = False
    ) -> tuple[Tensor, ...]:
        probes = probes.transpose(0, 1)
        if carry is not None:
            y, moved = carry(x, probes)
        else:
            pulled = Pulled(field, x)
            moved, y = pulled.each(probes), pulled.end()
        return y, (moved * probes).sum(2).mean(0), *([moved.square().sum(2).mean(0)] if norm else [])
