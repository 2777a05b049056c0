"""Options: whether the words of a ``data`` page are of the kinds that its source takes."""

from collections.abc import Mapping
from inspect import signature
from typing import Any, get_type_hints

from laminar.config.kinds import fits, told
from laminar.refused import Refused, shown


def check_options(source: type, options: Mapping[str, Any]) -> None:
    """Refuses an option that the source's constructors do not know, or of another kind than they say."""
    hints: dict[str, Any] = {}
    for parent in reversed(source.__mro__[:-1]):
        if "__init__" in vars(parent):
            named = list(signature(parent.__init__).parameters.values())[1:]
            hints |= {option.name: Any for option in named if option.kind != option.VAR_KEYWORD}
            hints |= get_type_hints(parent.__init__)
    for name, value in options.items():
        if name not in hints:
            raise Refused(f"data.{name} is no option of {source.__name__}: it takes {', '.join(sorted(hints))}")
        if not fits(value, hints[name]):
            given = "null" if value is None else shown(value)
            raise Refused(f"data.{name}={given} is not what the option holds: it takes {told(hints[name])}")
