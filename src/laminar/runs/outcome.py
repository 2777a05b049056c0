"""How a run ends, in one word: its score, or what a sweep is told where there is none."""

from math import isfinite
from typing import Any

FAILURE = "failure.txt"  # in the run's folder, its reason
WORST = 1e9


def score(config: dict[str, Any], numbers: dict[str, Any]) -> float:
    """The number under ``optimized_metric`` (by default validation's), finite whatever happened."""
    names = [config["optimized_metric"]] if config["optimized_metric"] else ["val/bpd", "val/nll", "val/free_energy", "val/kl"]
    value = next((numbers[name] for name in names if name in numbers), WORST)
    return value if isfinite(value) else WORST
