"""Figures: matplotlib without pyplot, so nothing is global, and one style; and what all pictures say that they show."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from laminar.config.whole import whole

INK, FAINT, BLUE, ORANGE, GREEN = "#1c2026", "#787e86", "#2b6ca3", "#d9622b", "#4b8f5a"
HEAT = ("#faf5ee", "#fbe3c0", "#f0a35e", "#c9502d", "#6d1f2e", "#2b0f1f")
SEA = ("#ffffff", "#d5e6f0", "#86b9d6", "#3a7fb0", "#1d4a7d", "#0c2145")

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "grid.color": "#e4e6e9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
}
SUBJECT: ContextVar[str] = ContextVar("subject", default="")


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Inside, every picture bears this line."""
    token = SUBJECT.set(subject)
    try:
        yield
    finally:
        SUBJECT.reset(token)


def subject(config: Mapping[str, Any]) -> str:
    """Which flow on which data, as the command line calls them: ``glow on digits``; its own name of a run that has one."""
    choices, name = config.get("choices") or {}, config.get("name", "default")
    data = choices.get("data") or config["data"]["_target_"].rpartition(".")[2].lower()
    what = f"{choices['flow']} on {data}" if choices.get("flow") else data
    return what if name in ("default", choices.get("experiment")) else f"{name}: {what}"


@contextmanager
def figure(path: str | Path, panels: int = 1, size: tuple[float, float] = (6.4, 4.0), rows: int = 1) -> Iterator[list[Any]]:
    """Axes of ``rows`` rows of panels, row by row; the picture is written to ``path`` at the end of the block.

    Sizes in inches, at 160 dpi.
    """
    import matplotlib
    from matplotlib.figure import Figure

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        paper = Figure(figsize=size, dpi=160, layout="constrained")
        paper.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
        if SUBJECT.get():
            paper.suptitle(SUBJECT.get(), x=0.1 / size[0], horizontalalignment="left", fontsize=8, color=FAINT)
        yield list(np.ravel(paper.subplots(rows, panels)))
        with whole(path) as file:
            paper.savefig(file, format=path.suffix[1:])


def hues(points: np.ndarray) -> np.ndarray:
    """A colour for each point of the plane, ``(N, 2) -> (N, 3)``: its hue the angle about their mean, darker further in."""
    from matplotlib.colors import hsv_to_rgb

    x, y = ((points - points.mean(0)) / points.std(0)).T
    angle, radius = np.arctan2(y, x) / (2 * np.pi) % 1, np.hypot(x, y)
    return hsv_to_rgb(np.stack([angle, np.full_like(angle, 0.8), 0.45 + 0.5 * (radius / 1.8).clip(0, 1)], 1))


def colour_map(ramp: tuple[str, ...]):
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("laminar", ramp)
