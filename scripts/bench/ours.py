"""Ours: flows by the words of laminar-train."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import OmegaConf

from bench.peers import Density, Elementwise
from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.flows.coupling.law import Law
from laminar.flows.memory import remember
from laminar.flows.net.concat import TimedLinear
from laminar.flows.space import Space

REALS = ("dequantization=none", "preprocessing=none")


def flow(space: Space, words: Sequence[str], changes: Mapping[str, Any] | None = None) -> Density:
    """The flow of some pages over a space of real numbers.

    Args:
        changes: to the composed config, by place: what no word says (parts that peers do not have).
    """
    config = compose("train", [*REALS, *words])
    for place, value in (changes or {}).items():
        OmegaConf.update(config, place, value, merge=False)
    flow = build(config.flow, "flow")(space)
    remember(flow, config.memory)
    return Density(flow, flow.log_prob, flow.sample, flow.refresh if flow.refreshes else None)


def law(page: str, **options: Any) -> tuple[Law, Elementwise]:
    """A law of conf/coupling."""
    law = build(compose("train", ["flow=realnvp_flat", f"coupling={page}"]).coupling, "flow", **options)()
    return law, Elementwise(law, law.inverse)


@torch.no_grad()
def moving(flow: torch.nn.Module) -> list[torch.nn.Linear]:
    """Gives a continuous flow weights that lead somewhere, unlike those of its start, whatever the time. Gives its layers."""
    for part in flow.modules():
        if isinstance(part, TimedLinear):
            torch.nn.init.normal_(part.linear.weight, std=1.2 * part.linear.weight.shape[1] ** -0.5)
            part.shift.weight.zero_()
    return [part.linear for part in flow.modules() if isinstance(part, TimedLinear)]


@torch.no_grad()
def same_field(layers: list[torch.nn.Linear], peer: torch.nn.Module) -> None:
    """Gives zuko's continuous flow these layers: its path is ours, and its time, in its first inputs, counts for nothing."""
    theirs = [part for part in peer.modules() if hasattr(part, "weight")]
    for mine, other in zip(layers, theirs, strict=True):
        other.weight.zero_()[:, -mine.weight.shape[1] :] = mine.weight
        other.bias.copy_(mine.bias)
