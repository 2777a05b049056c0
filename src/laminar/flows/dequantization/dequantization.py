"""Dequantization: the way from integers to reals, and back to the nearest level."""

import torch
from torch import Tensor

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Dequantization(Transform):
    """From integers x in 0 .. levels-1 to reals z; back to the level that z is nearest to, ``floor(z + rounding)``.

    Reals that were rounded to multiples of a step lead to the interval of that length around them, and back to the nearest
    multiple: their number is the log of the mean density over the interval, in their own units. All other elements (the real
    columns of a mixed table) stay as they are.

    Attributes:
        unit: what the flow's number is called where it is none of the integers themselves, and so neither bits/dim nor a
            likelihood to compare with; None where it is theirs.
        sigma: of Gaussian noise that samples carry, in stored units, per element or for all; None where they carry none.
        rounding: 1/2, or 0 where z = x + u with u in [0, 1).
    """

    unit: str | None = None
    sigma: Tensor | None = None
    rounding = 0.5

    def __init__(self, space: Space, name: str):
        if space.exact:
            raise Refused(
                f"dequantization={name} is for integers, and the data are real numbers already: choose dequantization=none"
            )
        self.mixed = isinstance(space.levels, tuple) or space.rounded is not None
        super().__init__(space, space.reals(upper=_ends(space) if self.mixed else float(space.levels)))
        levels, step = torch.tensor(0.0 if self.mixed else float(space.levels)), torch.zeros(())
        if self.mixed:
            levels, step = (space.per_element(name, default=0.0).to(step.dtype) for name in ("levels", "rounded"))
        self.register_buffer("levels", levels, persistent=False)  # 0 for a real element; carries the flow's precision
        self.register_buffer("step", step, persistent=False)  # 0 for an element that was not rounded

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        integers = torch.floor(z + self.rounding)
        if self.mixed:
            reals = torch.where(self.step > 0, torch.round(z / self.step) * self.step, z)
            return torch.where(self.levels > 0, torch.minimum(integers.clamp(min=0), self.levels - 1), reals)
        integers = integers.clamp(0, self.domain.levels - 1)
        return integers.to(torch.uint8 if self.domain.levels <= 256 else torch.int64)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        raise Refused(
            f"{type(self).__name__} draws on its way, or rounds on the way back, so its inverse has no log-det: samples carry "
            "their log-prob behind it alone, by flow.density()"
        )

    def outside(self, z: Tensor) -> Tensor:
        """Which rows hold a value that ``inverse`` would clamp into the data's range, ``(B,)``: the flow's leak."""
        integers = z + self.rounding  # before they are rounded down
        return (((integers < 0) | (integers >= self.levels)) & (self.levels > 0)).flatten(1).any(1)


def _ends(space: Space) -> tuple[float | None, ...]:
    """Where each element's range ends, integers being followed by a unit interval each."""
    bounds = space.upper if isinstance(space.upper, tuple) else (space.upper,) * space.size
    levels = space.levels if isinstance(space.levels, tuple) else (space.levels,) * space.size
    return tuple(bound if count is None else float(count) for count, bound in zip(levels, bounds, strict=True))
