"""Options: whether the words of a ``data`` page are of the kinds that its source takes."""

from collections.abc import Mapping, Sequence
from inspect import signature
from numbers import Integral, Real
from os import PathLike
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from laminar.refused import Refused, shown

LARGEST = 2**63  # whole numbers are handed on as int64; infinities and NaN are no smaller
KINDS = {
    int: "a whole number below 2^63",
    float: "a number below 2^63",
    bool: "true or false",
    str: "text",
    NoneType: "null",
    Sequence: "a list, each entry ",
    Mapping: "names, each with ",
}


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
            told = "null" if value is None else shown(value)
            raise Refused(f"data.{name}={told} is not what the option holds: it takes {_told(hints[name])}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value, with all that it holds, is of an annotation's kind. Whole numbers are numbers, truth values are not."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if hint is None or hint is NoneType:
        return value is None
    if kind in (int, float):
        small = isinstance(value, Real) and not isinstance(value, bool) and abs(value) < LARGEST
        return small and (kind is float or isinstance(value, Integral))
    if kind in (bool, str):
        return isinstance(value, (str, PathLike) if kind is str else bool)
    if kind is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(fits(part, *inner) for part in value)
    if kind is Mapping:
        names, values = inner
        return isinstance(value, Mapping) and all(fits(key, names) and fits(part, values) for key, part in value.items())
    return not inner or any(fits(value, choice) for choice in inner)


def _told(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return " or ".join(map(_told, get_args(hint)))
    inner = _told(get_args(hint)[-1]) if get_args(hint) else ""
    return KINDS.get(get_origin(hint) or hint, "a value") + inner
