"""What the members of this folder ask of their Space."""

from laminar.flows.space import Space
from laminar.refused import Refused


def upper_of(space: Space, name: str) -> float:
    """The upper end of the data's range, which dequantization leaves in the Space."""
    if space.upper is None:
        raise Refused(
            f"preprocessing={name} rescales values of a known range, and nothing bounds the values here: "
            "choose preprocessing=none for tables and toy sets"
        )
    return space.upper
