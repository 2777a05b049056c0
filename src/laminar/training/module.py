"""FlowModule: one step for training, validation and test."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from laminar.flows import noise
from laminar.flows.flow import Flow
from laminar.flows.numerics import bits_per_dim
from laminar.flows.space import Context
from laminar.refused import Refused
from laminar.training.metric import MeanScore

STAGES = {"train": 0, "val": 1, "test": 2}


class FlowModule(pl.LightningModule):
    """Trains a flow on batches ``(x, label, index, epoch)``.

    Scores are bits/dim (``bpd``) for integers and nats (``nll``) for reals, per example, ``(B,)``. Training minimises
    the mean score of ``objective``; validation and test report that of ``flow.log_prob``.

    The noise of an example is a function of (seed, stage, epoch, index): evaluation counts as epoch 0, so that a number
    repeats, and training goes on after a resume as if it had never stopped.

    Args:
        objective: ``(flow, x, context) -> (B,)`` nats to be maximised.
        optimizer: recipe, called with the parameters.
        scheduler: recipe, called with the optimizer; None keeps the learning rate.
        interval: what the schedule counts, ``step`` (optimizer steps) or ``epoch``.
        num_samples: importance samples K behind a test score.
        seed: the run's.
        config: the run's resolved config as plain containers, kept in checkpoints.
    """

    def __init__(
        self,
        flow: Flow,
        objective: Callable[[Flow, Tensor, Context], Tensor],
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        interval: str = "step",
        num_samples: int = 1,
        seed: int = 0,
        config: dict[str, Any] | None = None,
    ):
        super().__init__()
        if num_samples < 1 or (num_samples > 1 and flow.noisy):
            raise Refused(
                f"num_samples={num_samples} does not fit a likelihood that is graded {flow.grade}: give 1 "
                "(or more, where no log-det is an estimate)"
            )
        self.flow, self.objective = flow, objective
        self.optimizer, self.scheduler, self.interval = optimizer, scheduler, interval
        self.num_samples, self.seed, self.config = num_samples, seed, config
        self.unit = "nll" if flow.space.levels is None else "bpd"
        self.scores = MeanScore()

    def training_step(self, batch: tuple, batch_idx: int) -> Tensor:
        loss = self.score(batch, "train", batch_idx, self.objective).mean()
        self.log(f"train/{self.unit}", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        self.scores.update(self.score(batch, "val", batch_idx, self.likelihood))

    def test_step(self, batch: tuple, batch_idx: int) -> None:
        self.scores.update(self.score(batch, "test", batch_idx, self.likelihood))

    def on_validation_epoch_end(self) -> None:
        self.report("val")

    def on_test_epoch_end(self) -> None:
        self.report("test")

    def score(self, batch: tuple, stage: str, batch_idx: int, objective: Callable) -> Tensor:
        """Bits/dim or nats of every example, ``(B,)``: the one step behind all three stages."""
        x, label, index, epoch = batch
        epoch = epoch if stage == "train" else 0
        context = {"label": label} if self.flow.conditional else None
        keys = noise.mix(self.seed, STAGES[stage], epoch, index.numpy())
        stream = noise.mix(self.seed, STAGES[stage], epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(stream >> 1))  # what draws without keys: dropout, trace estimates
        with noise.source(keys):
            log_prob = objective(self.flow, x, context)
        return -log_prob if self.unit == "nll" else bits_per_dim(log_prob, self.flow.space.size)

    def likelihood(self, flow: Flow, x: Tensor, context: Context) -> Tensor:
        num_samples = self.num_samples if self.trainer.testing else 1
        return flow.log_prob(x, context, num_samples=num_samples, chunk=len(x))

    def report(self, stage: str) -> None:
        mean, standard_error = self.scores.compute()
        self.scores.reset()
        self.log(f"{stage}/{self.unit}", mean.float(), prog_bar=True)
        self.log(f"{stage}/{self.unit}_se", standard_error.float())

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": self.interval},
        }
