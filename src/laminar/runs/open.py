"""Trained: a flow of the past, with the data that it was trained on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from laminar.config.recipe import build
from laminar.config.settings import Pages
from laminar.data.datamodule import FlowDataModule
from laminar.data.source import Source, Split
from laminar.flows.flow import Flow
from laminar.refused import Refused
from laminar.training.checkpoint import find, read, restored

SPLITS = ("train", "val", "test")


class Trained(NamedTuple):
    """A flow on a device, its run's config, the folder where new files of it belong, and what is known of its data."""

    flow: Flow
    config: dict[str, Any]
    folder: Path
    data: dict[str, Any] | None


def open_run(run: str, device: str = "auto", allow: Sequence[str] = (), settings: Pages | None = None) -> Trained:
    """What a run folder or checkpoint holds."""
    path = find(run)
    checkpoint = read(path)
    flow, config = restored(checkpoint, path, [*allow], settings)
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return Trained(flow.to(choose(device)), config, folder, checkpoint["laminar"].get("data"))


def choose(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise Refused(f"device={device} is not there: use device=cpu or device=auto")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise Refused(f"device={device} is not the name of a device: use cpu, cuda, cuda:1 or auto") from error


def open_data(
    config: dict[str, Any], moved: Mapping[str, str | None] | None = None, allow: Sequence[str] = ()
) -> FlowDataModule:
    """The data of a run, split as the run split them; ``moved`` says where they lie now (``root``, ``path``)."""
    data, moved = config["data"], {option: place for option, place in (moved or {}).items() if place is not None}
    for option, place in moved.items():
        if option not in data:
            raise Refused(f"data.{option}={place} is no option of this run's data ({data['_target_']}): leave it out")
    return FlowDataModule(build({**still(data), **moved}, "data", allow, Source), None, config["seed"])


def still(data: dict[str, Any]) -> dict[str, Any]:
    """The data page of a file: its source reads what lies there, and neither fetches nor writes."""
    return {**data, **{option: value for option, value in (("download", False), ("cache", None)) if option in data}}


def split_of(data: FlowDataModule, name: str) -> Split:
    if name not in SPLITS:
        raise Refused(f"split={name} is none of {', '.join(SPLITS)}")
    return getattr(data.splits, name)
