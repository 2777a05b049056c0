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


def spread(shared: Tensor | None, x: Tensor) -> tuple[Tensor, ...]:
    """The shared ones as a law of x ``(B, *event)`` reads them behind its planes: ``(shared, 1, .., 1)``, in x's precision and
    never copied; nothing where there are none."""
    return () if shared is None else (shared.to(x.dtype).view(-1, *[1] * (x.dim() - 1)),)


def planes(law: Law, *shape: int) -> nn.Parameter:
    """Free parameters ``(arity + shared, *shape)`` for a layer without a net."""
    return nn.Parameter(start(law).view(-1, *[1] * len(shape)).expand(-1, *shape).clone())
