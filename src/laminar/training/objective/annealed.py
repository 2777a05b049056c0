"""Bounds that a variational autoencoder is trained by before it can stand the true one: KL warm-up (Bowman et al. 2016,
https://arxiv.org/abs/1511.06349; Sonderby et al. 2016) and free bits (Kingma et al. 2016, https://arxiv.org/abs/1606.04934)."""

from math import log, pi

import torch
from torch import Tensor, distributed

from laminar.flows import ledger
from laminar.flows.flow import Flow
from laminar.flows.layer.latent import Latent
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.space import Context
from laminar.refused import Refused
from laminar.training.objective.objective import Objective


class Annealed(Objective):
    """log p(x | z) - beta sum_g max(KL_g, free), z ~ q(z | x), in nats, ``(B,)``: no bound while beta < 1 or a KL_g < free.

    KL_g is the share of log q(z | x) - log p(z) of a group of latents, in the mean over the rows of a (micro-)batch on all
    ranks: each feature map of layer=bidirectional, and all of a vector, of which a flow leaves no smaller share. Neither bound
    keeps the latents from being used at the start, when a decoder is easier improved without them. The sum is noted as ``kl``.

    Args:
        warmup: optimizer steps over which beta rises to 1, linearly; 0 begins there.
        free: nats of KL that cost as much as none, for each feature map, as which each value of a vector counts; 0 is the bound
            itself, once beta is 1.
    """

    unit = "annealed"

    def __init__(self, warmup: int = 0, free: float = 0.0):
        for option, number in (("warmup", warmup), ("free", free)):
            if number < 0:
                raise Refused(f"objective.{option}={number} is below 0: take 0 for none, or more")
        self.warmup, self.free = warmup, free

    def check(self, flow: Flow) -> None:
        _, stop, after = flow.locate(Latent)
        if self.free and stop.maps < stop.codomain.size and (after.parts or not isinstance(flow.prior, Gaussian)):
            raise Refused(
                "free bits for each feature map need the KL of each, and what stands behind this layer has one for all: "
                "take prior=gaussian and nothing else behind it, or objective.free=0"
            )

    def beta(self, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0

    def __call__(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        before, stop, after = flow.locate(Latent)
        seen = flow.context(context)
        x, given = before(x, seen)
        z, log_p, log_q = stop.terms_by_group(x, seen)
        end, contribution = after(z, seen)
        kl = log_q.sum(1) - contribution - flow.prior.log_prob(end)
        ledger.note("distortion", -log_p)
        ledger.note("kl", kl)
        cost = kl
        if self.free:
            each = kl[:, None] if log_q.shape[1] == 1 else log_q + stop.by_group(0.5 * (z.square() + log(2 * pi)))
            free = self.free * stop.maps
            cost = torch.where(mean_on_all_ranks(each) > free, each, free).sum(1)
        return given + log_p - self.beta(step) * cost


@torch.no_grad()
def mean_on_all_ranks(values: Tensor) -> Tensor:
    """The mean over the rows of all processes, ``(B, G) -> (G,)``: what is decided by it is decided everywhere alike."""
    sums = torch.cat([values.sum(0), values.new_full((1,), len(values))])
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(sums)
    return sums[:-1] / sums[-1]
