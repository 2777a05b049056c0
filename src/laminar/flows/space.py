"""Space: what a tensor holds, as far as a part must know to be built."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import log2, prod

from torch import Tensor

from laminar.refused import Refused

Context = dict[str, Tensor] | None


@dataclass(frozen=True)
class Space:
    """The set that one event lives in.

    Attributes:
        event: shape of one event, without the batch: ``(C, H, W)`` for an image, ``(D,)`` for a vector.
        levels: integers 0 .. levels-1, or None for real numbers.
        upper: for real numbers, the values lie in ``[0, upper)``; None where nothing is known.
        context: name -> shape of what conditions the event, again without the batch.
    """

    event: tuple[int, ...]
    levels: int | None = None
    upper: float | None = None
    context: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "event", tuple(int(n) for n in self.event))
        object.__setattr__(self, "context", {name: tuple(shape) for name, shape in self.context.items()})
        if not self.event or min(self.event) < 1:
            raise Refused(f"an event needs at least one value, and its shape here is {self.event}")

    @property
    def size(self) -> int:
        """D, the number of values in one event."""
        return prod(self.event)

    @property
    def num_bits(self) -> float:
        """log2(levels): what an event's value costs under the uniform distribution."""
        return log2(self.levels)

    @property
    def is_image(self) -> bool:
        return len(self.event) == 3

    @property
    def is_vector(self) -> bool:
        return len(self.event) == 1

    def reshaped(self, *event: int) -> "Space":
        """The same kind of values in another shape."""
        return replace(self, event=event)

    def reals(self, upper: float | None = None) -> "Space":
        """The same shape over the real numbers, within ``[0, upper)`` if given: what a dequantizer leads to."""
        return replace(self, levels=None, upper=upper)

    def within(self, upper: float | None) -> "Space":
        """The same kind of values within ``[0, upper)``, or anywhere for None."""
        return replace(self, upper=upper)

    def seeing(self, **context: tuple[int, ...]) -> "Space":
        """The same space with more context."""
        return replace(self, context={**self.context, **context})

    def plain(self) -> dict:
        """Lists, numbers and strings only, as a checkpoint stores it; ``Space(**plain)`` reads it back."""
        return {**asdict(self), "event": list(self.event), "context": {k: list(v) for k, v in self.context.items()}}
