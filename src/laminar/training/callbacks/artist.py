"""Artist: a callback that leaves pictures in the run folder."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from laminar.training.logger.open import log_picture

log = logging.getLogger(__name__)
T = TypeVar("T")


class Artist(Callback):
    """Draws on rank 0, in evaluation mode, with keyed noise: the training goes on as if nothing had been drawn."""

    def tried(self, what: str, make: Callable[[], T]) -> T | None:
        """make(), or None where it fails, which is noted in the log: pictures do not end a run."""
        try:
            return make()
        except Exception:
            log.exception("%s could not be drawn", what)

    def draw(self, trainer: pl.Trainer, file: str, make: Callable[[Path], object]) -> None:
        """Calls ``make(path)`` for ``<run>/<file>`` and shows the loggers what it wrote, under the file's name.

        A picture that fails is noted in the log: it does not end a run.
        """
        path = Path(trainer.default_root_dir) / file
        try:
            make(path)
        except Exception:
            log.exception("%s could not be drawn", file)
        else:
            if path.exists():
                log_picture(trainer.loggers, f"{path.parent.name}/{path.stem.split('-')[0]}", path, trainer.global_step)
