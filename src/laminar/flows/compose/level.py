"""Level: a scheme's program as a transform."""

from collections.abc import Callable

from laminar.flows.compose.chain import Chain
from laminar.flows.mask.scheme import Scheme
from laminar.flows.space import Space
from laminar.flows.transform import Transform


class Level(Chain):
    """The steps and reshapes of one level, in the scheme's order; the event keeps its shape as an image.

    Args:
        scheme: the program.
        step: recipe ``(space, mask)`` of its steps.
        level: its number, from 0.
        last: whether it is the last level, which a scheme may treat apart.
    """

    def __init__(self, space: Space, scheme: Scheme, step: Callable[..., Transform], level: int = 0, last: bool = True):
        super().__init__(space, scheme(step, level, last))
