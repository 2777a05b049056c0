"""The mask gallery: for every step of a flow, which values of the data's own shape are given and which are moved."""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from laminar.flows.compose.chain import Chain
from laminar.flows.compose.multiscale import Multiscale
from laminar.flows.flow import Flow
from laminar.flows.layer.step import Step
from laminar.flows.transform import Transform
from laminar.pictures.sheet import sheet

GONE, GIVEN, MOVED = (226, 229, 232), (134, 185, 214), (217, 98, 43)


def patterns(flow: Flow) -> Iterator[tuple[int, Tensor]]:
    """(level, pattern) of each step in the order of the flow; patterns have the data's shape.

    0 marks a value that an earlier level let go, 1 one that is given, 2 one that is moved. Found by sending the values'
    places through reshapes, splits and cuts; what mixes values in between (permutations, 1x1 convolutions) is left aside.
    """
    places = torch.arange(flow.space.size, dtype=torch.float64).view(1, *flow.space.event)
    for level, given, moved in _splits(flow.transform, places, 0)[0]:
        pattern = torch.zeros(flow.space.size, dtype=torch.uint8)
        pattern[given.flatten().long()], pattern[moved.flatten().long()] = 1, 2
        yield level, pattern.view(flow.space.event)


def _splits(part: Transform, places: Tensor, level: int) -> tuple[list[tuple[int, Tensor, Tensor]], Tensor]:
    """What every step below ``part`` splits, and the places that leave it."""
    found = []
    if isinstance(part, Chain):
        for child in part.parts:
            below, places = _splits(child, places, level)
            found += below
    elif isinstance(part, Multiscale):
        for number, body in enumerate(part.bodies):
            below, places = _splits(body, places, number)
            found += below
            if number < len(part.cuts):
                places, _ = part.cuts[number].split(places)
        places = places.flatten(1)
    elif isinstance(part, Step):
        found.append((level, *part.partition.split(places)))
    elif part.codomain.event != part.domain.event:
        places = part(places)[0]
    return found, places


def gallery(flow: Flow) -> Image.Image:
    """One row for each level, one cell for each different mask in the order of their first use; channels side by side."""
    rows: dict[int, dict[bytes, np.ndarray]] = {}
    for level, pattern in patterns(flow):
        rows.setdefault(level, {}).setdefault(pattern.numpy().tobytes(), _cell(pattern))
    cells = [np.stack(list(row.values())) for row in rows.values()]
    return sheet(cells, "Masks: blue is given, orange moved, grey let go", [f"level {k + 1}" for k in rows], gap=8)


def _cell(pattern: Tensor) -> np.ndarray:
    """Channels of a pattern side by side as RGB; a vector is one row."""
    planes = pattern if pattern.dim() == 3 else pattern.view(1, 1, -1)
    coloured = np.array([GONE, GIVEN, MOVED], dtype=np.uint8)[planes.numpy()]
    gap = np.full((planes.shape[1], 1, 3), 255, dtype=np.uint8)
    columns = [column for plane in coloured for column in (plane, gap)][:-1]
    return np.concatenate(columns, 1)
