"""Recipe: the mark of a plain function that a page of config may name. Classes need none."""

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable)


def recipe(function: F) -> F:
    """Decorates a function that may stand as a ``_target_``, where it belongs."""
    function.recipe = True
    return function
