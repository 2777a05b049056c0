"""Chain: transforms one after another."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from laminar.flows.recompute import RECOMPUTED, kept
from laminar.flows.space import Context, Space
from laminar.flows.transform import Recipe, Transform


class Chain(Transform):
    """z = f_n(... f_1(x)): contributions add up. Built of recipes, each cooked with the codomain of the one before.

    Without parts it is the identity.

    Attributes:
        memory: what training keeps of its parts for the way back, and ``keeps`` those that keep all: see ``flows/memory``.
    """

    memory = "store"
    keeps: Sequence[bool] = ()

    def __init__(self, space: Space, parts: Sequence[Recipe]):
        built, here = [], space
        for recipe in parts:
            built.append(recipe(here))
            here = built[-1].codomain
        super().__init__(space, here)
        self.parts = nn.ModuleList(built)

    @classmethod
    def of(cls, space: Space, parts: Sequence[Transform]) -> "Chain":
        """A chain of parts that exist: a view of them, with their weights."""
        return cls(space, [lambda space, part=part: part for part in parts])

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        if self.memory != "store" and self.training and torch.is_grad_enabled():
            total = torch.zeros(len(x), device=x.device)
            for keeps, parts in groupby(self.parts, key=dict(zip(self.parts, self.keeps, strict=True)).get):
                x, contribution = (kept if keeps else RECOMPUTED[self.memory])([*parts], x, context)
                total = total + contribution
            return x, total
        return kept(self.parts, x, context)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        for part in reversed(self.parts):
            z = part.inverse(z, context)
        return z

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(z), device=z.device)
        for part in reversed(self.parts):
            z, log_det = part.inverse_with_log_det(z, context)
            total = total + log_det
        return z, total


def links_of(transform: Transform) -> Iterator[Transform]:
    """The parts of a chain, and of the chains among them, in order; any other transform is a link itself."""
    if isinstance(transform, Chain):
        for part in transform.parts:
            yield from links_of(part)
    else:
        yield transform
