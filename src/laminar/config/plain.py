"""Plain: what a file may hold that was written by somebody else, before anything looks at it."""

from collections.abc import Iterator, Mapping
from typing import Any

from laminar.refused import Refused, shown

DEEPEST, MOST, LARGEST = 64, 300_000, 2**63


def refuse_unplain(content: Any, name: str) -> None:
    """Containers, numbers and strings, none of which is left to be resolved: a ``${`` would read or build something.

    Raises:
        Refused: where something else is among them, or more, or deeper, than a config is.
    """
    for key, value in walk(content, name):
        if isinstance(value, dict):
            for word in value:
                _refuse_leaf(word, key, name)
        elif not isinstance(value, list | tuple):
            _refuse_leaf(value, key, name)


def walk(content: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """Every value in and below a container, with the last key that led there. Refuses one that holds itself, or ever more."""
    stack = [(None, content, 0)]
    for _ in range(MOST):
        if not stack:
            return
        key, node, depth = stack.pop()
        if depth > DEEPEST:
            break
        yield key, node
        if isinstance(node, dict):
            stack += [(word, value, depth + 1) for word, value in reversed(node.items())]
        elif isinstance(node, list | tuple):
            stack += [(key, value, depth + 1) for value in reversed(node)]
    raise Refused(f"{name} is not of a run: something in it holds itself, or more than {MOST:,} entries")


def refuse_incomplete(config: Any, needed: Mapping[str, type | tuple[type, ...]], name: str) -> None:
    """Refuses what lacks an entry that a reader needs, or has it in another form."""
    if not isinstance(config, dict):
        raise Refused(f"{name} is not the config of a run: it is a {type(config).__name__}, and that is a mapping")
    for key, kinds in needed.items():
        if key not in config:
            raise Refused(f"{name} is not the config of a run: it does not say {key}")
        if type(config[key]) not in (kinds if isinstance(kinds, tuple) else (kinds,)):
            raise Refused(f"{name} is not the config of a run: its {key} is {shown(config[key])}")


def _refuse_leaf(value: Any, key: Any, name: str) -> None:
    where = f"{name}, {shown(key)}" if key is not None else name
    if value is not None and type(value) not in (bool, int, float, str):
        raise Refused(f"{where}, holds a {type(value).__name__}: a run's config is made of numbers and strings")
    if type(value) is int and abs(value) >= LARGEST:
        raise Refused(f"{where}, holds a number of more than 64 bits: take it out")
    if isinstance(value, str) and "${" in value:
        raise Refused(f"{where}, leaves {shown(value)} to be resolved: take it out, for a run's config is resolved")
