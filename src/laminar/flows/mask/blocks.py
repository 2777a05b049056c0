"""Blocks: two contiguous blocks along one axis, the form that channel, halves and planes share."""

import torch
from torch import Tensor

from laminar.flows.mask.partition import Partition
from laminar.flows.space import Space


class Blocks(Partition):
    """given is the first block along axis ``dim`` of the event and moved the second; flipped, the other way round."""

    def __init__(self, space: Space, flip: bool, dim: int):
        super().__init__(space, flip)
        self.dim = dim + 1  # the batch comes first
        n = space.event[dim]
        self.sizes = [n // 2, n - n // 2]
        first, second = (space.reshaped(*space.event[:dim], size, *space.event[dim + 1 :]) for size in self.sizes)
        self.given, self.moved = (second, first) if flip else (first, second)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.split(self.sizes, self.dim)
        return (second, first) if self.flip else (first, second)

    def merge(self, given: Tensor, moved: Tensor) -> Tensor:
        return torch.cat((moved, given) if self.flip else (given, moved), self.dim)
