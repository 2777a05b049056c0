"""Trained: a flow of the past, with the data that it was trained on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from laminar.config.recipe import build
from laminar.config.settings import Pages
from laminar.data.datamodule import FlowDataModule
from laminar.data.source import Split
from laminar.flows.flow import Flow
from laminar.refused import Refused
from laminar.training.checkpoint import find, load

SPLITS = ("train", "val", "test")


def open_run(
    run: str, device: str = "auto", allow: Sequence[str] = (), settings: Pages | None = None
) -> tuple[Flow, dict[str, Any], Path]:
    """The flow of a run folder or checkpoint on a device, its config, and the folder where new files of it belong."""
    path = find(run)
    flow, config = load(path, [*allow], settings)
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return flow.to(choose(device)), config, folder


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
    return FlowDataModule(build({**data, **moved}, allow), None, config["seed"])


def split_of(data: FlowDataModule, name: str) -> Split:
    if name not in SPLITS:
        raise Refused(f"split={name} is none of {', '.join(SPLITS)}")
    return getattr(data.splits, name)
