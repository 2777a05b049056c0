"""Teacher: what a student is to be compared with."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.naive import naive
from laminar.pictures.beside import beside
from laminar.pictures.densities import corners
from laminar.refused import Refused
from laminar.training.callbacks.artist import Artist
from laminar.training.callbacks.throughput import drawn_per_second
from laminar.training.metric import MeanScore
from laminar.training.objective.distillation import Distillation


class Teacher(Artist):
    """With the test of a distilled flow: ``teacher/<unit>`` on the same rows and noise, and how fast the teacher samples.

    ``teacher/samples_per_second`` is its one-pass way back, ``teacher/naive_samples_per_second`` a full pass of the net for
    each value. In the plane, ``figures/teacher.png`` shows both densities.

    Args:
        samples: drawn at once to measure that.
    """

    def __init__(self, samples: int = 64):
        self.samples = samples

    def on_test_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.score = MeanScore().to(module.device)

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(module.objective, Distillation):
            teacher = module.objective.teacher
            log_prob = module.ask(lambda flow, *rest: module.likelihood(teacher, *rest), batch, "test", batch_idx)
            self.score.update(module.score(log_prob))

    def on_test_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not isinstance(module.objective, Distillation):
            return
        teacher, split = module.objective.teacher, trainer.datamodule.splits.test
        mean, standard_error = self.score.compute()
        module.log(f"teacher/{teacher.unit}", mean.float())
        module.log(f"teacher/{teacher.unit}_se", standard_error.float())
        try:
            rates = {"samples_per_second": drawn_per_second(teacher, split.context, self.samples)}
            if any(isinstance(part, Autoregressive) for part in teacher.modules()):
                with naive(teacher):
                    rates["naive_samples_per_second"] = drawn_per_second(teacher, split.context, self.samples)
        except Refused:
            rates = {}
        for name, rate in rates.items():
            module.log(f"teacher/{name}", rate, rank_zero_only=True)
        if trainer.is_global_zero and teacher.space.event == (2,) and not teacher.conditional:

            def make(path: Path) -> None:
                densities = {"teacher": lambda x, context: teacher.log_prob(x), "student": module.flow.log_prob}
                beside(densities, module.flow, *corners(split.values), path)

            self.draw(trainer, "figures/teacher.png", make)
