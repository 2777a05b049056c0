"""Artist: a callback that leaves pictures in the run folder."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from laminar.flows.units import UNITS
from laminar.pictures.figure import about, subject
from laminar.training.logger.open import log_picture

log = logging.getLogger(__name__)
T = TypeVar("T")


class Artist(Callback):
    """Draws on rank 0, in evaluation mode, with keyed noise: the training goes on as if nothing had been drawn.

    Best weights are drawn when the test has ended: pictures bear their score.
    """

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
            with about(self.told(trainer)):
                make(path)
        except Exception:
            log.exception("%s could not be drawn", file)
        else:
            if path.exists():
                log_picture(trainer.loggers, f"{path.parent.name}/{path.stem.split('-')[0]}", path, trainer.global_step)

    def told(self, trainer: pl.Trainer) -> str:
        """Flow and data; while it learns, the steps so far; in the end, the score."""
        module, told = trainer.lightning_module, ""
        if trainer.state.fn == "fit" and trainer.global_step:
            told = f", after {trainer.global_step:,} steps"
        score = trainer.callback_metrics.get(f"test/{module.unit}") if trainer.state.fn == "test" else None
        if score is not None:
            told = f", test {score:.4f} {UNITS[module.unit]}"
        return subject(module.config) + told
