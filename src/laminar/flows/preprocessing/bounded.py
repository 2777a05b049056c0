"""What the members of this folder ask of their Space."""

from math import log

import torch
from torch import nn

from laminar.flows.space import Space
from laminar.refused import Refused


def slope_of(space: Space, name: str, length: float) -> tuple[float | nn.Buffer, float]:
    """length / upper, which brings the data's range [0, upper) to an interval of that length, and its log-determinant.

    The range is what dequantization leaves in the Space: one for all elements, or one for each.
    """
    if None in space.entries("upper"):
        raise Refused(
            f"preprocessing={name} rescales values of a known range, and nothing bounds the values here: "
            "choose preprocessing=none for tables and toy sets"
        )
    if not isinstance(space.upper, tuple):
        return length / space.upper, space.size * log(length / space.upper)
    slopes = torch.tensor([length / upper for upper in space.upper], device="cpu")
    return nn.Buffer(slopes.view(space.event), persistent=False), sum(map(log, slopes.tolist()))
