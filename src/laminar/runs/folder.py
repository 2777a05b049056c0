"""The run folder: what a run leaves on disk, and when a folder may be used."""

import json
import platform
import subprocess
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from laminar.config.formats import translate
from laminar.config.pages import CHECKOUT
from laminar.refused import Refused


def claim(folder: Path) -> None:
    """Makes a folder for a new run; refuses one that holds a run already."""
    if (folder / "metrics.json").exists():
        raise Refused(f"{folder} holds a finished run, which is never overwritten: choose another hydra.run.dir")
    if (folder / "checkpoints" / "last.ckpt").exists():
        raise Refused(f"{folder} holds an unfinished run: go on with resume={folder}, or choose another hydra.run.dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.log").touch()
    except OSError as error:
        raise Refused(f"the run folder {folder} cannot be written ({error.strerror}): choose another hydra.run.dir") from error


def write_composition(folder: Path, config: Any, hydra: Any) -> None:
    """``.hydra/``: the config before its interpolations were resolved, and the command line behind it."""
    from omegaconf import OmegaConf

    (folder / ".hydra").mkdir(exist_ok=True)
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    OmegaConf.save(hydra.overrides.task, folder / ".hydra" / "overrides.yaml")


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """``config.yaml``, resolved: the run, without the command line and pages behind it."""
    from omegaconf import OmegaConf

    OmegaConf.save(config, folder / "config.yaml")


def read_config(folder: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    path = folder / "config.yaml"
    if not path.is_file():
        raise Refused(f"{folder} is not a run folder: it has no config.yaml")
    return translate(OmegaConf.to_container(OmegaConf.load(path)))


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def environment(seed: int, overrides: list[str], split: dict[str, Any]) -> dict[str, Any]:
    """What a run depended on besides its config: versions, hardware, commit, command line, rows of each split."""
    import torch

    packages = ("laminar", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "scikit-learn")
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "overrides": overrides,
        "seed": seed,
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "machine": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "split": split,
    }


def _commit() -> str | None:
    """The checkout's git commit, with ``+`` where files differ from it; None for an installed package."""
    if CHECKOUT is None or not (CHECKOUT / ".git").exists():
        return None
    try:
        commit, dirty = (
            subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.strip() + ("+" if dirty.strip() else "")
