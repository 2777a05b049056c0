"""Naive: autoregressive sampling by a full pass of the net for each step, the measure of faster ways."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor

from laminar.flows.flow import Flow
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.net.causal import Causal, Solve
from laminar.flows.space import Context


@contextmanager
def naive(flow: Flow) -> Iterator[None]:
    """Inside, every sequential way back of the flow takes a full pass of its net for each step: the same x, to rounding."""
    nets = [part.net for part in flow.modules() if isinstance(part, Autoregressive)]
    for net in nets:
        net.sequential = partial(full_passes, net)
    try:
        yield
    finally:
        for net in nets:
            del net.sequential


def full_passes(net: Causal, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
    """x ``(B, *event)`` with x_i = solve(z_i, parameters of step i given x), as ``Causal.sequential``, keeping nothing."""
    x, steps = z.new_zeros(z.shape), len(net.places)
    found, asked = x.view(len(z), -1, steps), z.reshape(len(z), -1, steps)
    for place in net.places.tolist():
        params = net(x, context).reshape(len(z), net.arity, -1, steps)
        found[..., place : place + 1] = solve(asked[..., place : place + 1], params[..., place : place + 1])
    return x
