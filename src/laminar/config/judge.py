"""Judge: a composed config, before anything is imported or made for it.

Each option is one that its constructor takes, of the kind that it says (``signature``, ``schema``), and within its bounds.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from laminar.config.bounds import KEYS, bound, within
from laminar.config.kinds import fits, told
from laminar.config.near import listed, near
from laminar.config.recipe import targets
from laminar.config.schema import SCHEMA
from laminar.config.signature import Signature, signature
from laminar.config.slots import SLOTS, Slot
from laminar.refused import Refused, shown

PATHS = {"path", "test_path", "val_path"}  # options of data of one's own
FILES = {
    "run": "a run folder or a .ckpt file",
    "against": "a run folder or a .ckpt file",
    "ckpt_path": "a .ckpt file",
    "given": "a file of columns",
}


GIVEN = {
    "trainer.callbacks": "choose callbacks=",
    "trainer.logger": "choose logger=",
    "trainer.enable_progress_bar": "~callbacks.progress leaves the bar out",
}  # by the run itself, whatever a page says


def judge(plain: Mapping[str, Any], command: str, allow: Sequence[str] = (), roots: Collection[str] | None = None) -> None:
    """Refuses a resolved config whose options cannot be; of ``roots`` alone, where they are given.

    What is made of others (a layer, the flow) is judged after them, so that a sentence has the key that a command line knows.
    """
    named = [root for root in plain if roots is None or root in roots]
    for key, hint in SCHEMA[command].items():
        root, _, name = key.partition(".")
        if root not in named:
            continue
        value = plain[root]
        if name and value is not None and not isinstance(value, Mapping):
            raise Refused(f"{root}={spelt(value)} is not what the option holds: it takes names, as in {key}=...")
        value = (value or {}).get(name) if name else value
        if value == "???" and root != "size":
            raise Refused(f"{key} has no value: say {key}={f'<{FILES[key]}>' if key in FILES else '...'}")
        if value not in (None, "???") or not name:
            _judge(key, value, hint)
        if key in FILES and value is not None and not Path(str(value)).exists():
            raise Refused(f"{key}={value} is not there: it takes {FILES[key]}")
        if key == "ckpt_path" and value is not None and Path(value).is_dir():
            raise Refused(f"ckpt_path={value} is a folder: it takes a .ckpt file, and resume={value} goes on with a run")
    for name in PATHS & (plain["data"] or {}).keys() if "data" in named and isinstance(plain["data"], Mapping) else ():
        place = plain["data"][name]
        if place not in (None, "???") and not Path(str(place)).exists():
            raise Refused(f"data.{name}={place} is not there: it takes a file, or folder, of data")
    for root in sorted(named, key=lambda root: sum(1 for _ in targets(plain[root]))):
        node = plain[root]
        if isinstance(node, Mapping):  # what a command leaves null of an option of its own is as it was trained
            node = {name: value for name, value in node.items() if value is not None or f"{root}.{name}" not in SCHEMA[command]}
        _part(node, root, Slot(root, allow) if SLOTS.get(root) else None)


def _part(node: Any, path: str, slot: Slot | None) -> None:
    """Judges every part below a node, outer ones first."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if slot is not None and isinstance(target, str) and not slot.holds(target.rpartition(".")[0]):
            raise slot.outside(target)
        known = signature(target) if isinstance(target, str) else None
        for name, value in node.items():
            key = f"{path}.{name}"
            if known is not None and not str(name).startswith("_"):
                _option(key, str(name), value, known, target.rpartition(".")[2], set(node))
            if value == "???" and (target is not None or path in SLOTS):
                raise Refused(f"{key} has no value: say {key}=...")
            _part(value, key, slot)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for place, value in enumerate(node):
            _part(value, f"{path}[{place}]", slot)


def _option(key: str, name: str, value: Any, known: Signature, owner: str, said: set[str]) -> None:
    if key in GIVEN:
        raise Refused(f"{key} is given by the run: {GIVEN[key]}")
    if name in known.options:
        if value != "???":
            _judge(key, value, known.options[name])
    elif not known.open:
        takes = known.settled | (said & known.options.keys())
        path = key.rpartition(".")[0]
        what = f"it takes {listed(takes)}" if takes else "it takes none"
        raise Refused(f"{key} is no option of {owner}{near(name, takes, f'{path}.')}: {what}")


def _judge(key: str, value: Any, hint: Any) -> None:
    """Refuses a value of another kind, or beyond its bounds."""
    rule = bound(key)
    if not fits(value, hint) or (rule is not None and not within(value, rule)):
        kinds = KEYS[key].told if key in KEYS else told(hint, rule.told if rule else None)
        choice = near(value, re.split(", | or ", kinds), f"{key}=") if isinstance(value, str) else ""
        raise Refused(f"{key}={spelt(value)} is not what the option holds{choice}: it takes {kinds}")


def spelt(value: Any) -> str:
    """A value as a command line says it, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, str) and value.isprintable() and len(value) < 60 else shown(value)
