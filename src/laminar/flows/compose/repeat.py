"""Repeat: a list of parts, several times over."""

from collections.abc import Sequence

from laminar.flows.compose.chain import Chain
from laminar.flows.space import Space
from laminar.flows.transform import Recipe
from laminar.refused import Refused


class Repeat(Chain):
    """``times`` copies of ``parts`` one after another, each with weights of its own: what flows repeat without a mask."""

    def __init__(self, space: Space, parts: Sequence[Recipe], times: int):
        if times < 1:
            raise Refused(f"a flow of {times} repeated steps has no parts: take size.steps=1 or more")
        super().__init__(space, [*parts] * times)
