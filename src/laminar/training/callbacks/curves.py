"""Curves: the learning curves as a picture."""

from pathlib import Path

import pytorch_lightning as pl

from laminar.pictures.curves import curves
from laminar.training.callbacks.artist import Artist
from laminar.training.logger.csv import read


class Curves(Artist):
    """``figures/curves.png`` out of ``metrics.csv`` when the training ends, and again with the validation that is reported."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        metrics = Path(trainer.default_root_dir) / "metrics.csv"
        if trainer.is_global_zero and metrics.exists():
            self.rows = read(metrics)
            self.draw(trainer, "figures/curves.png", lambda path: curves(self.rows, path))

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and trainer.state.fn == "validate" and self.rows:
            final = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self.draw(trainer, "figures/curves.png", lambda path: curves(self.rows, path, final))
