"""Undone: a run that is refused leaves nothing behind."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from laminar.refused import Refused
from laminar.runs.latest import OUTPUTS
from laminar.runs.owner import LOCK

BEGINNINGS = {LOCK, ".hydra", "train.log", "config.yaml", "environment.json", "figures", "tensorboard", "wandb"}


@contextmanager
def undone(folder: Path) -> Iterator[None]:
    """Inside, a refusal removes a folder that was empty, or not there, and holds no number yet; and what is empty above it,
    up to ``outputs/``. The folder is this process's own (``owning``), and its lock goes last.
    """
    new = _names(folder) <= {LOCK}
    try:
        yield
    except (Refused, OSError, HydraException, OmegaConfBaseException):
        if new and _names(folder) <= BEGINNINGS:
            _remove(folder)
        raise


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _remove(folder: Path) -> None:
    with suppress(OSError):  # a folder that cannot be removed is no news beside the refusal
        for name in _names(folder) - {LOCK}:
            rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
        above = [parent for parent in folder.absolute().parents if parent.is_relative_to(OUTPUTS.absolute())]
        for parent in above:
            parent.rmdir()
