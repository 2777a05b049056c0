"""Objective: what training maximises, and what its number is called."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from laminar.flows.flow import Flow
from laminar.flows.space import Context
from laminar.refused import Refused


class Objective:
    """A score of each example, in nats, to be maximised. Validation and test report ``flow.log_prob``, whatever trains.

    A plain object, no module: a teacher that it holds enters neither the optimizer nor a checkpoint.

    Attributes:
        unit: None for a likelihood or a bound of it, told in the data's own unit (``train/bpd``, ``train/nll``); else the
            name under which its negative is logged, ``train/<unit>``, beside which no ``val/`` number stands.
        likelihood_every: validations from one that asks for the likelihood to the next, where that costs much more than the
            objective itself, whose ``val/<unit>`` is then validated each time; None asks each time, for that alone.
        draws: whether it trains on draws of the flow's own instead of data, and has their ``log_weights``.
    """

    unit: str | None = None
    likelihood_every: int | None = None
    draws = False

    def __call__(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        """``(B,)`` for stored values x ``(B, *event)``. ``step`` counts the optimizer's: a warm-up is a function of it."""
        raise NotImplementedError

    def trains(self, flow: Flow) -> Iterable[nn.Parameter]:
        """The parameters that it moves; all others are frozen."""
        return flow.parameters()

    def check(self, flow: Flow) -> None:
        """Refuses, with a sentence, a flow that it cannot train."""

    def to(self, device: torch.device) -> None:
        """Moves what it holds beside the flow."""


def refuse_estimates(flow: Flow, num_samples: int) -> None:
    """Of what averages several importance weights: the noise of a log-det would inflate their mean."""
    if flow.noisy and num_samples > 1:
        raise Refused(
            f"objective.num_samples={num_samples} averages weights, whose mean the noise of a log-det (a posterior's, too) "
            "would inflate: take trace=exact, or objective=likelihood"
        )
