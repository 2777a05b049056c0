"""Partition: which values of an event are given and which are moved."""

from copy import copy

from torch import Tensor

from laminar.flows.space import Space
from laminar.refused import Refused


def images_only(mask: str, space: Space) -> None:
    if not space.is_image:
        raise Refused(
            f"mask={mask} splits images, and the event here has shape {space.event}: choose a flow for vectors "
            "(flow=realnvp_flat, flow=rqnsf), with mask=halves or mask=parity"
        )


def vectors_only(mask: str, space: Space) -> None:
    if not space.is_vector:
        raise Refused(
            f"mask={mask} splits vectors, and the event here is an image of shape {space.event}: "
            "choose mask=checkerboard or mask=channel, or a flow that flattens (flow=nice, flow=realnvp_flat)"
        )


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

    def within(self, upper: float | None) -> "Partition":
        """The same partition of values within another range."""
        other = copy(self)
        other.space, other.given, other.moved = (space.within(upper) for space in (self.space, self.given, self.moved))
        return other

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
