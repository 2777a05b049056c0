"""Space: what a tensor holds, as far as a part must know to be built."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import log2, prod
from typing import Any

import torch
from torch import Tensor

from laminar.refused import Refused

Context = dict[str, Tensor] | None


@dataclass(frozen=True)
class Space:
    """The set that one event lives in.

    ``levels``, ``upper`` and ``rounded`` are one value for all elements, or a tuple with an entry for each element in
    row-major order, as the columns of a mixed table need. A tuple of equal entries counts as the one value.

    Attributes:
        event: shape of one event, without the batch: ``(C, H, W)`` for an image, ``(D,)`` for a vector.
        levels: integers 0 .. levels-1, or None for real numbers.
        upper: for real numbers, the values lie in ``[0, upper)``; None where nothing is known.
        context: name -> shape of what conditions the event, again without the batch.
        blurred: the values only lie around ``[0, upper)``, for noise was added: a scale, and no bound.
        rounded: for real numbers that were rounded to multiples of it, that step; None where they were not.
    """

    event: tuple[int, ...]
    levels: int | tuple[int | None, ...] | None = None
    upper: float | tuple[float | None, ...] | None = None
    context: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    blurred: bool = False
    rounded: float | tuple[float | None, ...] | None = None

    def __post_init__(self):
        object.__setattr__(self, "event", tuple(int(n) for n in self.event))
        object.__setattr__(self, "context", {name: tuple(shape) for name, shape in self.context.items()})
        if not self.event or min(self.event) < 1:
            raise Refused(f"an event needs at least one value, and its shape here is {self.event}")
        for name in ("levels", "upper", "rounded"):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                if len(value) != self.size:
                    raise Refused(f"{name} has {len(value)} entries for the {self.size} values of an event: give one for each")
                object.__setattr__(self, name, value[0] if len(set(value)) == 1 else tuple(value))

    @property
    def size(self) -> int:
        """D, the number of values in one event."""
        return prod(self.event)

    @property
    def discrete(self) -> bool:
        """Whether every value is an integer, so that log p is that of a probability and bits/dim exist."""
        return None not in self.entries("levels")

    @property
    def unit(self) -> str:
        """How scores of these events are told: ``bpd``, bits per dimension of integers, or ``nll``, nats."""
        return "bpd" if self.discrete else "nll"

    @property
    def exact(self) -> bool:
        """Whether every value is a real number as it is: neither an integer nor rounded."""
        return self.levels is None and self.rounded is None

    @property
    def num_bits(self) -> float:
        """Mean log2(levels): what an integer event's value costs under the uniform distribution."""
        entries = self.entries("levels")
        return sum(map(log2, entries)) / len(entries)

    @property
    def top(self) -> float | None:
        """The values lie in ``[0, top)``; None where some element has no known bound."""
        entries = self.entries("upper")
        return None if self.blurred or None in entries else max(entries)

    @property
    def is_image(self) -> bool:
        return len(self.event) == 3

    @property
    def is_vector(self) -> bool:
        return len(self.event) == 1

    def entries(self, name: str) -> tuple:
        """The different ``levels`` or ``upper`` that occur: all of a tuple's, or the one of all elements."""
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value,)

    def per_element(self, name: str, default: float) -> Tensor:
        """``levels`` or ``upper`` as a float64 tensor of the event's shape, ``default`` where there is none."""
        entries = [default if entry is None else float(entry) for entry in self.entries(name)]
        return torch.tensor(entries, dtype=torch.float64).expand(self.size).reshape(self.event)

    def reshaped(self, *event: int) -> "Space":
        """The same kind of values, or some of them, in another shape and order.

        Bounds that differ from element to element are given up, for nobody knows where each went. Levels may not be.
        """
        if isinstance(self.levels, tuple) or isinstance(self.rounded, tuple):
            raise Refused(
                f"elements of different kinds (levels {self.levels}, rounded to {self.rounded}) cannot change places: "
                "dequantize before anything else (dequantization=uniform as the flow's first part)"
            )
        return replace(self, event=event, upper=None if isinstance(self.upper, tuple) else self.upper)

    def flattened(self) -> "Space":
        """The same values in the same order, as a vector."""
        return replace(self, event=(self.size,))

    def reals(self, upper: float | tuple[float | None, ...] | None = None) -> "Space":
        """The same shape over the real numbers, within ``[0, upper)`` if given: what a dequantizer leads to."""
        return replace(self, levels=None, upper=upper, rounded=None)

    def within(self, upper: float | None) -> "Space":
        """The same kind of values within ``[0, upper)``, or anywhere for None."""
        return replace(self, upper=upper, blurred=False)

    def seeing(self, **context: tuple[int, ...]) -> "Space":
        """The same space with more context."""
        return replace(self, context={**self.context, **context})

    def plain(self) -> dict:
        """Lists, numbers and strings only, as a checkpoint stores it; ``Space(**plain)`` reads it back."""
        return _listed(asdict(self))


def rows_of(context: Context, rows: Any, device: torch.device | None = None) -> Context:
    """The context of some rows (a slice, or their numbers), on a device."""
    return context and {name: value[rows].to(device) for name, value in context.items()}


def cloned(context: Context) -> Context:
    """A copy of the context: one made in inference mode can be differentiated outside of it."""
    return context and {name: value.clone() for name, value in context.items()}


def repeated(context: Context, copies: int) -> Context:
    """The context of a batch repeated so many times along its rows."""
    return context and {name: torch.cat([value] * copies) for name, value in context.items()}


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(child) for key, child in value.items()}
    return [_listed(child) for child in value] if isinstance(value, list | tuple) else value
