"""Flows of one dimension: the density, the map from data to noise, and the noise against its prior."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.compose.chain import links_of
from laminar.flows.dequantization.dequantization import Dequantization
from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.pictures.figure import BLUE, FAINT, INK, ORANGE, figure

MARGIN, CELLS, BINS, FAR = 0.15, 1200, 60, 4.0
READABLE = {"frameon": True, "framealpha": 0.85, "edgecolor": "none"}
Look = dict[str, Tensor]
Known = Callable[[Tensor], Tensor] | None


@torch.no_grad()
def look(flow: Flow, data: Tensor, context: Context = None) -> Look:
    """What there is to draw of a flow, float64 on the CPU: ``x`` on a grid around the data, the flow's ``density`` there and
    the ``map`` to the noise (behind a dequantizer, of the reals that it leads to); the ``noise`` of the data; the ``prior``'s
    density at ``z``; and ``bars``, the middles of the reals that stand for each integer, none for real data.

    A conditional flow shows its density and map under the first row of ``context``.
    """
    levels, reals, count = flow.space.levels, flow.density(), len(data)
    bars = torch.empty(0)
    if levels:
        rounding = next(part.rounding for part in links_of(flow.transform) if isinstance(part, Dequantization))
        bars = torch.arange(levels, dtype=torch.float64) + 0.5 - rounding
        low, high = -rounding, levels - rounding
    else:
        low, high = data.min().item(), data.max().item()
    room = (0.05 if levels else MARGIN) * (high - low)
    x = torch.cat([torch.linspace(low - room, high + room, CELLS + 1, dtype=torch.float64), bars]).sort().values  # spikes, too
    grid = x[:, None].to(flow.device)
    seen = rows_of(context, [0] * len(grid), flow.device)
    with noise.keyed(len(grid)):
        density, there = reals.log_prob(grid, seen).exp(), reals.encode(grid, seen)
    with noise.keyed(count):
        z = flow.encode(data.to(flow.device), rows_of(context, slice(count), flow.device))
    ends = (max(flow.prior.low, min(-FAR, z.min().item())), min(flow.prior.high, max(FAR, z.max().item())))
    at = torch.linspace(*ends, CELLS + 1, dtype=z.dtype, device=z.device)
    prior = flow.prior.log_prob(at[:, None]).exp()
    drawn = {"x": x, "density": density, "map": there[:, 0], "noise": z[:, 0], "z": at, "prior": prior, "bars": bars}
    return {name: values.double().cpu() for name, values in drawn.items()}


def line(looks: Mapping[str, Look], data: Tensor, path: str | Path, known: Known = None) -> None:
    """Draws a row of three panels for each look, under its name.

    ``known`` is the data's own log-density, ``(N, 1) -> (N,)``; integers are drawn by their shares.
    """
    ends = [min(seen["x"][0].item() for seen in looks.values()), max(seen["x"][-1].item() for seen in looks.values())]
    with figure(path, 3, (11.4, 2.9 * len(looks)), len(looks)) as panels:
        for row, (name, seen) in enumerate(looks.items()):
            density, there, noises = panels[3 * row : 3 * row + 3]
            _density(density, seen, data, known)
            density.set_ylabel(name, color=INK)
            there.plot(seen["x"], seen["map"], color=BLUE, linewidth=1.6)
            there.grid(True)
            density.set_xlim(ends)
            there.set_xlim(ends)
            low, high = seen["z"][0].item(), seen["z"][-1].item()
            z = seen["noise"].clamp(low, high)
            noises.hist(z, BINS, range=(low, high), density=True, color=ORANGE, alpha=0.45, label="data")
            noises.plot(seen["z"], seen["prior"], color=INK, linewidth=1.2, label="prior")
            noises.set_ylim(0, 2.2 * seen["prior"].max().item())
            noises.legend(loc="upper right", **READABLE)
            if row == 0:
                density.set_title("density of x")
                there.set_title("map from x to z")
                noises.set_title("z: the data, and the prior")
            if row == len(looks) - 1:
                density.set_xlabel("x")
                there.set_xlabel("x")
                noises.set_xlabel("z")


def _density(axes: Any, seen: Look, data: Tensor, known: Known) -> None:
    values = data[:, 0].double().numpy()
    if len(bars := seen["bars"]):
        share = np.bincount(values.astype(int), minlength=len(bars)) / len(values)
        axes.bar(bars, share, 0.96, color=ORANGE, alpha=0.45, label="data")
    else:
        axes.hist(values, BINS, density=True, color=ORANGE, alpha=0.45, label="data")
        if known is not None:
            axes.plot(seen["x"], known(seen["x"][:, None]).exp(), color=FAINT, linewidth=2.6, alpha=0.6, label="true density")
    axes.plot(seen["x"], seen["density"], color=BLUE, linewidth=1.4, label="flow")
    axes.legend(loc="best" if len(bars) else "upper right", **READABLE)
