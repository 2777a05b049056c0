"""Laminar: normalizing flows out of one small set of parts, trained by one command."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load": "runs.library",
    "build": "runs.library",
    "Flow": "flows.flow",
    "Space": "flows.space",
    "Score": "flows.rows",
    "Transform": "flows.transform",
    "Chain": "flows.compose.chain",
    "Step": "flows.layer.step",
    "bridge": "flows.bridge",
    "initialising": "flows.initialise",
    "Refused": "refused",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for: ``import laminar`` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'laminar' has no attribute {name!r}")
    return getattr(import_module(f"laminar.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
