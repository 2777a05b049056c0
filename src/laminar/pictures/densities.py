"""Densities of the plane: the data, the model's density on a grid, and samples."""

from math import exp
from pathlib import Path

import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.draw import draw
from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.pictures.figure import BLUE, ORANGE, SEA, colour_map, figure

MARGIN = 0.15  # of the data's extent, on each side


@torch.no_grad()
def density_on_grid(
    flow: Flow, low: Tensor, high: Tensor, resolution: int = 200, context: Context = None, chunk: int = 4096
) -> tuple[Tensor, float]:
    """log p at the centres of ``resolution``² cells between two corners, ``(rows of y, columns of x)``; and their mass.

    A conditional flow shows its density under the first row of ``context``. The mass is the integral of p over the
    rectangle by the midpoint rule: 1 for a normalised model that lies inside.
    """
    x, y = (a + (b - a) * (torch.arange(resolution) + 0.5) / resolution for a, b in zip(low, high, strict=True))
    points = torch.cartesian_prod(y, x).flip(1).to(flow.device)
    log_prob = []
    for first in range(0, len(points), chunk):
        part = points[first : first + chunk]
        with noise.keyed(len(part), first=first):
            log_prob.append(flow.log_prob(part, rows_of(context, [0] * len(part), flow.device)).double().cpu())
    log_prob = torch.cat(log_prob).view(resolution, resolution)
    cell = ((high - low) / resolution).prod().item()
    return log_prob, log_prob.exp().sum().item() * cell


def densities(flow: Flow, data: Tensor, path: str | Path, n: int = 2000, context: Context = None) -> float:
    """Draws data, density and samples side by side into ``path``; returns the model's mass within the picture.

    A conditional flow is drawn under the first row of ``context``.
    """
    low, high = data.min(0).values, data.max(0).values
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    log_prob, mass = density_on_grid(flow, low, high, context=context)
    drawn = draw(flow, n, rows_of(context, [0] * n))
    extent = (low[0].item(), high[0].item(), low[1].item(), high[1].item())
    with figure(path, 3, (10.5, 3.7)) as (left, middle, right):
        for axes, points, colour in ((left, data[:n], ORANGE), (right, drawn, BLUE)):
            axes.scatter(*points.numpy().T, s=2.5, alpha=0.55, linewidths=0, color=colour)
        density = log_prob.exp()
        top = torch.quantile(density, 0.999).item() or exp(log_prob.max().item())
        middle.imshow(density.numpy(), origin="lower", extent=extent, cmap=colour_map(SEA), vmin=0, vmax=top, aspect="auto")
        left.set_title(f"data: {min(n, len(data)):,} rows")
        middle.set_title(f"density: mass {mass:.4f} inside")
        right.set_title(f"samples: {n:,}")
        for axes in (left, middle, right):
            axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], box_aspect=1)
            axes.spines[["top", "right"]].set_visible(True)
    return mass
