"""Scheme: the program of one level, which partitions in which order, and what reshapes between them."""

from collections.abc import Callable, Sequence
from functools import partial

from laminar.flows.transform import Recipe, Transform


class Scheme:
    """A list of entries: a reshape's recipe, or ``[partition, times]`` for that many steps whose flips alternate.

    Args:
        every: the entries of each level.
        last: the entries of the last level, where it differs.
    """

    def __init__(self, every: Sequence, last: Sequence | None = None):
        self.every = every
        self.last = every if last is None else last

    def __call__(self, step: Callable[..., Transform], last: bool) -> list[Recipe]:
        """The level's recipes ``(space) -> Transform``, for a step of recipe ``(space, mask)``."""
        recipes = []
        for entry in self.last if last else self.every:
            if callable(entry):
                recipes.append(entry)
            else:
                partition, times = entry
                flipped = partition.keywords.get("flip", False)
                recipes += [partial(step, mask=partial(partition, flip=flipped ^ bool(i % 2))) for i in range(times)]
        return recipes
