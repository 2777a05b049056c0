"""The bits map: what each pixel of an image costs, given all the others."""

from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from laminar.flows import noise
from laminar.flows.draw import at_once
from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.pictures.figure import HEAT, colours
from laminar.pictures.sheet import pixels, sheet

ALL_LEVELS = 32


@torch.no_grad()
def bits_of_pixels(flow: Flow, x: Tensor, context: Context = None, stride: int = 1) -> Tensor:
    """-log2 P(x_i | all other pixels) of images ``(n, C, H, W)``, summed over channels: ``(n, H', W')``, on the CPU.

    Bits/dim have no place within an image, but this conditional cost has: P(x) / sum_v P(x with x_i = v). The sum is
    over all values if there are at most 32, else a trapezoid rule over values that lie denser near x_i. Dequantization
    noise is held at its centre. Every pixel takes one pass for each value, so ``stride`` skips rows and columns.
    """
    levels, (c, h, w) = flow.space.levels, flow.space.event
    places = [(k, i, j) for k in range(c) for i in range(0, h, stride) for j in range(0, w, stride)]
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
    return out.sum(1)[:, ::stride, ::stride]


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


def bits_map(flow: Flow, x: Tensor, context: Context = None, stride: int = 1) -> Image.Image:
    """Images above the maps of their pixels' bits, pale to dark from 0 to the sheet's 99th percentile."""
    bits = bits_of_pixels(flow, x, context, stride).numpy()
    top = max(np.quantile(bits, 0.99), 1e-9)
    maps = colours((bits / top).clip(0, 1), HEAT).repeat(stride, 1).repeat(stride, 2)[:, : x.shape[-2], : x.shape[-1]]
    title = f"Bits of each pixel given all the others, -log₂ P(xᵢ | rest): mean {bits.mean():.2f}, darkest {top:.1f}"
    return sheet([pixels(x, flow.space.levels), maps], title, ["image", "bits"])
