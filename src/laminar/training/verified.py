"""Verified: what a checkpoint must be, down to its bytes, before anything is made of it.

Its zip's checksums are right, it holds nothing but tensors and plain containers, each entry has its form, and the flow's
numbers are finite. Whatever is not so is refused in one sentence.
"""

from collections.abc import Callable
from math import inf, prod
from pathlib import Path
from types import NoneType
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch
from torch import Tensor

from laminar.config.formats import FORMAT
from laminar.config.plain import refuse_incomplete, refuse_unplain, walk
from laminar.flows.space import Space
from laminar.refused import Refused, shown

CONFIG = {"seed": int, "flow": dict, "data": dict, "trainer": dict}  # what whoever opens one reads
REST = {  # what resuming reads
    **{"epoch": int, "global_step": int, "loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list},
    **{"averaging_state": dict, "current_model_state": dict, "pytorch-lightning_version": str},
}
LARGEST_EVENT = 10**9


def opened(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU. Runs no code from the file (``weights_only``)."""
    try:
        damaged = _damaged(path)
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch errors of all kinds
        raise Refused(f"{path} is not a readable checkpoint: it is truncated, or not one of Laminar's") from error
    if damaged:
        raise Refused(f"{path} is damaged: {damaged}, so that its numbers cannot be trusted; take another copy")
    if not isinstance(content, dict) or "laminar" not in content:
        raise Refused(f"{path} was not written by Laminar: it does not say which flow it holds")
    _verify(content, path)
    return content


def _damaged(path: Path) -> str | None:
    """What is wrong with the bytes. A checkpoint's zip is not compressed, so it unpacks to what it weighs."""
    with ZipFile(path) as file:
        entries = file.infolist()
        if any(entry.compress_type != ZIP_STORED or entry.external_attr for entry in entries):
            return "parts of it are compressed or have attributes, which Laminar never writes"
        if sum(entry.file_size for entry in entries) > path.stat().st_size or len({e.filename for e in entries}) < len(entries):
            return "parts of it overlap"
        wrong = file.testzip()
        return wrong and f"the checksum of {shown(wrong)} is wrong"


def _verify(content: dict[str, Any], path: Path) -> None:
    def refuse(what: str) -> None:
        raise Refused(f"{path} is no checkpoint that Laminar could have written: {what}")

    for key, value in walk(content, str(path)):
        if isinstance(value, Tensor):
            if not _dense(value):
                refuse(f"{shown(key)} is a tensor without its own numbers")
        elif not isinstance(value, dict | list | tuple | str | bool | int | float | NoneType):
            refuse(f"{shown(key)} is a {type(value).__name__}")
        elif isinstance(value, dict) and not all(isinstance(word, str | int) for word in value):
            refuse(f"{shown(key)} has keys that are no names")
    for name, kind in REST.items():
        if name in content and (not isinstance(content[name], kind) or isinstance(content[name], bool)):
            refuse(f"its {name} is a {type(content[name]).__name__}")
    if min(content.get("epoch", 0), content.get("global_step", 0)) < 0:
        refuse("it counts epochs or steps below 0")
    _verify_own(content["laminar"], path, refuse)
    for name in ("state_dict", "current_model_state"):
        states = content.get(name, {} if name != "state_dict" else None)
        if not isinstance(states, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in states.items()):
            refuse(f"its {name} is no list of named tensors")
        for key, value in states.items():
            if key.startswith("flow.") and not value.isfinite().all():
                raise Refused(f"{path} holds numbers that are not finite ({name}, {shown(key)}): take an earlier checkpoint")


def _verify_own(own: Any, path: Path, refuse: Callable[[str], None]) -> None:
    """The entry that is Laminar's: the format, the config, the Space and, since it is kept, what the data were."""
    if not isinstance(own, dict) or type(own.get("format")) is not int or own["format"] < 1:
        refuse("it does not say its format")
    if own["format"] > FORMAT:
        raise Refused(f"{path} was written by a newer Laminar: update this one")
    for part in ("config", "space"):
        if not isinstance(own.get(part), dict):
            refuse(f"it does not say its {part}")
    refuse_unplain(own, str(path))
    refuse_incomplete(own["config"], CONFIG, str(path))
    _verify_space(own["space"], refuse)
    if type(own.get("seconds", 0.0)) is not float or not 0 <= own.get("seconds", 0.0) < inf:
        refuse("how long it was trained is no time")
    if "data" in own:
        splits = [own["data"].get(name) for name in ("train", "val", "test")] if isinstance(own["data"], dict) else [None]
        if not all(isinstance(s, dict) and type(s.get("rows")) is int and type(s.get("sha256")) is str for s in splits):
            refuse("what it says of its data is not a size and a digest of each split")
        if not isinstance(own["data"].get("before", []), list):
            refuse("what it says of earlier data is no list")


def _verify_space(space: dict[str, Any], refuse: Callable[[str], None]) -> None:
    def shape(value: Any) -> bool:
        sizes = isinstance(value, list | tuple) and all(type(n) is int and n > 0 for n in value)
        return sizes and prod(value) <= LARGEST_EVENT

    def entries(value: Any, kinds: tuple[type, ...], least: float) -> bool:
        values = value if isinstance(value, list | tuple) else [value]
        return all(v is None or (type(v) in kinds and least <= v < float("inf")) for v in values)

    context = space.get("context", {})
    right = {
        "event": shape(space.get("event")) and len(space["event"]) > 0,
        "levels": entries(space.get("levels"), (int,), 1),
        "upper": entries(space.get("upper"), (int, float), 0),
        "rounded": entries(space.get("rounded"), (int, float), 0),
        "blurred": isinstance(space.get("blurred", False), bool),
        "context": isinstance(context, dict) and all(isinstance(k, str) and shape(v) for k, v in context.items()),
    }
    for name in space:
        if name not in right:
            refuse(f"its space says {shown(name)}")
    for name, holds in right.items():
        if not holds:
            refuse(f"its space has {name} {shown(space.get(name))}")
    Space(**space)


def _dense(value: Tensor) -> bool:
    """Whether a tensor holds all of its numbers, so that to look at them costs no more than the file itself."""
    if type(value) not in (Tensor, torch.nn.Parameter) or value.layout is not torch.strided or value.device.type != "cpu":
        return False
    return not value.is_quantized and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
