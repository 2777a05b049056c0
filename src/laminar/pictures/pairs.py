"""Pairs: the columns of a table against each other, data beside samples; and each column alone."""

from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from laminar.pictures.figure import BLUE, INK, ORANGE, figure

SHOWN, BINS = 6, 40  # columns of a pair plot, bars of a histogram
MANY = 24  # columns whose marginals are drawn
Kinds = Sequence[float | None]


def pairs(data: Tensor, drawn: Tensor, names: Sequence[str], path: str | Path, widths: Kinds | None = None) -> None:
    """Draws the columns that depend on each other most, pair by pair: data left of and below the diagonal, samples right of
    and above it, both alone on it.

    Args:
        data, drawn: rows ``(N, D)``.
        widths: of each column, the step from one value to the next; None for real numbers.
    """
    x, y = (rows.double().numpy() for rows in (data, drawn))
    chosen = _liveliest(x, min(SHOWN, x.shape[1]))
    count = len(chosen)
    side = min(2.1, 11.5 / count)
    ends = [_ends(x[:, place], widths and widths[place]) for place in range(x.shape[1])]
    with figure(path, count, (side * count + 0.6, side * count + 0.6), count) as panels:
        for place, axes in enumerate(panels):
            row, column = (int(chosen[n]) for n in divmod(place, count))
            if row == column:
                marginal(axes, x[:, row], y[:, row], ends[row], widths and widths[row])
            else:
                below = place // count > place % count
                rows, colour = (x, ORANGE) if below else (y, BLUE)
                step = [widths and widths[n] for n in (column, row)]
                _cloud(axes, rows[:, column], rows[:, row], colour, step)
                axes.set(xlim=ends[column], ylim=ends[row])
            axes.set(xticks=[], yticks=[])
            if place >= count * (count - 1):
                axes.set_xlabel(_short(names[column]))
            if place % count == 0:
                axes.set_ylabel(_short(names[row]))
        panels[0].set_title("data", color=ORANGE)
        panels[count - 1].set_title("samples", color=BLUE) if count > 1 else panels[0].set_title("data and samples")


def marginals(data: Tensor, drawn: Tensor, names: Sequence[str], path: str | Path, widths: Kinds | None = None) -> None:
    """Draws each column's histogram, of data and of samples; of many columns, some evenly spread over all."""
    x, y = (rows.double().numpy() for rows in (data, drawn))
    chosen = np.unique(np.linspace(0, x.shape[1] - 1, min(MANY, x.shape[1])).round().astype(int))
    across = min(6, len(chosen))
    down = ceil(len(chosen) / across)
    with figure(path, across, (2.3 * across + 0.4, 1.75 * down + 0.3), down) as panels:
        for axes, place in zip(panels, chosen, strict=False):
            step = widths and widths[place]
            marginal(axes, x[:, place], y[:, place], _ends(x[:, place], step), step)
            axes.set(yticks=[])
            axes.set_title(_short(names[place]))
            axes.locator_params(axis="x", nbins=3)
        for axes in panels[len(chosen) :]:
            axes.set_visible(False)
        panels[0].legend(loc="upper right", fontsize=7, frameon=True, framealpha=0.85, edgecolor="none")


def marginal(axes: Any, x: np.ndarray, y: np.ndarray, ends: tuple[float, float], step: float | None) -> None:
    """Histograms of one column over each other; bars of integers, and of few rounded values, stand on the values."""
    low, high = ends
    bars = min(BINS, max(8, round(3 * len(x) ** (1 / 3))))  # fewer of few rows
    wide = step * ceil((high - low) / step / bars) if step else (high - low) / bars  # as many values in every bar
    edges = low + wide * np.arange(max(1, ceil((high - low) / wide - 1e-6)) + 1)
    shown, drawn = (np.histogram(rows, edges)[0] / max(len(rows), 1) / wide for rows in (x, y))
    axes.stairs(shown, edges, fill=True, color=ORANGE, alpha=0.5, label="data")
    axes.stairs(drawn, edges, color=BLUE, linewidth=1.2, label="samples")
    axes.set(xlim=ends)
    axes.spines[["left"]].set_visible(False)


def _cloud(axes: Any, x: np.ndarray, y: np.ndarray, colour: str, steps: list[float | None]) -> None:
    rng = np.random.default_rng(0)
    x, y = (v + (rng.uniform(-0.3, 0.3, len(v)) * step if step else 0.0) for v, step in zip((x, y), steps, strict=True))
    few = max(1.0, sqrt(500 / max(len(x), 1)))
    axes.scatter(x, y, s=2.5 * few, alpha=min(0.9, 0.35 * few), linewidths=0, color=colour)
    axes.spines[["top", "right"]].set_visible(True)
    for spine in axes.spines.values():
        spine.set_color(INK)
        spine.set_linewidth(0.4)


def _ends(column: np.ndarray, step: float | None) -> tuple[float, float]:
    """As far as nearly all of the data reach, with a margin; of integers and rounded values, half a step behind one."""
    low, high = np.quantile(column, (0.001, 0.999), method="nearest")
    room = 0.06 * max(high - low, 1e-12)
    room = step * (0.5 + room // step) if step else room
    return low - room, high + room


def _liveliest(x: np.ndarray, count: int) -> np.ndarray:
    """The columns with the greatest rank correlations, in the table's order; all of them where they are few."""
    if x.shape[1] <= count:
        return np.arange(x.shape[1])
    from scipy.stats import rankdata

    ranks = rankdata(x[:5000], axis=0)  # ties in between: their order tells nothing
    with np.errstate(invalid="ignore"):  # a column that is constant among these rows
        size = np.nan_to_num(np.abs(np.corrcoef(ranks.T))) * (1 - np.eye(x.shape[1]))
    return np.sort(np.argsort(-size.max(1), kind="stable")[:count])


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:16]}…"
