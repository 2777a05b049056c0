"""Scales: blocks that take events whole, at one resolution after another (i-ResNet and Residual Flows)."""

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature

from laminar.flows.compose.multiscale import Multiscale
from laminar.flows.space import Space
from laminar.flows.transform import Recipe, Transform
from laminar.refused import Refused


class Scales(Multiscale):
    """From an image to one flat noise vector: ``levels`` times ``steps`` copies of a block, squeezes between them.

    Args:
        block: recipes of a block's parts. Of the very first block, the part that has an option ``first`` is told so.
        steps: blocks of each level.
        start: recipes before the first block.
        end: recipes after the last.
        squeeze: recipe of what leads to the next resolution.
        at: where a level squeezes, at its ``start`` (the first level too) or at its ``end`` (all but the last).
        halves: whether every level but the last lets half of its channels go; else nothing goes before the end.
    """

    def __init__(
        self,
        space: Space,
        block: Sequence[Recipe],
        squeeze: Recipe,
        steps: int = 16,
        levels: int = 3,
        start: Sequence[Recipe] = (),
        end: Sequence[Recipe] = (),
        at: str = "end",
        halves: bool = False,
    ):
        if min(steps, levels) < 1:
            raise Refused(f"size.steps={steps} blocks at size.levels={levels} resolutions: take 1 or more of each")
        if at not in ("start", "end"):
            raise Refused(f"multiscale.at is start or end, not {at!r}")
        programs = []
        for level in range(levels):
            program = [part for step in range(steps) for part in (_first(block) if level + step == 0 else block)]
            program = [*start, *program] if level == 0 else program
            if at == "start":
                program = [squeeze, *program]
            elif level < levels - 1:
                program = [*program, squeeze]
            programs.append(program)
        programs[-1] += end
        if not halves:
            programs = [[part for program in programs for part in program]]
        told = iter(programs)
        super().__init__(space, lambda step, level, last: next(told), _nothing, len(programs))


def _first(block: Sequence[Recipe]) -> list[Recipe]:
    return [partial(part, first=True) if "first" in signature(part).parameters else part for part in block]


def _nothing(space: Space, mask: Callable) -> Transform:
    raise Refused("a scale has no mask")
