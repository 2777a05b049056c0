"""Same data: whether the rows at hand are those that a run was trained on."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laminar.data.datamodule import FlowDataModule
from laminar.flows.space import Space
from laminar.refused import Refused
from laminar.runs.open import SPLITS
from laminar.training.checkpoint import read

CHANGED = "data.changed"  # a word beside resume=, and of that one call


def accepts(words: Sequence[str]) -> bool:
    """Whether a command line takes other data than before: ``data.changed=accept``; ``refuse`` is what it says by itself."""
    told = [word.partition("=")[2] for word in words if word.split("=")[0] == CHANGED]
    if told and told[-1] not in ("accept", "refuse"):
        raise Refused(f"{CHANGED}={told[-1]} is neither accept nor refuse: take one")
    return told[-1:] == ["accept"]


def go_on(folder: Path, data: FlowDataModule, accept: bool) -> None:
    """Where a folder's ``last.ckpt`` knows other data, refuses; or accepts them, and ``data.before`` then tells of the old."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.exists() or data.source.empty:
        return
    saved = read(last)["laminar"]
    refuse_other_kind(f"resume={folder}", Space(**saved["space"]), data.space)
    then = saved.get("data")
    if then is None:
        return
    data.before = list(then.get("before", []))
    if not (told := changes(then, data)):
        return
    size, rows = data.source.batch_size, (then["train"]["rows"], data.digest("train")["rows"])
    if rows[0] // size != rows[1] // size:
        raise Refused(
            f"resume={folder} has other data than before ({told}), and a run counts its steps by batches of its training rows: "
            "put its own data back, or start a new run"
        )
    if not accept:
        raise Refused(
            f"resume={folder} has other data than before ({told}): put its own back, or add {CHANGED}=accept to go on with "
            "these"
        )
    data.before.append({name: then[name] for name in SPLITS})
    data.changed = bool(changes(then, data, ["val"]))


def compare(run: str, then: Mapping[str, Any] | None, trained: Space, data: FlowDataModule, split: str) -> dict[str, Any]:
    """Says on stderr that a split has other rows than a run's, and gives what a report records of it: nothing where it has not.

    Other shapes, levels or context are refused.
    """
    if data.source.empty:
        return {}
    refuse_other_kind(f"run={run}", trained, data.space)
    if then is None or not (told := changes(then, data, [split])):
        return {}
    print(f"laminar: the data are not those of run={run}: {told}", file=sys.stderr, flush=True)
    return {"data": {"changed": told, "run": then[split], "here": data.digest(split)}}


def changes(then: Mapping[str, Any], data: FlowDataModule, splits: Sequence[str] = SPLITS) -> str:
    """How the rows of some splits differ from a checkpoint's, in words; empty where they do not."""
    told = []
    for name in splits:
        old, new = then[name], data.digest(name)
        if old["rows"] != new["rows"]:
            told.append(f"{name} has {new['rows']:,} rows instead of {old['rows']:,}")
        elif old != new:
            told.append(f"{name} has other values or another order")
    return ", ".join(told)


def refuse_other_kind(whose: str, trained: Space, here: Space) -> None:
    """Refuses data whose events are no such as a flow was trained on."""
    for what, told in (
        ("event", "events of shape"),
        ("levels", "levels"),
        ("rounded", "rounding steps"),
        ("context", "context"),
    ):
        old, new = getattr(trained, what), getattr(here, what)
        if old != new:
            raise Refused(f"{whose} was trained on {told} {old}, and its data have {new} now: give it data of the same kind")
