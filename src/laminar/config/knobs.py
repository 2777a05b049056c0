"""Which of a config's top-level keys mean something: the command's own, and what the flow's recipe reads."""

import re
from typing import Any

from laminar.refused import Refused

OWN = {
    *("task_name", "name", "tags", "seed", "train", "test", "ckpt_path", "resume", "optimized_metric", "published"),
    *("num_samples", "compile", "flow", "dequantization", "preprocessing", "data", "objective", "optimizer", "scheduler"),
    *("trainer", "callbacks", "logger", "allow", "size"),
}

_WORD = re.compile(r"[\w.]+")


def refuse_unread(config: dict[str, Any]) -> None:
    """Refuses a top-level key of an unresolved config that nothing reads: a knob that would silently do nothing."""
    read = _reached(config, "flow", set())
    for key in config:
        if key not in OWN | read:
            raise Refused(
                f"{key} would change nothing: this flow reads {', '.join(sorted(read - {'flow', 'size'}))}, "
                f"and laminar-train {', '.join(sorted(OWN))}"
            )


def _reached(config: dict[str, Any], key: str, seen: set[str]) -> set[str]:
    """``key`` and every top-level key that interpolations below it lead to."""
    seen.add(key)
    for text in _interpolations(config.get(key)):
        for word in _WORD.findall(text):
            root = word.split(".")[0]
            if root in config and root not in seen:
                _reached(config, root, seen)
    return seen


def _interpolations(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for child in node.values() for text in _interpolations(child)]
    if isinstance(node, list):
        return [text for child in node for text in _interpolations(child)]
    return [node] if isinstance(node, str) and "${" in node else []
