"""Draws that repeat: sample i is a function of (seed, i), whatever is drawn with it."""

from typing import Any

import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.flow import Flow
from laminar.flows.rows import at_once
from laminar.flows.space import Context, rows_of
from laminar.refused import Refused


def draw(
    flow: Flow,
    n: int,
    context: Context = None,
    temperature: float = 1.0,
    seed: int = 0,
    chunk: int | None = None,
    **how: Any,
) -> Tensor:
    """n samples on the CPU, ``(n, *event)``, ``chunk`` at a time; ``context`` holds n rows for a conditional flow.

    ``how`` are the other words of ``Flow.sample``.
    """
    parts, chunk = [], chunk or at_once(flow)
    for first in range(0, n, chunk):
        rows = slice(first, min(first + chunk, n))
        count = rows.stop - rows.start
        with noise.keyed(count, seed, first):
            parts.append(flow.sample(count, rows_of(context, rows, flow.device), temperature, **how).cpu())
    return torch.cat(parts)


def classes_of(flow: Flow) -> int | None:
    """How many classes a flow conditions on; None without."""
    return flow.space.context["label"][0] if flow.conditional and "label" in flow.space.context else None


def of_class(label: int, n: int) -> Context:
    """The context of n events of one class."""
    return {"label": torch.full((n,), label)}


def some_context(flow: Flow, n: int, known: Context = None) -> Context:
    """A context for n samples: classes in turn; for a flow that sees more than labels, ``known`` rows in turn.

    None for an unconditional flow.
    """
    if not flow.conditional:
        return None
    if flow.space.context.keys() == {"label"}:
        return {"label": torch.arange(n) % classes_of(flow)}
    if not known:
        names = ", ".join(flow.space.context)
        raise Refused(f"this flow is conditional on {names}: say on which values, context={{name: rows}}")
    return rows_of(known, torch.arange(n) % len(next(iter(known.values()))))
