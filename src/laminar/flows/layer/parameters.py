"""How the layers come to a law's parameters: its start, and what it shares among all elements."""

import torch
from torch import Tensor, nn

from laminar.flows.coupling.law import Law
from laminar.flows.net.net import Net


def start(law: Law) -> Tensor:
    """Where a law's parameters begin, ``(arity + shared,)``."""
    return law.start(torch.default_generator)


def begin(law: Law, net: Net) -> nn.Parameter | None:
    """Starts a net where its law starts. Gives the parameters ``(shared,)`` that the layer owns beside it, if there are any."""
    from_net, shared = start(law).split([law.arity, law.shared])
    net.start(from_net)
    return nn.Parameter(shared.clone()) if law.shared else None


def join(params: Tensor, shared: Tensor | None) -> Tensor:
    """A net's ``(B, arity, *event)`` with the shared ones behind: ``(B, arity + shared, *event)``, what a law reads."""
    if shared is None:
        return params
    planes = shared.to(params.dtype).view(-1, *[1] * (params.dim() - 2))
    return torch.cat([params, planes.expand(len(params), -1, *params.shape[2:])], 1)


def planes(law: Law, *shape: int) -> nn.Parameter:
    """Free parameters ``(arity + shared, *shape)`` for a layer without a net."""
    return nn.Parameter(start(law).view(-1, *[1] * len(shape)).expand(-1, *shape).clone())
