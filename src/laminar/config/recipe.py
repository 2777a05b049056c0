"""Recipes: the one door from config to code. A config, or a checkpoint from a stranger, runs nothing else.

A ``_target_`` is judged by the object that it names and by the place where it stands (``config/slots``), not by its spelling.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from inspect import isclass, isfunction
from sys import modules
from typing import Any

from laminar.config.slots import Slot
from laminar.refused import Refused, shown

WORDS = ("_target_", "_partial_")
_packages: ContextVar[Sequence[str]] = ContextVar("packages", default=())  # those that the build under way may name


def build(config: Any, slot: str, allow: Sequence[str] | None = None, kind: type | None = None, **arguments: Any) -> Any:
    """Builds what a config node describes: ``_target_`` with its arguments; ``_partial_: true`` gives the recipe itself.

    Args:
        slot: the place of the node (``config/slots``): ``flow``, ``data``, ``objective`` ...
        allow: the names of further packages (the option ``allow=[mypackage]``); None takes those of the build under way, for
            what reads another config while it is built.
        kind: what the node's own class must be one of.
        arguments: of the node's own class, instead of the config's.

    Raises:
        Refused: where a ``_target_`` may not stand there, before anything is built, or where one cannot be built.
    """
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    if plain is None:
        return None
    place = Slot(slot, _packages.get() if allow is None else allow)
    found = _found(plain, place, slot)
    _check(found, kind, slot)
    token = _packages.set(place.packages)
    try:
        return _made({**found, **arguments} if arguments else found)
    finally:
        _packages.reset(token)


def cook(recipe: Callable[..., Any], name: str, /, *ingredients: Any, **options: Any) -> Any:
    """What a recipe gives, or a sentence: options that a constructor cannot read end there in errors of every kind."""
    try:
        return recipe(*ingredients, **options)
    except Refused:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise Refused(f"{name} cannot be built from these options ({reason}): HYDRA_FULL_ERROR=1 shows where") from error


def check_targets(config: Any, slot: str, allow: Sequence[str] = ()) -> None:
    """Refuses a config node that names what its slot does not hold. Builds nothing."""
    _found(config, Slot(slot, allow), slot)


def find(target: Any, slot: Slot) -> Any:
    """The class, or marked function, that a ``_target_`` names.

    Its module is imported by its own name, once that is known to be one of the slot's, and never reached through another; the
    object is one that the module shows, and is at home in a module of the slot under the same name.
    """
    parts = target.split(".") if isinstance(target, str) else ()
    name, module = (parts[-1], ".".join(parts[:-1])) if len(parts) > 1 else ("", "")
    if not all(part.isidentifier() and not part.startswith("_") for part in parts) or not slot.holds(module):
        raise slot.outside(target)
    try:
        import_module(module)
    except ImportError as error:
        raise Refused(f"_target_ {shown(target)} cannot be imported: {error}") from error
    if getattr(modules[module], "__name__", None) != module or name not in vars(modules[module]):
        raise Refused(f"_target_ {shown(target)} is not there: {module} has no {name}")
    found = vars(modules[module])[name]
    home = getattr(found, "__module__", None)
    marked = isfunction(found) and (getattr(found, "recipe", False) is True or slot.trusts(module))
    if not (isclass(found) or marked) or not isinstance(home, str) or not slot.holds(home):
        raise slot.outside(target)
    if home not in modules or vars(modules[home]).get(found.__name__) is not found:
        raise slot.outside(target)
    return found


def targets(config: Any) -> Iterable[Any]:
    """Every ``_target_`` below a config node, in reading order."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield config["_target_"]
        config = list(config.values())
    if isinstance(config, Sequence) and not isinstance(config, str):
        for child in config:
            yield from targets(child)


def _found(node: Any, slot: Slot, path: str) -> Any:
    """A node with the objects themselves in the place of their names."""
    if isinstance(node, Mapping):
        strange = [key for key in node if str(key).startswith("_") and key not in WORDS] if "_target_" in node else []
        if strange:
            raise Refused(f"{path} says {shown(strange[0])}, which no recipe reads: _target_ and _partial_ are known")
        return {
            key: find(value, slot) if key == "_target_" else _found(value, slot, f"{path}.{key}") for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [_found(value, slot, f"{path}[{place}]") for place, value in enumerate(node)]
    if isinstance(node, str) and node == "???":
        raise Refused(f"{path} has no value: say {path}=...")
    return node


def _check(node: Any, kind: type | None, slot: str) -> None:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    if kind is not None and not isfunction(target) and not (isclass(target) and issubclass(target, kind)):
        what = getattr(target, "__name__", "no class")
        raise Refused(f"{slot} is built from {what}, which is no {kind.__name__}: choose one of the pages in conf/{slot}")


def _made(node: Any) -> Any:
    if isinstance(node, list):
        return [_made(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    arguments = {key: _made(value) for key, value in node.items() if key not in WORDS}
    if "_target_" not in node:
        return arguments
    target = node["_target_"]
    if node.get("_partial_"):
        return partial(target, **arguments)
    return cook(target, f"{target.__module__}.{target.__name__}", **arguments)
