"""Partition: which values of an event are given and which are moved."""

from torch import Tensor

from laminar.space import Space


class Partition:
    """Splits an event into two dense parts. Stateless; ``flip`` swaps the parts' roles.

    Attributes:
        given, moved: the Spaces of the two parts.
        seen: the Space of ``show(given)``, what a net sees.
        asked: the Space that a net's parameters have before ``pick`` brings them to ``moved``.
    """

    given: Space
    moved: Space

    def __init__(self, space: Space, flip: bool = False):
        self.space, self.flip = space, flip

    @property
    def seen(self) -> Space:
        return self.given

    @property
    def asked(self) -> Space:
        return self.moved

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, *event)`` -> given, moved."""
        raise NotImplementedError

    def merge(self, given: Tensor, moved: Tensor) -> Tensor:
        """The inverse of ``split``."""
        raise NotImplementedError

    def show(self, given: Tensor) -> Tensor:
        """What the net sees of the given part."""
        return given

    def pick(self, params: Tensor) -> Tensor:
        """From ``(B, arity, *asked.event)`` the parameters of the moved part, ``(B, arity, *moved.event)``."""
        return params
