"""Scheme: the program of one level, which partitions in which order, and what reshapes between them."""

from collections.abc import Callable, Sequence
from functools import partial

from laminar.flows.transform import Recipe, Transform
from laminar.refused import Refused


class Scheme:
    """A list of entries: a reshape's recipe, or ``[partition, times]`` for that many steps whose flips alternate.

    Args:
        every: the entries of each level.
        then: the entries of the second level, the fourth and so on, where they differ.
        last: the entries of the last level, where it differs.
    """

    def __init__(self, every: Sequence, then: Sequence | None = None, last: Sequence | None = None):
        self.every, self.then, self.last = every, then, last

    def __call__(self, step: Callable[..., Transform], level: int, last: bool) -> list[Recipe]:
        """The recipes ``(space) -> Transform`` of a level, counted from 0, for a step of recipe ``(space, mask)``."""
        entries = self.every if self.then is None or level % 2 == 0 else self.then
        entries = self.last if last and self.last is not None else entries
        if level == 0 and not entries:
            raise Refused(
                "this mask moves nothing on the last level, and there is no other: choose multiscale=interlaced or halves, "
                "with size.levels=2 or more"
            )
        recipes = []
        for entry in entries:
            if callable(entry):
                recipes.append(entry)
            else:
                partition, times = entry
                flipped = partition.keywords.get("flip", False)
                recipes += [partial(step, mask=partial(partition, flip=flipped ^ bool(i % 2))) for i in range(times)]
        return recipes
