"""Against: whether two runs have the same rows and tell the same kind of number, so that they can be compared."""

from typing import Any

from laminar.flows.flow import Flow
from laminar.refused import Refused

# Options that leave the test rows as they are
SERVING = {"batch_size", "eval_batch_size", "root", "cache", "flip", "shift", "parents"}


def check(ours: dict[str, Any], theirs: dict[str, Any], flow: Flow, other: Flow, name: str, split: str) -> None:
    """Refuses a comparison of runs whose rows of that split are others, or whose numbers are of other kinds."""
    mine, their = ({key: value for key, value in run["data"].items() if key not in SERVING} for run in (ours, theirs))
    if split == "test":
        mine, their = ({**options, "validation": None} for options in (mine, their))
    apart = sorted(key for key in mine.keys() | their.keys() if mine.get(key) != their.get(key))
    if split != "test" and ours["seed"] != theirs["seed"]:
        apart.append("seed")
    if apart:
        raise Refused(f"against={name} has other rows (its data differ in {', '.join(apart)}): compare runs of the same data")
    if flow.unit != other.unit:
        raise Refused(f"against={name} tells {other.unit}, and this run {flow.unit}: compare runs of one unit")
