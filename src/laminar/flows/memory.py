"""Memory: what a flow keeps for the way back of gradients."""

from collections.abc import Iterator

from torch import nn

from laminar.flows.compose.chain import Chain
from laminar.flows.compose.multiscale import Multiscale
from laminar.flows.flow import Flow
from laminar.flows.net.net import drops
from laminar.flows.norm.batchnorm import BatchNorm
from laminar.flows.transform import Transform
from laminar.refused import Refused

KINDS = ("store", "checkpoint", "reversible")


def remember(flow: Flow, how: str) -> dict[str, str]:
    """Chooses what a built flow keeps while it trains, for calls to come.

    ``store``       all activations: the fastest
    ``checkpoint``  what enters each part, which runs a second time
    ``reversible``  what leaves a chain of bijections: each part's input is its inverse's, so memory does not grow with depth

    Returns:
        The parts that keep all of theirs nevertheless, by name, and why.
    """
    if how not in KINDS:
        raise Refused(f"memory={how} is none of {', '.join(KINDS)}")
    kept = {}
    for name, chain in _chains("transform", flow.transform):
        chain.memory = how
        chain.keeps = [how == "store" or _reason(part, how) is not None for part in chain.parts]
        if how != "store":
            found = {f"{name}.{number}": _reason(part, how) for number, part in enumerate(chain.parts)}
            kept |= {place: reason for place, reason in found.items() if reason is not None and reason != INSIDE}
    return kept


INSIDE = "its own chains recompute"


def _chains(name: str, part: nn.Module) -> Iterator[tuple[str, Chain]]:
    """The chains that lead from data to noise; not those within a step, whose whole is one part."""
    if isinstance(part, Chain):
        yield name, part
        for number, inner in enumerate(part.parts):
            yield from _chains(f"{name}.{number}", inner)
    elif isinstance(part, Multiscale):
        for level, body in enumerate(part.bodies):
            yield from _chains(f"{name}.levels.{level}", body)
        if part.top is not None:
            yield from _chains(f"{name}.top", part.top)


def _reason(part: Transform, how: str) -> str | None:
    """Why a part keeps its activations; None where it need not."""
    if isinstance(part, Chain | Multiscale):
        return INSIDE
    if part.stochastic:
        return "draws on its way"
    if part.noisy:
        return "estimates its log-det"
    if any(isinstance(module, BatchNorm | nn.modules.batchnorm._BatchNorm) for module in part.modules()):
        return "has batch statistics, which a second pass would count again"
    if how == "reversible":
        if drops(part):
            return "drops units, and is another function when it is asked again"
        if not part.closed:
            return "has no inverse in closed form"
    return None
