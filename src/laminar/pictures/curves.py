"""Learning curves."""

from pathlib import Path

import numpy as np

from laminar.flows.units import UNITS
from laminar.pictures.figure import BLUE, FAINT, ORANGE, figure


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


def curves(rows: list[dict[str, str]], path: str | Path) -> bool:
    """Draws training and validation against steps, the best validation marked; False where there is nothing to draw.

    ``rows`` are those of metrics.csv: metric -> text, empty where a row has no such metric.
    """
    unit = next((unit for unit in UNITS if any(row.get(f"{s}/{unit}") for row in rows for s in ("train", "val"))), None)
    if unit is None:
        return False
    (steps, train), (val_steps, val) = series(rows, f"train/{unit}"), series(rows, f"val/{unit}")
    with figure(path) as (axes,):
        if len(train):
            axes.plot(steps, train, color=FAINT, alpha=0.25, linewidth=0.7)
            axes.plot(steps, smooth(train, max(1, len(train) // 40)), color=FAINT, linewidth=1.4, label="training")
        if len(val):
            best = val.argmin()
            axes.plot(val_steps, val, color=BLUE, linewidth=1.6, label="validation")
            axes.plot(val_steps[best], val[best], "o", color=ORANGE, markersize=5, label=f"best: {val[best]:.4f}")
        seen = np.concatenate([val, smooth(train, max(1, len(train) // 40))])
        low, high = seen.min(), np.quantile(seen, 0.97)
        room = 0.08 * max(high - low, 1e-3)
        axes.set(xlabel="steps", ylabel=UNITS[unit], ylim=(low - room, high + room))
        axes.grid(True, axis="y")
        axes.legend(loc="upper right")
        axes.set_title("Learning curves")
    return True
