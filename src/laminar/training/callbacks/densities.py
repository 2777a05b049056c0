"""Densities: what a flow of one or two dimensions looks like, after each validation and in the end."""

from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from laminar.flows.draw import draw
from laminar.flows.flow import Flow
from laminar.pictures.beside import beside
from laminar.pictures.densities import corners, densities
from laminar.pictures.layers import layers
from laminar.pictures.line import Look, line, look
from laminar.pictures.samples import samples
from laminar.pictures.trajectories import moves, trajectories
from laminar.training.callbacks.artist import Artist

EDGE = 3.0  # how far at least a target is shown where there are no data


class Densities(Artist):
    """``samples/step-*.png`` after each validation, ``figures/density.png`` and ``samples/best.png`` of the best weights.

    For 1-D and 2-D data alone.

    In the end, flows of the line are shown before and after training, those of the plane layer by layer
    (``figures/layers.png``) as well, and particles on their way through continuous layers (``figures/trajectories.png``, and
    ``.gif``, in motion).

    Args:
        n: points shown of the data and of the model.
        every: validations from one picture to the next.
    """

    def __init__(self, n: int = 2000, every: int = 1):
        self.n, self.every, self.validations = n, every, 0
        self.before: Look | None = None

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        def begin(path: Path) -> None:
            split = trainer.datamodule.splits.val
            self.before = look(module.flow, split.values, split.context)
            line({"before training": self.before}, split.values, path, trainer.datamodule.source.log_prob)

        if trainer.is_global_zero and module.flow.space.event == (1,) and self.before is None:
            module.flow.eval()
            self.draw(trainer, "samples/step-0000000.png", begin)
            module.flow.train()

    # A run that is resumed still shows how it began.

    def state_dict(self) -> dict[str, Any]:
        return {} if self.before is None else {"before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.before = state.get("before")

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and trainer.state.fn == "fit" and module.scored and module.flow.space.event in ((1,), (2,)):
            self.validations += 1
            if self.validations % self.every == 0:
                self.show(trainer, module.flow, "val", f"samples/step-{trainer.global_step:07d}.png")

    def on_test_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and module.flow.space.event in ((1,), (2,)):
            self.show(trainer, module.flow, "test", "figures/density.png")
            split = trainer.datamodule.splits.test
            data = None if trainer.datamodule.source.empty else split.values
            drawn = partial(samples, module.flow, data, n=self.n, context=split.context)
            self.draw(trainer, "samples/best.png", lambda path: drawn(path=path))
            if module.flow.space.event == (2,):
                strip = partial(layers, module.flow, split.values, n=self.n, context=split.context)
                self.draw(trainer, "figures/layers.png", lambda path: strip(path=path))
                if moves(module.flow):
                    walk = partial(trajectories, module.flow, n=self.n, context=split.context)
                    self.draw(trainer, "figures/trajectories.png", lambda path: walk(path=path))

    def show(self, trainer: pl.Trainer, flow: Flow, name: str, file: str) -> None:
        split = getattr(trainer.datamodule.splits, name)

        def make(path: Path) -> None:
            if trainer.datamodule.source.empty:
                reach = torch.cat([draw(flow, self.n), torch.tensor([[-EDGE, -EDGE], [EDGE, EDGE]])])
                target = trainer.lightning_module.objective.log_target
                beside({"target": target, "flow": flow.log_prob}, flow, *corners(reach), path, self.n)
                return
            if flow.space.event == (2,):
                densities(flow, split.values, path, self.n, split.context)
                return
            looks = {} if self.before is None else {"before training": self.before}
            looks[f"after {trainer.global_step:,} steps"] = look(flow, split.values, split.context)
            line(looks, split.values, path, trainer.datamodule.source.log_prob)

        self.draw(trainer, file, make)
