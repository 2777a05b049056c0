"""Checkpoints: files that are whole or absent, and flows rebuilt from them without their data.

A checkpoint is Lightning's, with one more key: ``laminar: {format, config, space}``, the resolved config as plain
containers and the data's Space. Nothing in it but tensors, numbers, strings, lists and dictionaries.
"""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from laminar.config.formats import FORMAT, translate
from laminar.config.recipe import build
from laminar.config.settings import Pages, replaced
from laminar.flows.flow import Flow
from laminar.flows.space import Space
from laminar.refused import Refused


class AtomicIO(CheckpointIO):
    """Writes beside the target, flushes to disk, then renames: whatever happens, the target is the old or the new file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise Refused(f"{path} could not be written ({error}): is the disk full, or the folder read-only?") from error

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> dict:
        return read(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def read(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU. Runs no code from the file (``weights_only``)."""
    path = Path(path)
    if not path.is_file():
        raise Refused(f"there is no checkpoint {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
        raise Refused(f"{path} is not a readable checkpoint: it is truncated, or not one of Laminar's") from error
    if not isinstance(checkpoint, dict) or "laminar" not in checkpoint:
        raise Refused(f"{path} was not written by Laminar: it does not say which flow it holds")
    if checkpoint["laminar"]["format"] > FORMAT:
        raise Refused(f"{path} was written by a newer Laminar: update this one")
    checkpoint["laminar"]["config"] = translate(checkpoint["laminar"]["config"])
    return checkpoint


def find(run: str | Path) -> Path:
    """The checkpoint that ``run`` means: itself, or a run folder's best (its last, where none was validated)."""
    run = Path(run)
    if run.suffix == ".ckpt" or run.is_file():
        return run
    for name in ("best.ckpt", "last.ckpt"):
        if (run / "checkpoints" / name).is_file():
            return run / "checkpoints" / name
    raise Refused(f"{run} is not a run folder with checkpoints: give a run folder or a .ckpt file")


def load(run: str | Path, allow: Sequence[str] = (), settings: Pages | None = None) -> tuple[Flow, dict[str, Any]]:
    """The flow of a run folder or checkpoint, in evaluation mode, and the run's resolved config.

    Its weights are those that validation scored (the average, where the run kept one). ``settings`` are other options for its
    parts, ``{"solver": {"rtol": 1e-7}}``, or other members, by their pages: see ``config/settings``.
    """
    path = find(run)
    checkpoint = read(path)
    config, space = checkpoint["laminar"]["config"], Space(**checkpoint["laminar"]["space"])
    config = {**config, "flow": replaced(config["flow"], settings or {}, allow)}
    flow = in_precision(build(config["flow"], allow)(space), config)
    load_flow(flow, checkpoint, path)
    flow.eval().refresh()
    return flow, config


def in_precision(flow: Flow, config: dict[str, Any]) -> Flow:
    """The flow in the precision of the weights that its run trains: float64 for ``trainer.precision=64-true``."""
    return flow.double() if str(config["trainer"].get("precision")).startswith("64") else flow


def load_flow(flow: Flow, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Fills a flow with a checkpoint's weights; refuses where the architectures differ."""
    prefix = "flow."
    weights = {name.removeprefix(prefix): w for name, w in checkpoint["state_dict"].items() if name.startswith(prefix)}
    try:
        flow.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise Refused(f"{path} holds the weights of another architecture: {first}") from error
