"""A strip of the plane: where the data are after each layer of a 2-D flow."""

from collections.abc import Iterator
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.compose.inverse import Inverse
from laminar.flows.compose.multiscale import Multiscale
from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.flows.transform import Transform
from laminar.pictures.densities import scatter
from laminar.pictures.figure import figure, hues

COLUMNS = 7


@torch.no_grad()
def stations(flow: Flow, x: Tensor, context: Context = None) -> list[tuple[str, Tensor]]:
    """The data, and where each layer takes them, ``(name, points)`` on the CPU; parts that move nothing are left out."""
    context = flow.context(rows_of(context, slice(len(x)), flow.device))
    found, x = [("data", x)], x.to(flow.device)
    with noise.keyed(len(x)):
        for part in layers_of(flow.transform):
            before, x = x, part(x, context)[0]
            if not torch.equal(before.to(x), x):
                found.append((name_of(part), x.cpu()))
    return found


def name_of(part: Transform) -> str:
    """What a part is called on the command line; an inverse, what it is the inverse of."""
    name = type(part).__module__.rpartition(".")[2]
    return f"{name_of(part.transform)}⁻¹" if isinstance(part, Inverse) else name


def layers_of(transform: Transform) -> Iterator[Transform]:
    """The parts of chains, and of levels where no noise is let go between them, in order."""
    if isinstance(transform, Chain):
        for part in transform.parts:
            yield from layers_of(part)
    elif isinstance(transform, Multiscale) and not transform.cuts:
        yield from layers_of(transform.bodies[0])
        if transform.top is not None:
            yield transform.top
    else:
        yield transform


def layers(flow: Flow, data: Tensor, path: str | Path, n: int = 2000, context: Context = None) -> None:
    """Draws the stations of n data points in the plane; a point keeps the colour of its place in the data."""
    found = stations(flow, data[:n], context)
    columns = min(len(found), COLUMNS)
    rows = ceil(len(found) / columns)
    colour = hues(found[0][1].double().numpy())
    with figure(path, columns, (1.9 * columns, 2.15 * rows), rows) as panels:
        for number, (axes, (name, points)) in enumerate(zip(panels, found, strict=False)):
            scatter(axes, points, f"{number}  {name}" if number else name, colour)
        for axes in panels[len(found) :]:
            axes.set_axis_off()
