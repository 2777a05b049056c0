"""Parity: every other value of a vector (NICE, https://arxiv.org/abs/1410.8516)."""

import torch
from torch import Tensor

from laminar.flows.mask.partition import Partition, vectors_only
from laminar.flows.space import Space
from laminar.refused import Refused


class Parity(Partition):
    """given = x[0::2], moved = x[1::2] of a vector ``(D,)``; flipped, the other way round."""

    def __init__(self, space: Space, flip: bool = False):
        super().__init__(space, flip)
        vectors_only("parity", space)
        n = space.event[0]
        if n < 2:
            raise Refused("mask=parity would move nothing, because the event has one value: choose data with more of them")
        even, odd = space.reshaped((n + 1) // 2), space.reshaped(n // 2)
        self.given, self.moved = (odd, even) if flip else (even, odd)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        even, odd = x[:, 0::2], x[:, 1::2]
        return (odd, even) if self.flip else (even, odd)

    def merge(self, given: Tensor, moved: Tensor) -> Tensor:
        even, odd = (moved, given) if self.flip else (given, moved)
        pairs = torch.stack((even[:, : odd.shape[1]], odd), -1).flatten(1)
        return pairs if even.shape == odd.shape else torch.cat((pairs, even[:, -1:]), 1)
