"""Curves: the learning curves as a picture."""

from pathlib import Path

import pytorch_lightning as pl

from laminar.pictures.curves import curves
from laminar.training.callbacks.artist import Artist
from laminar.training.logger.csv import read


class Curves(Artist):
    """``figures/curves.png`` when the training ends, out of ``metrics.csv``."""

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        metrics = Path(trainer.default_root_dir) / "metrics.csv"
        if trainer.is_global_zero and metrics.exists():
            self.draw(trainer, "figures/curves.png", lambda path: curves(read(metrics), path))
