"""Declared: uniform noise where the data declare integers or rounded reals, and none where they declare nothing (tables)."""

from laminar.flows.dequantization.none import Reals
from laminar.flows.dequantization.uniform import Uniform
from laminar.flows.recipe import recipe
from laminar.flows.space import Space
from laminar.flows.transform import Transform


@recipe
def declared(space: Space) -> Transform:
    """The transform that a table's Space needs: of real numbers alone the score stays exact."""
    return Reals(space) if space.exact else Uniform(space)
