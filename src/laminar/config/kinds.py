"""Kinds: whether a value of a config is what an annotation says, and how a sentence names that."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from laminar.config.near import either

LARGEST = 2**63  # whole numbers are handed on as int64; infinities and NaN are no smaller
KINDS = {
    int: "a whole number below 2^63",
    float: "a number below 2^63",
    str: "text",
    NoneType: "null",
    Sequence: "a list, each entry ",
    Mapping: "names, each with ",
}


class Part:
    """An annotation that is a class: its value is built from a node with a ``_target_``."""


def fits(value: Any, hint: Any) -> bool:
    """Whether a value, with all that it holds, is of an annotation's kind. Whole numbers are numbers, truth values are not."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if hint is None or hint is NoneType:
        return value is None
    if hint is Part:
        return isinstance(value, Mapping) and "_target_" in value
    if kind in (int, float):
        small = isinstance(value, Real) and not isinstance(value, bool) and abs(value) < LARGEST
        return small and (kind is float or isinstance(value, Integral))
    if kind in (bool, str):
        return isinstance(value, (str, PathLike) if kind is str else bool)
    if kind is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if kind is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(fits(part, *inner) for part in value)
    if kind is tuple:
        return isinstance(value, Sequence) and len(value) == len(inner) and all(map(fits, value, inner))
    if kind is Mapping:
        names, values = inner
        return isinstance(value, Mapping) and all(fits(key, names) and fits(part, values) for key, part in value.items())
    return not inner or any(fits(value, choice) for choice in inner)


def told(hint: Any, number: str | None = None) -> str:
    """The kind in words: ``a whole number below 2^63 or null``; ``number`` is what is said of numbers instead."""
    return either(_names(hint, number)) if hint is not Any else "a value"


def _names(hint: Any, number: str | None) -> list[str]:
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return [name for choice in inner if choice is not Part for name in _names(choice, number)]
    if kind is Literal:
        return [*map(str, inner)]
    if kind is bool:
        return ["true", "false"]
    if kind is tuple:
        return [f"a list of {len(inner)}, each entry {told(inner[-1], number)}"]
    if kind in (int, float) and number is not None:
        return [number]
    return [KINDS.get(kind, "a value") + (told(inner[-1], number) if inner else "")]
