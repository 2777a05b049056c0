"""Trajectories: particles on their way from noise to data, through the continuous layers of a 2-D flow."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.compose.chain import links_of
from laminar.flows.draw import some_context
from laminar.flows.flow import Flow
from laminar.flows.layer.continuous import Continuous
from laminar.flows.space import Context, rows_of
from laminar.pictures.densities import MARGIN, bare, scatter
from laminar.pictures.figure import STYLE, figure, hues

SHOWN, PER_SECOND, HELD = 6, 20, 20  # moments in the picture; frames of the animation a second, and of its last moment
LINES = 150  # ways drawn whole


def moves(flow: Flow) -> bool:
    """Whether there are ways to show: a flow of the plane with a continuous layer between data and noise."""
    return flow.space.event == (2,) and any(isinstance(part, Continuous) for part in links_of(flow.transform))


@torch.no_grad()
def ways(flow: Flow, n: int, moments: int = 61, context: Context = None) -> Tensor:
    """Where n draws of the prior are at about so many moments of their way to the data, ``(moments, n, 2)`` on the CPU.

    The moments are equally spaced in each layer's own time; the last is a sample.
    """
    links = list(links_of(flow.transform))
    each = max(1, ceil((moments - 1) / sum(isinstance(part, Continuous) for part in links)))
    shares = [1 - step / each for step in range(each + 1)]
    seen = flow.context(rows_of(some_context(flow, n, context), slice(n), flow.device))
    with noise.keyed(n):
        places = [flow.prior.sample(n)]
        for part in reversed(links):
            if isinstance(part, Continuous):
                places += part.walk(places[-1], shares, seen)[1:]
            else:
                places[-1] = part.inverse(places[-1], seen)
    return torch.stack([place.double().cpu() for place in places])


def trajectories(flow: Flow, path: str | Path, n: int = 2000, context: Context = None, moments: int = 61) -> None:
    """Draws some moments of n particles' way and, last, whole ways into ``path``; the way in motion beside it, as a GIF.

    A particle keeps the colour of its place in the noise.
    """
    places = ways(flow, n, moments, context)
    colour, extent = hues(places[0].numpy()), _extent(places)
    at = np.linspace(0, len(places) - 1, SHOWN).round().astype(int)
    with figure(path, SHOWN + 1, (2.1 * (SHOWN + 1), 2.45)) as panels:
        for axes, moment in zip(panels, at, strict=False):
            scatter(axes, places[moment], _name(moment, len(places)), colour, extent)
        for way, ink in zip(places[:, :LINES].transpose(0, 1).numpy(), colour, strict=False):
            panels[-1].plot(*way.T, color=ink, linewidth=0.5, alpha=0.7)
        panels[-1].set_title(f"{min(n, LINES)} ways")
        bare(panels[-1], extent)
    _animate(places, colour, extent, Path(path).with_suffix(".gif"))


def _animate(places: Tensor, colour: np.ndarray, extent: Sequence[float], path: Path) -> None:
    import matplotlib
    from matplotlib.animation import PillowWriter
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        paper = Figure(figsize=(4, 4.3), dpi=100, layout="constrained")
        axes = paper.subplots()
        scatter(axes, places[0], "", colour, extent)
        writer, dots, part = PillowWriter(fps=PER_SECOND), axes.collections[0], path.with_suffix(".part.gif")
        with writer.saving(paper, str(part), dpi=100):
            for moment in [*range(len(places)), *[len(places) - 1] * HELD]:
                dots.set_offsets(places[moment].numpy())
                axes.set_title(_name(moment, len(places)))
                writer.grab_frame()
        part.replace(path)


def _name(moment: int, count: int) -> str:
    return {0: "noise", count - 1: "samples"}.get(moment, f"{moment / (count - 1):.0%} of the way")


def _extent(places: Tensor) -> tuple[float, float, float, float]:
    """The square around nearly all places, of all moments."""
    low, high = np.quantile(places.numpy(), (0.002, 0.998), axis=1)  # of each moment
    low, high = low.min(0), high.max(0)
    middle, half = (low + high) / 2, (0.5 + MARGIN / 2) * (high - low).max()
    return (middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half)
