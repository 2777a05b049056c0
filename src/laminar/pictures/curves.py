"""Learning curves."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from laminar.flows.units import UNITS
from laminar.pictures.figure import BLUE, FAINT, ORANGE, figure

FEW = 40


def series(rows: list[dict[str, str]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one metric."""
    pairs = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
    pairs = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return tuple(pairs[np.isfinite(pairs[:, 1])].T)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of the last ``window`` values, fewer at the start."""
    sums = np.concatenate(([0.0], values.cumsum()))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def curves(rows: list[dict[str, str]], path: str | Path, final: Mapping[str, float] | None = None) -> bool:
    """Draws training and validation against steps, the best validation marked; False where there is nothing to draw.

    Args:
        rows: those of metrics.csv: metric -> text, empty where a row has no such metric.
        final: the numbers of the validation that the run reports, of its best weights; a line across.
    """
    from matplotlib.ticker import MaxNLocator

    final = final or {}
    told = {name for row in rows for name, text in row.items() if text} | {*final}
    unit = next((unit for unit in UNITS if {f"train/{unit}", f"val/{unit}"} & told), None)
    if unit is None:
        return False
    (steps, train), (val_steps, val) = series(rows, f"train/{unit}"), series(rows, f"val/{unit}")
    smoothed, reported = smooth(train, max(1, len(train) // 40)), final.get(f"val/{unit}", np.nan)
    with figure(path) as (axes,):
        if len(train):
            axes.plot(steps, train, color=FAINT, alpha=0.25, linewidth=0.7)
            axes.plot(steps, smoothed, _mark(train), color=FAINT, linewidth=1.4, markersize=3, label="training")
        if len(val):
            best = val.argmin()
            axes.plot(val_steps, val, _mark(val), color=BLUE, linewidth=1.6, markersize=4, label="validation")
            axes.plot(val_steps[best], val[best], "o", color=ORANGE, markersize=6, label=f"best: {val[best]:.4f}")
        if np.isfinite(reported) and not np.isclose(reported, val, rtol=1e-6).any():
            axes.axhline(reported, color=ORANGE, linewidth=0.9, linestyle="--", label=f"reported: {reported:.4f}")
        seen = np.concatenate([val, smoothed, [reported] * bool(np.isfinite(reported))])
        if len(seen):
            low, high = seen.min(), seen.max() if len(seen) <= FEW else np.quantile(seen, 0.97)
            room = 0.08 * max(high - low, 0.01 * abs(low), 1e-3)
            axes.set_ylim(low - room, high + room)
        axes.set(xlabel="steps", ylabel=UNITS[unit], title="Learning curves")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(True, axis="y")
        axes.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none")
    return True


def _mark(values: np.ndarray) -> str:
    """Few points are seen as such."""
    return "o-" if len(values) <= FEW else "-"
