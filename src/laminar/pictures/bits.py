"""The bits map: what each pixel of an image costs, given all the others."""

from itertools import pairwise
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.draw import at_once
from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.pictures.figure import HEAT, INK, ORANGE, colour_map, figure
from laminar.pictures.sheet import pixels

ALL_LEVELS = 32
SECONDS, TIMED = 3.0, 128  # that a map may take; rows by which a flow's speed is told
Window = tuple[slice, slice]


@torch.no_grad()
def bits_of_pixels(flow: Flow, x: Tensor, context: Context = None, part: Window = (slice(None), slice(None))) -> Tensor:
    """-log2 P(x_i | all other pixels) of images ``(n, C, H, W)``, summed over channels: ``(n, H', W')``, on the CPU.

    Bits/dim have no place within an image, but this conditional cost has: P(x) / sum_v P(x with x_i = v). The sum is
    over all values if there are at most 32, else a trapezoid rule over values that lie denser near x_i. Dequantization
    noise is held at its centre. Every pixel takes one pass for each value; ``part`` says which rows and columns are asked.
    """
    levels, (c, h, w) = flow.space.levels, flow.space.event
    places = [(k, i, j) for k in range(c) for i in range(h)[part[0]] for j in range(w)[part[1]]]
    out = torch.zeros(len(x), c, h, w)
    for n, image in enumerate(x):
        variants, weights, owners = [], [], []
        for place in places:
            values, share = _values(int(image[place]), levels)
            variant = image.repeat(len(values), 1, 1, 1)
            variant[(slice(None), *place)] = torch.from_numpy(values).to(variant.dtype)
            variants.append(variant)
            weights.append(torch.from_numpy(share).double().log())
            owners.append(len(values))
        rows = torch.cat([image[None], *variants])
        with noise.centre():
            chunk = at_once(flow)
            parts = [slice(first, first + chunk) for first in range(0, len(rows), chunk)]
            log_prob = [
                flow.log_prob(rows[part].to(flow.device), rows_of(context, [n] * len(rows[part]), flow.device)).double()
                for part in parts
            ]
        log_prob = torch.cat(log_prob).cpu()
        terms = (log_prob[1:] + torch.cat(weights)).split(owners)
        for place, term in zip(places, terms, strict=True):
            out[(n, *place)] = (term.logsumexp(0) - log_prob[0]) / np.log(2)
    return out.sum(1)[:, *part]


def _values(here: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Values to try around ``here``, and how many of the levels each of them stands for."""
    if levels <= ALL_LEVELS:
        return np.arange(levels), np.ones(levels)
    steps = [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    tried = {here + sign * step for step in steps for sign in (-1, 1)} | {0, levels - 1}
    values = np.array(sorted(v for v in tried if 0 <= v < levels))
    share = np.zeros(len(values))
    for i, (a, b) in enumerate(pairwise(values)):
        # the b - a + 1 integers of [a, b] by the trapezoid rule, ends counted half
        share[i] += (b - a) / 2
        share[i + 1] += (b - a) / 2
    share[[0, -1]] += 0.5
    return values, share


def affordable(flow: Flow, x: Tensor, context: Context = None, seconds: float = SECONDS) -> tuple[int, Window]:
    """How many images, and which part of each, take about so long: as many whole ones as possible, else the middle of one."""
    _, h, w = flow.space.event
    values = min(flow.space.levels, len(_values(flow.space.levels // 2, flow.space.levels)[0]))
    rows = x[:1].repeat(max(1, min(at_once(flow), TIMED)), 1, 1, 1).to(flow.device)
    given = rows_of(context, [0] * len(rows), flow.device)
    with torch.no_grad(), noise.centre():
        flow.log_prob(rows[:1], rows_of(given, slice(1), flow.device))
        began = monotonic()
        flow.log_prob(rows, given).sum().item()  # waits for the device
    pixels = seconds * len(rows) / (monotonic() - began) / (flow.space.event[0] * values)
    if pixels >= h * w:
        return min(len(x), int(pixels / (h * w))), (slice(0, h), slice(0, w))
    side = max(4, int(pixels**0.5))
    return 1, tuple(slice((n - min(side, n)) // 2, (n + min(side, n)) // 2) for n in (h, w))


def bits_map(flow: Flow, x: Tensor, path: str | Path, context: Context = None, seconds: float = SECONDS) -> None:
    """Draws images above the maps of their pixels' bits, in one scale of colours from 0 to the maps' 99th percentile.

    As many of the images as about so many seconds allow; of an expensive flow, the middle of one, framed in the image.
    """
    from matplotlib.patches import Rectangle

    count, part = affordable(flow, x, context, seconds)
    x, (down, right) = x[:count], part
    bits = bits_of_pixels(flow, x, context, part).numpy()
    top, whole = max(np.quantile(bits, 0.99), 1e-9), bits.shape[1:] == x.shape[2:]
    shown = "each pixel" if whole else f"the middle {bits.shape[1]} x {bits.shape[2]} pixels"
    rows = 1 if count == 1 else 2  # one image stands beside its map
    with figure(path, 2 * count // rows, (max(6.2, 2.1 * count + 1.0), 2.45 * rows + 0.6 / rows), rows) as panels:
        for image, above, below, cost in zip(pixels(x, flow.space.levels), panels[:count], panels[count:], bits, strict=True):
            above.imshow(image, interpolation="nearest")
            drawn = below.imshow(cost, cmap=colour_map(HEAT), vmin=0, vmax=top, interpolation="nearest")
            if not whole:
                corner = (right.start - 0.5, down.start - 0.5)
                above.add_patch(Rectangle(corner, cost.shape[1], cost.shape[0], fill=False, edgecolor=ORANGE, linewidth=1.2))
            below.set_xlabel(f"{cost.mean():.2f} bits a pixel", color=INK)
            for axes in (above, below):
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
        panels[0].set_title(f"Bits of {shown} given all the others: -log₂ P(xᵢ | rest)")
        bar = below.figure.colorbar(drawn, ax=panels[count:], extend="max" if bits.max() > top else "neither", fraction=0.03)
        bar.set_label("bits, sum of channels" if flow.space.event[0] > 1 else "bits")
