"""Checkpoints: files that are whole or absent, and flows rebuilt from them without their data.

A checkpoint is Lightning's, with one more key: ``laminar: {format, config, space}``, the resolved config as plain
containers and the data's Space. Nothing in it but tensors, numbers, strings, lists and dictionaries.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from laminar.config.formats import translate
from laminar.config.recipe import build, cook
from laminar.config.settings import Pages, replaced
from laminar.config.whole import whole
from laminar.flows.flow import Flow
from laminar.flows.space import Space
from laminar.refused import Refused
from laminar.training.verified import opened


class AtomicIO(CheckpointIO):
    """Writes beside the target, flushes to disk, then renames: whatever happens, the target is the old or the new file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            raise Refused(f"{path} could not be written ({error}): is the disk full, or the folder read-only?") from error

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> dict:
        return read(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def read(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU, verified (``training/verified``). Runs no code from the file."""
    path = Path(path)
    if not path.is_file():
        raise Refused(f"there is no checkpoint {path}")
    checkpoint = opened(path)
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


def load(run: str | Path, allow: Sequence[str] | None = (), settings: Pages | None = None) -> tuple[Flow, dict[str, Any]]:
    """The flow of a run folder or checkpoint, in evaluation mode, and the run's resolved config.

    Its weights are those that validation scored (the average, where the run kept one). ``settings`` are other options for its
    parts, ``{"solver": {"rtol": 1e-7}}``, or other members, by their pages: see ``config/settings``.
    """
    path = find(run)
    return restored(read(path), path, allow, settings)


def restored(
    checkpoint: dict[str, Any], path: Path, allow: Sequence[str] | None = (), settings: Pages | None = None
) -> tuple[Flow, dict[str, Any]]:
    """What ``load`` gives, of a checkpoint that is read already."""
    config, space = checkpoint["laminar"]["config"], Space(**checkpoint["laminar"]["space"])
    config = {**config, "flow": replaced(config["flow"], settings or {}, allow)}
    flow = in_precision(cooked(build(config["flow"], "flow", allow, Flow), space, checkpoint, path), config)
    load_flow(flow, checkpoint, path)
    flow.eval().refresh()
    return flow, config


def cooked(recipe: Callable[[Space], Flow], space: Space, checkpoint: dict[str, Any], path: Path) -> Flow:
    """The flow of a recipe. A sketch that needs no memory goes before, and must have the shapes of the checkpoint's weights."""
    try:
        with torch.device("meta"):
            sketch = recipe(space).state_dict()
    except Refused:
        raise
    except Exception:  # a part that looks at its numbers while it is built, or what is refused below
        sketch = {}
    for name, number in sketch.items():
        found = checkpoint["state_dict"].get(f"flow.{name}")
        if found is not None and found.shape != number.shape:
            shapes = f"{name} has the shape {tuple(found.shape)}, and here {tuple(number.shape)}"
            raise Refused(f"{path} holds the weights of another architecture: {shapes}")
    return cook(recipe, f"the flow of {path}", space)


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
