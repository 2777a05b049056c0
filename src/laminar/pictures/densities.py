"""Densities of the plane: the data, the model's density on a grid, samples, and where the data land in the noise."""

from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.draw import draw
from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.pictures.figure import BLUE, SEA, colour_map, figure, hues

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
    """Draws data, density, samples and the data's noise side by side into ``path``; returns the mass within the picture.

    A data point and its noise have one colour. Density and samples of a conditional flow are those under the first row of
    ``context``.
    """
    low, high = corners(data)
    log_prob, mass = density_on_grid(flow, low, high, context=context)
    drawn, data = draw(flow, n, rows_of(context, [0] * n)), data[:n]
    with noise.keyed(len(data)):
        z = flow.encode(data.to(flow.device), rows_of(context, slice(n), flow.device)).cpu()
    extent = (low[0].item(), high[0].item(), low[1].item(), high[1].item())
    with figure(path, 4, (13.6, 3.7)) as panels:
        scatter(panels[0], data, f"data: {len(data):,} rows", hues(data.double().numpy()), extent)
        panels[1].set_title(f"density: mass {mass:.4f} inside")
        density = log_prob.exp()
        top = torch.quantile(density, 0.999).item() or exp(log_prob.max().item())
        panels[1].imshow(density.numpy(), origin="lower", extent=extent, cmap=colour_map(SEA), vmin=0, vmax=top, aspect="auto")
        bare(panels[1], extent)
        scatter(panels[2], drawn, f"samples: {n:,}", BLUE, extent)
        scatter(panels[3], z, "z: where the data land", hues(data.double().numpy()))
    return mass


def corners(points: Tensor) -> tuple[Tensor, Tensor]:
    """The rectangle of some points of the plane, with a margin around it."""
    low, high = points.min(0).values, points.max(0).values
    return low - MARGIN * (high - low), high + MARGIN * (high - low)


def scatter(axes: Any, points: Tensor, title: str, colour: Any, extent: Sequence[float] | None = None) -> None:
    """Points of the plane in a square without ticks; as far as nearly all of them reach, where no ``extent`` is given."""
    if extent is None:
        low, high = np.quantile(points.double().numpy(), (0.002, 0.998), axis=0)
        room = MARGIN / 2 * np.maximum(high - low, 1e-6)
        extent = (low[0] - room[0], high[0] + room[0], low[1] - room[1], high[1] + room[1])
    axes.scatter(*points.double().numpy().T, s=3.5, alpha=0.75, linewidths=0, color=colour)
    axes.set_title(title)
    bare(axes, extent)


def bare(axes: Any, extent: Sequence[float]) -> None:
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], box_aspect=1)
    axes.spines[["top", "right"]].set_visible(True)
