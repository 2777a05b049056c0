"""Reverse KL: a flow drawn towards a density that can be asked for, and not drawn from (Rezende, Mohamed 2015,
https://arxiv.org/abs/1505.05770)."""

from collections.abc import Callable

import torch
from torch import Tensor

from laminar.flows.flow import Flow
from laminar.flows.space import Context
from laminar.refused import Refused
from laminar.training.objective.own_draws import OwnDraws


class ReverseKL(OwnDraws):
    """log Z - KL(flow || exp(target) / Z): its negative is the ``free_energy``. Of the data, row numbers alone are read.

    Args:
        target: log p(x) up to a constant, ``(B, *event) -> (B,)``, differentiable.
        num_samples: draws for each row of a batch.
    """

    unit = "free_energy"

    def __init__(self, target: Callable[[Tensor], Tensor], num_samples: int = 1):
        super().__init__(num_samples)
        self.target = target

    def log_target(self, x: Tensor, context: Context = None) -> Tensor:
        return self.target(x)

    def check(self, flow: Flow) -> None:
        super().check(flow)
        if flow.conditional:
            raise Refused("objective=reverse_kl has one target, whatever the context: choose context=none")
        event = flow.density().space.event
        x = torch.randn(64, *event, generator=torch.Generator().manual_seed(0)).to(flow.prior.anchor)
        try:
            with torch.no_grad():
                value = self.target(x)
        except (RuntimeError, IndexError, ValueError) as error:
            raise Refused(f"the target cannot read events of shape {event}: {error}") from error
        if not isinstance(value, Tensor) or value.shape != (len(x),):
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise Refused(f"the target gives {found} for 64 events of shape {event}: it must give a log-density of each, (64,)")
        if value.isnan().any() or (value == -torch.inf).any():
            raise Refused(
                "the target is NaN or -inf at some draws of N(0, I), where a flow has density, so the KL would be infinite: "
                "give a log-density that is finite everywhere"
            )
