"""Bounds that a variational autoencoder is trained by before it can stand the true one: KL warm-up (Bowman et al. 2016,
https://arxiv.org/abs/1511.06349; Sonderby et al. 2016) and free bits (Kingma et al. 2016, https://arxiv.org/abs/1606.04934)."""

import torch
from torch import Tensor

from laminar.flows import ledger
from laminar.flows.flow import Flow
from laminar.flows.layer.variational import Variational
from laminar.flows.space import Context
from laminar.refused import Refused
from laminar.training.objective.objective import Objective


class Annealed(Objective):
    """log p(x | z) - beta max(KL, free), z ~ q(z | x), in nats, ``(B,)``: no bound of log p(x) while beta < 1 or KL < free.

    KL is log q(z | x) - log p(z) in the mean over the rows at hand, of all latents together. Neither bound keeps the latents
    from being used at the start, when a decoder is easier improved without them. It is noted as ``kl``.

    Args:
        warmup: optimizer steps over which beta rises to 1, linearly; 0 begins there.
        free: nats of KL that cost as much as none, for each latent; 0 is the bound itself, once beta is 1.
    """

    unit = "annealed"

    def __init__(self, warmup: int = 0, free: float = 0.0):
        for option, number in (("warmup", warmup), ("free", free)):
            if number < 0:
                raise Refused(f"objective.{option}={number} is below 0: take 0 for none, or more")
        self.warmup, self.free = warmup, free

    def check(self, flow: Flow) -> None:
        flow.locate(Variational)

    def beta(self, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0

    def __call__(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        before, stop, after = flow.locate(Variational)
        seen = flow.context(context)
        x, given = before(x, seen)
        z, log_p, log_q = stop.terms(x, seen)
        end, contribution = after(z, seen)
        kl = log_q - contribution - flow.prior.log_prob(end)
        ledger.note("distortion", -log_p)
        ledger.note("kl", kl)
        free = self.free * stop.codomain.size
        cost = torch.where(kl.mean() > free, kl, free) if free else kl
        return given + log_p - self.beta(step) * cost
