"""Signatures: the options of a constructor, read from its source text, for importing torch or Lightning takes seconds.

A class of Laminar's that hands on ``**options`` takes its parents' as well. What a text does not tell (a package that is not
found, an annotation of another kind) is anything.
"""

import ast
import datetime
import os
import pathlib
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from laminar.config.kinds import Part

Definition = ast.ClassDef | ast.FunctionDef | ast.expr
WORDS = {"int": int, "float": float, "bool": bool, "str": str, "None": None}
PATHS = ("pathlib", "os")  # whose classes a config gives as text
LOADED = {module.__name__: module for module in (datetime, pathlib, os)}  # long texts of modules that are there anyway
GENERIC = {"list": Sequence, "tuple": Sequence, "Sequence": Sequence, "dict": Mapping, "Mapping": Mapping}
DEEPEST = 8  # imports from one module to the next, and parents


class Signature(NamedTuple):
    """The kind of each option; ``settled``: those that have a default; ``open``: whether there are others, unknown."""

    options: dict[str, Any]
    settled: frozenset[str]
    open: bool


@cache
def signature(target: str) -> Signature | None:
    """What a ``_target_`` takes, or None where its text is not found."""
    module, _, name = target.rpartition(".")
    home, found = _definition(module, name)
    return _signature(home, found, 0) if isinstance(found, ast.ClassDef | ast.FunctionDef) else None


def _signature(module: str, node: Definition | None, depth: int) -> Signature:
    if isinstance(node, ast.FunctionDef):
        return _arguments(module, node, 0)
    if not isinstance(node, ast.ClassDef) or depth > DEEPEST:
        return Signature({}, frozenset(), True)
    own = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    here = _arguments(module, own, 1) if own else Signature({}, frozenset(), bool(node.bases))
    if not here.open or (own and not module.startswith("laminar.")):  # others' **options go where they like
        return here
    options, settled, is_open = dict(here.options), here.settled, False
    for base in node.bases:
        above = _signature(*_named(module, base), depth + 1)
        options, settled, is_open = above.options | options, settled | above.settled, is_open or above.open
        if not above.open:
            break
    return Signature(options, settled, is_open)


def _arguments(module: str, node: ast.FunctionDef, bound: int) -> Signature:
    """Of a function, without the ``self`` that a method is bound to."""
    given = node.args
    placed = given.posonlyargs + given.args
    with_default = placed[len(placed) - len(given.defaults) :]
    with_default += [named for named, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is not None]
    options = {option.arg: _hint(module, option.annotation, 0) for option in [*placed[bound:], *given.kwonlyargs]}
    return Signature(options, frozenset(option.arg for option in with_default), given.kwarg is not None)


def _hint(module: str, node: ast.expr | None, depth: int) -> Any:
    """An annotation as an object: numbers, text and containers of them; ``Part`` is a class, Any what is not read."""
    if node is None or depth > DEEPEST:
        return Any
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # in quotes
        return _hint(module, ast.parse(node.value, mode="eval").body, depth + 1)
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.BinOp):
        return Union[_hint(module, node.left, depth), _hint(module, node.right, depth)]  # noqa: UP007
    if isinstance(node, ast.Subscript):
        return _generic(module, node, depth)
    if not isinstance(node, ast.Name):
        return Any
    if node.id in WORDS:
        return WORDS[node.id]
    home, found = _definition(module, node.id)
    if isinstance(found, ast.ClassDef):
        return str if home.partition(".")[0] in PATHS else Part
    return _hint(home, found, depth + 1) if isinstance(found, ast.expr) else Any


def _generic(module: str, node: ast.Subscript, depth: int) -> Any:
    name = node.value.id if isinstance(node.value, ast.Name) else ""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        return typing.Literal[tuple(part.value for part in parts if isinstance(part, ast.Constant))]
    inner = [_hint(module, part, depth) for part in parts if not (isinstance(part, ast.Constant) and part.value is ...)]
    if name == "Optional":
        return Optional[inner[0]]  # noqa: UP045
    if name == "Union":
        return Union[tuple(inner)]  # noqa: UP007
    if name == "tuple" and len(inner) == len(parts):  # without "..."
        return tuple[tuple(inner)]
    if GENERIC.get(name) is Sequence:
        return Sequence[Union[tuple(inner)]]  # noqa: UP007
    return Mapping[tuple(inner)] if GENERIC.get(name) is Mapping and len(inner) == 2 else Any


def _named(module: str, node: ast.expr) -> tuple[str, Definition | None]:
    """What an expression such as a parent names, and the module where it stands."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        return _definition(module, node.id)
    return module, None


@cache
def _definition(module: str, name: str, depth: int = 0) -> tuple[str, Definition | None]:
    """A class, a function, or the expression of an alias: in the module, or where it imports the name from."""
    if module in LOADED:
        return module, ast.ClassDef(name) if isinstance(getattr(LOADED[module], name, None), type) else None
    tree, package = _tree(module)
    others = []
    for node in tree.body if depth <= DEEPEST else ():
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and any(isinstance(place, ast.Name) and place.id == name for place in node.targets):
            return module, node.value
        if isinstance(node, ast.ImportFrom):
            parts = module.split(".")[: None if package else -1]
            origin = parts[: len(parts) + 1 - node.level] if node.level else []
            source = ".".join([*origin, *([node.module] if node.module else [])])
            others += [(source, alias.name) for alias in node.names if (alias.asname or alias.name) == name]
            others += [(source, name) for alias in node.names if alias.name == "*"]
    found = (_definition(source, original, depth + 1) for source, original in reversed(others) if source != module)
    return next((place for place in found if place[1] is not None), (module, None))


@cache
def _tree(module: str) -> tuple[ast.Module, bool]:
    """A module's text, parsed, and whether it is a package. Nothing is imported, its package no more than itself."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        spec = None
    for place in spec.submodule_search_locations or () if spec and rest else ():
        base = Path(place, *rest)
        for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
            if path.is_file():
                return ast.parse(path.read_bytes()), path.name == "__init__.py"
    if spec and not rest and str(spec.origin).endswith(".py"):
        return ast.parse(Path(spec.origin).read_bytes()), bool(spec.submodule_search_locations)
    return ast.Module([], []), False
