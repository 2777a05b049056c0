"""The run folder: what a run leaves on disk, and when a folder may be used."""

import json
import platform
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from laminar.config.checkout import commit
from laminar.config.formats import translate
from laminar.config.plain import refuse_incomplete, refuse_unplain
from laminar.config.whole import write_text
from laminar.refused import Refused
from laminar.runs.outcome import FAILURE

NEEDED = {
    **{key: dict for key in ("flow", "data", "objective", "optimizer", "scheduler", "trainer")},
    **{key: bool for key in ("train", "test", "compile")},
    **{key: (dict, NoneType) for key in ("callbacks", "logger")},
    **{key: (str, NoneType) for key in ("ckpt_path", "optimized_metric")},
    **{"seed": int, "num_samples": int},
}


def claim(folder: Path) -> None:
    """Takes a folder that this process owns for a new run; refuses one that holds a run already."""
    if (folder / "metrics.json").exists():
        raise Refused(f"{folder} holds a finished run, which is never overwritten: choose another hydra.run.dir")
    if (folder / "checkpoints" / "last.ckpt").exists():
        raise Refused(f"{folder} holds an unfinished run: go on with resume={folder}, or choose another hydra.run.dir")


def begin(folder: Path, config: dict[str, Any], environment: dict[str, Any]) -> None:
    """What a run writes first, once nothing speaks against it. What an earlier leg of it has left is set aside, not lost."""
    (folder / FAILURE).unlink(missing_ok=True)
    for part in folder.rglob("*.part"):  # of a process that died while it wrote
        part.unlink()
    if numbers := numbers_of(folder):
        (folder / "metrics.json").rename(folder / f"metrics-{numbers['steps']}.json")
    if earlier := read_json(folder / "environment.json"):
        environment["earlier"] = [*earlier.pop("earlier", []), earlier]
    write_config(folder, config)
    write_json(folder / "environment.json", environment)


def write_composition(folder: Path, config: Any, hydra: Any) -> None:
    """``.hydra/``: the config before its interpolations were resolved, and the command line behind it."""
    from omegaconf import OmegaConf

    (folder / ".hydra").mkdir(exist_ok=True)
    write_text(folder / ".hydra" / "config.yaml", OmegaConf.to_yaml(config))
    write_text(folder / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(hydra.overrides.task))


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """``config.yaml``, resolved: the run, without the command line and pages behind it."""
    from omegaconf import OmegaConf

    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))


def read_config(folder: Path) -> dict[str, Any]:
    """What ``config.yaml`` says, by a reader that resolves and builds nothing.

    Raises:
        Refused: where it is not the config of a run.
    """
    from omegaconf._utils import get_yaml_loader  # numbers as OmegaConf writes them, and safe

    path = folder / "config.yaml"
    if not path.is_file():
        raise Refused(f"{folder} is not a run folder: it has no config.yaml")
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=get_yaml_loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Refused(f"{path} is not readable YAML ({error})") from error
    refuse_unplain(config, str(path))
    refuse_incomplete(config, NEEDED, str(path))
    return translate(config)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def numbers_of(folder: Path) -> dict[str, Any]:
    """The final numbers of a run; nothing where it has not ended."""
    return read_json(folder / "metrics.json")


def read_json(path: Path) -> dict[str, Any]:
    """A file of the folder; nothing where there is none, or half of one, as an older Laminar could leave it."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def environment(seed: int, overrides: list[str], split: dict[str, Any]) -> dict[str, Any]:
    """What a run depended on besides its config: versions, hardware, commit, command line, rows of each split."""
    import torch

    packages = ("laminar", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "scikit-learn")
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "overrides": overrides,
        "seed": seed,
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "machine": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "split": split,
    }
