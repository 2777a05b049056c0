"""Densities of the plane beside each other: a flow's, and the one that it was drawn towards."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from laminar.flows.draw import draw
from laminar.flows.flow import Flow
from laminar.flows.space import Context
from laminar.pictures.densities import bare, density_on_grid, scatter
from laminar.pictures.figure import BLUE, SEA, colour_map, figure


def beside(
    log_densities: Mapping[str, Callable[[Tensor, Context], Tensor]],
    flow: Flow,
    low: Tensor,
    high: Tensor,
    path: str | Path,
    n: int = 2000,
) -> None:
    """Draws densities over a rectangle, by name, in one scale of colours, and n samples of the flow after them.

    A density whose constant is missing is shown with the mass of 1 within the rectangle; so are the others.
    """
    extent = (low[0].item(), high[0].item(), low[1].item(), high[1].item())
    shown = {}
    for name, log_density in log_densities.items():
        grid, _ = density_on_grid(SimpleNamespace(log_prob=log_density, device=flow.device), low, high)
        grid = grid.nan_to_num(nan=-torch.inf)  # so far out that the flow overflows
        shown[name] = grid.flatten().softmax(0).view_as(grid)
    top = max(torch.quantile(density, 0.999).item() for density in shown.values())
    with figure(path, len(shown) + 1, (3.4 * (len(shown) + 1), 3.7)) as panels:
        for axes, (name, density) in zip(panels, shown.items(), strict=False):
            axes.set_title(name)
            axes.imshow(density, origin="lower", extent=extent, cmap=colour_map(SEA), vmin=0, vmax=top, aspect="auto")
            bare(axes, extent)
        scatter(panels[-1], draw(flow, n), f"samples: {n:,}", BLUE, extent)
