"""Calibration: ranks of the true values among a conditional flow's draws (Talts et al. 2018, https://arxiv.org/abs/1804.06788)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from laminar.flows.draw import at_once, draw
from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.pictures.figure import BLUE, FAINT, INK, figure

LEVEL = 0.99  # of the bands
COLUMNS = 12  # drawn


def ranks(flow: Flow, values: Tensor, context: Context, draws: int, seed: int = 0) -> Tensor:
    """How many of the draws given its context lie below each value, int64 ``(N, D)`` in 0 .. draws.

    They are uniform if p(value | context) is the flow's.
    """
    below, size = [], max(1, at_once(flow) // draws)
    for first in range(0, len(values), size):
        rows = torch.arange(first, min(first + size, len(values)))
        given = rows_of(context, rows.repeat_interleave(draws))
        drawn = draw(flow, len(rows) * draws, given, seed=seed + first).view(len(rows), draws, -1)
        below.append((drawn < values[rows, None]).sum(1))
    return torch.cat(below)


def calibration(found: Tensor, draws: int, names: Sequence[str], path: str | Path, bins: int = 16) -> None:
    """Draws each column's ranks as bars, and how far their distribution function is from a uniform one's.

    Grey is where 99 % of a bar's, or of the function's values at a place, lie for ranks that are uniform.
    """
    from scipy.stats import binom, kstest, norm

    count, shown = len(found), min(COLUMNS, found.shape[1])
    edges = np.arange(bins + 1) / bins
    low, high = (binom.ppf(q, count, 1 / bins) for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    at = np.linspace(0, 1, 201)
    band = np.sqrt(at * (1 - at) / count) * norm.ppf((1 + LEVEL) / 2)
    with figure(path, shown, (3.1 * shown + 0.3, 4.6), 2) as panels:
        for place, (bars, curve) in enumerate(zip(panels[:shown], panels[shown:], strict=True)):
            jitter = np.random.default_rng(place).uniform(size=count)
            u = (found[:, place].double().numpy() + jitter) / (draws + 1)
            bars.axhspan(low, high, color=FAINT, alpha=0.25, linewidth=0)
            bars.axhline(count / bins, color=FAINT, linewidth=0.8)
            bars.hist(u, edges, color=BLUE, alpha=0.75)
            bars.set_title(f"{names[place]}: p = {kstest(u, 'uniform').pvalue:.2g}")
            bars.set(xlim=(0, 1), xticks=[])
            curve.fill_between(at, -band, band, color=FAINT, alpha=0.25, linewidth=0)
            curve.plot(at, np.searchsorted(np.sort(u), at, side="right") / count - at, color=INK, linewidth=1.2)
            curve.set(xlim=(0, 1), xlabel="rank among the draws, as a share")
            reach = max(1.3 * band.max(), 1.1 * np.abs(curve.lines[-1].get_ydata()).max())
            curve.set_ylim(-reach, reach)
        panels[0].set_ylabel("rows")
        panels[shown].set_ylabel("share below, less uniform")
