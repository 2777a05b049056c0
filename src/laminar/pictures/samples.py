"""Samples of flows of one or two dimensions beside the data."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from laminar.flows.draw import draw, some_context
from laminar.flows.flow import Flow
from laminar.flows.space import Context
from laminar.pictures.densities import corners, scatter
from laminar.pictures.figure import BLUE, ORANGE, figure

BINS = 80


def samples(flow: Flow, data: Tensor | None, path: str | Path, n: int = 2000, context: Context = None) -> None:
    """Draws n samples of a flow, in some of the contexts, and as many rows of the data, if there are any."""
    rows = {} if data is None else {"data": data[:n]}
    rows["samples"] = draw(flow, n, some_context(flow, n, context))
    (plane if flow.space.event == (2,) else histograms)(rows, path, flow.space.levels)


def plane(rows: Mapping[str, Tensor], path: str | Path, levels: int | None = None) -> None:
    """Points of the plane by name, ``(N, 2)`` each, side by side; as far as the first of them reach."""
    low, high = corners(next(iter(rows.values())).double())
    extent = (low[0].item(), high[0].item(), low[1].item(), high[1].item())
    with figure(path, len(rows), (4.2 * len(rows), 4.5)) as panels:
        for axes, (name, points) in zip(panels, rows.items(), strict=True):
            scatter(axes, points, f"{name}: {len(points):,}", ORANGE if name == "data" else BLUE, extent)


def histograms(rows: Mapping[str, Tensor], path: str | Path, levels: int | None = None) -> None:
    """Numbers by name, ``(N, 1)`` each, over each other; integers of so many levels have a bar each."""
    values = {name: found[:, 0].double().numpy() for name, found in rows.items()}
    everything = np.concatenate([*values.values()])
    edges = np.arange(levels + 1) - 0.5 if levels else np.linspace(*np.quantile(everything, (0.001, 0.999)), BINS + 1)
    with figure(path) as (axes,):
        for name, found in values.items():
            bars, told = np.histogram(found, edges)[0] / len(found) / np.diff(edges), f"{name}: {len(found):,}"
            data = name == "data"
            axes.stairs(bars, edges, fill=data, color=ORANGE if data else BLUE, alpha=0.45 if data else 1.0, label=told)
        axes.set(xlabel="x", ylabel="density", ylim=(0, None))
        axes.legend()
