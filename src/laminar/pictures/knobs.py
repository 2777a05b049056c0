"""Knobs: the scores of a sweep against each option that varied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log10
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from laminar.pictures.figure import BLUE, FAINT, INK, ORANGE, figure

WIDE = 8  # times the least number, where the axis of few becomes logarithmic; of many, four times as many
COLOURED = 7  # values of a second knob that are told apart
BESIDE = 0.16  # of the way to the next value: how far a mean stands from its seeds
FAR = 100  # times the median's distance from the best, beyond which a score is shown at the edge


@dataclass(frozen=True)
class Entry:
    """A setting of the knobs, and its scores, one a seed."""

    knobs: Mapping[str, str]
    scores: Sequence[float]


def knobs(entries: Sequence[Entry], names: Sequence[str], score: str, path: str | Path) -> None:
    """Draws a panel for each knob of ``names``: seeds as points, their mean and its standard error beside them.

    Numbers stand on an axis of numbers, a logarithmic one where they span decades; words beside each other. Of two knobs, each
    panel tells the other's values apart by colour.
    """
    across = min(3, len(names))
    down = ceil(len(names) / across)
    scores = np.array([value for entry in entries for value in entry.scores])
    with figure(path, across, (max(6.0, 4.6 * across), 3.8 * down), down) as panels:
        for axes, name in zip(panels, names, strict=False):
            others = [other for other in names if other != name]
            hue = others[0] if len(names) == 2 and len({entry.knobs[others[0]] for entry in entries}) <= COLOURED else None
            _panel(axes, entries, name, hue)
            axes.set(xlabel=name, ylabel=score)
            axes.grid(True, axis="y")
            _cut(axes, scores)
        for axes in panels[len(names) :]:
            axes.set_axis_off()


def _panel(axes: Any, entries: Sequence[Entry], name: str, hue: str | None) -> None:
    places, step = _axis(axes, [entry.knobs[name] for entry in entries])
    kinds = list(dict.fromkeys(sorted((entry.knobs[hue] for entry in entries), key=_order))) if hue else [None]
    for number, kind in enumerate(kinds):
        mine = sorted(
            ((places[entry.knobs[name]], entry.scores) for entry in entries if hue is None or entry.knobs[hue] == kind),
            key=lambda pair: pair[0],
        )
        colour = f"C{number}" if hue else BLUE
        shift = (number - (len(kinds) - 1) / 2) * 2 * BESIDE / len(kinds) * step
        seeds = np.array([(at + shift, value) for at, scores in mine for value in scores])
        axes.plot(*seeds.T, "o", color=colour, markersize=4, alpha=0.55, markeredgewidth=0)
        several = [(at + shift + BESIDE / len(kinds) * step, scores) for at, scores in mine if len(scores) > 1]
        if several:
            at, scores = zip(*several, strict=True)
            means, errors = [fmean(s) for s in scores], [stdev(s) / len(s) ** 0.5 for s in scores]
            axes.errorbar(at, means, errors, fmt="D", color=colour if hue else ORANGE, markersize=4, capsize=3, linewidth=1.2)
        axes.plot([], [], "o", color=colour, markersize=4, label=kind if hue else "one run")
        if several and not hue:
            axes.plot([], [], "D", color=ORANGE, markersize=4, label="mean ± s.e. over seeds")
    if hue or any(len(entry.scores) > 1 for entry in entries):
        axes.legend(title=hue, fontsize=7.5, loc="best", frameon=True, framealpha=0.85, edgecolor="none")


def _axis(axes: Any, words: Sequence[str]) -> tuple[dict[str, float], float]:
    """Where each value stands, and how far two neighbours are apart."""
    values = sorted(set(words), key=_order)
    numbers = [_number(word) for word in values]
    if None in numbers or len(values) < 2:
        axes.set_xticks(range(len(values)), [_short(word) for word in values], color=INK)
        axes.set_xlim(-0.6, len(values) - 0.4)
        if sum(len(_short(word)) for word in values) > 34:
            axes.tick_params(axis="x", rotation=30)
        return {word: float(place) for place, word in enumerate(values)}, 1.0
    few = len(values) <= 8
    decades = min(numbers) > 0 and max(numbers) / min(numbers) >= (WIDE if few else 4 * WIDE)
    at = [log10(number) if decades else number for number in numbers]
    step = float(np.diff(at).min())
    if few:
        ticks = [(place, f"{number:g}") for place, number in zip(at, numbers, strict=True)]
    elif decades:
        ticks = [(power, f"1e{power}") for power in range(ceil(at[0]), int(at[-1] // 1) + 1)]
    else:
        ticks = []
    if ticks:
        axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
    axes.margins(x=0.12)
    return dict(zip(values, at, strict=True)), min(step, (at[-1] - at[0]) / len(values))


def _cut(axes: Any, scores: np.ndarray) -> None:
    """An axis that shows what differs: scores that dwarf it are triangles at its upper edge."""
    low, middle, high = scores.min(), np.median(scores), scores.max()
    if high - low <= FAR * max(middle - low, 1e-9) or middle == low:
        return
    room = 6 * (middle - low)
    axes.set_ylim(low - 0.1 * room, low + room)
    shown = {(x, y) for line in axes.lines if line.get_marker() == "o" for x, y in zip(*line.get_data(), strict=True)}
    for x, y in sorted(shown):
        if y > low + room:
            axes.plot(x, low + room, "^", color=FAINT, markersize=6, clip_on=False)
            axes.annotate(f"{y:.4g}", (x, low + room), (0, 5), textcoords="offset points", ha="center", fontsize=7)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _order(word: str) -> tuple[float, str]:
    number = _number(word)
    return (float("inf") if number is None else number, word)


def _short(word: str) -> str:
    return (word or "default") if len(word) <= 18 else f"{word[:16]}…"
