"""Bridge: from any density to any other, by a flow and the inverse of another."""

import torch

from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.compose.inverse import Inverse
from laminar.flows.flow import Flow
from laminar.refused import Refused


def bridge(source: Flow, target: Flow) -> Chain:
    """The transform that carries the data of one flow to those of another, through the noise that both share::

        y = target^-1(source(x)),    log p_source(x) = log p_target(y) + log|det dy/dx|

    If each flow has learnt its data, draws of one become draws of the other. Integers are left out of it: the bridge is one
    of the reals behind dequantizers. It is a view: a chain of the flows' own parts, with their weights.

    Raises:
        Refused: where the flows have different priors, or are conditional.
    """
    source, target = source.density(), target.density()
    if source.conditional or target.conditional:
        raise Refused("a bridge carries data without context, and one of these flows is conditional: take context=none")
    if source.transform.codomain.event != target.transform.codomain.event or not _agree(source, target):
        raise Refused("a bridge leads through noise that both flows share: train them with one prior, on events of one size")
    there = target.transform
    return Chain.of(source.transform.domain, [source.transform, Inverse(there.codomain, lambda space: there)])


@torch.no_grad()
def _agree(source: Flow, target: Flow) -> bool:
    """Whether two priors give draws of either the same density."""
    for flow in (source, target):
        with noise.keyed(64):
            z = flow.prior.sample(64)
        mine, other = (prior.log_prob(z.to(prior.anchor)).double().cpu() for prior in (source.prior, target.prior))
        if not torch.allclose(mine, other, rtol=1e-4, atol=1e-4):
            return False
    return True
