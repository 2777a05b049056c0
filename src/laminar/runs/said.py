"""Said: a run's first line, and its last ones."""

import shlex
from collections.abc import Mapping
from math import log2
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from laminar.data.datamodule import FlowDataModule
from laminar.flows.space import Space
from laminar.pictures.figure import subject
from laminar.training.module import FlowModule


def opening(config: Mapping[str, Any], module: FlowModule, data: FlowDataModule, trainer: pl.Trainer, folder: Path) -> str:
    """Which flow, of how many parameters, on which data, where; and the folder that it leaves."""
    parameters = sum(parameter.numel() for parameter in module.flow.parameters())
    names = ("training", "validation", "test")
    rows = ", ".join(f"{len(split):,} {name}" for name, split in zip(names, data.splits, strict=True))
    examples = "draws of the flow" if module.blind else f"{rows} examples"
    return f"{subject(config)}: {parameters:,} parameters; {bits(data.space)}; {examples}; {devices(trainer)}; {near(folder)}"


def closing(config: Mapping[str, Any], module: FlowModule, numbers: Mapping[str, Any], folder: Path) -> str | None:
    """The commands that evaluate and sample a run, as far as there is something to evaluate or sample."""
    if not any((folder / "checkpoints" / f"{name}.ckpt").exists() for name in ("best", "last")):
        return None
    run = f"run={shlex.quote(str(near(folder)))}"
    mute = config["test"] and "throughput" in (config["callbacks"] or {}) and "samples_per_second" not in numbers
    lines = [] if module.blind else [f"evaluate it: laminar-evaluate {run}"]
    return "\n".join([*lines, *([] if mute else [f"sample it:   laminar-sample {run}"])]) or None


def bits(space: Space) -> str:
    """What an example holds: dimensions, and the bits of each where they are whole numbers."""
    size = f"{space.size:,} dimensions"
    if space.levels is None:
        return f"{size}, real"
    if isinstance(space.levels, int):
        return f"{size} x {log2(space.levels):.3g} bit{'s' * (space.levels != 2)}"
    whole = [levels for levels in space.levels if levels is not None]
    return f"{size}, {len(whole)} of them whole numbers of {sum(map(log2, whole)):.3g} bits in all"


def devices(trainer: pl.Trainer) -> str:
    device, count = trainer.strategy.root_device, trainer.num_devices * trainer.num_nodes
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name if count == 1 else f"{count} x {name}"


def near(folder: Path) -> Path:
    """A folder as it is named from here."""
    return folder.relative_to(Path.cwd()) if folder.is_absolute() and folder.is_relative_to(Path.cwd()) else folder
