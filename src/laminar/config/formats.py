"""Formats: what checkpoints and run folders of older versions say, in today's words."""

from typing import Any

FORMAT = 2

# Since format 2 the modules live in wings. No old prefix begins a path of today, so that translating twice changes nothing.
_WINGS = {
    "flows": (
        *("flow", "space", "transform", "coupling", "mask", "net", "prior", "context", "compose", "layer", "mix", "norm"),
        *("reshape", "preprocessing", "dequantization"),
    ),
    "data": ("datamodule",),
    "training": ("objective", "callbacks", "logger", "scheduler", "ddp"),
    "runs": ("sweep",),
}
MOVED = {f"laminar.{name}.": f"laminar.{wing}.{name}." for wing, names in _WINGS.items() for name in names}

# Two pages used to repeat the command line's ``allow``, which is asked of nobody else now.
TRUSTED = ("objective.distillation.Distillation", "target.function.Function")


def translate(config: Any) -> Any:
    """A resolved config of any format, as containers, with every ``_target_`` where it is found today."""
    if isinstance(config, dict):
        gone = {"allow"} if str(config.get("_target_")).endswith(TRUSTED) else ()
        return {
            key: _moved(value) if key == "_target_" else translate(value) for key, value in config.items() if key not in gone
        }
    if isinstance(config, list):
        return [translate(value) for value in config]
    return config


def _moved(target: Any) -> Any:
    old = next((prefix for prefix in MOVED if isinstance(target, str) and target.startswith(prefix)), None)
    return target if old is None else MOVED[old] + target.removeprefix(old)
