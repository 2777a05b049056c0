"""FlowModule: one step for training, validation and test."""

from collections.abc import Callable, Iterator
from math import log
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from laminar.config.recipe import cook
from laminar.flows import ledger, noise
from laminar.flows.flow import Flow
from laminar.flows.layer.latent import Latent
from laminar.flows.norm.batchnorm import BatchNorm, calibrating
from laminar.flows.numerics import score
from laminar.flows.preprocessing.standardise import Standardise
from laminar.flows.space import Context
from laminar.refused import Refused
from laminar.training.ddp import mean_where_logged
from laminar.training.metric import REPEATS, LogWeights
from laminar.training.objective.objective import Objective
from laminar.training.quiet import reseed, silence
from laminar.training.scores import Scores

STAGES = {"train": 0, "val": 1, "test": 2}
INIT, CALIBRATION = 3, 4  # noise stages, beside these, of a run's start and of batch norms' statistics


class FlowModule(pl.LightningModule):
    """Trains a flow on batches ``(x, context, index, epoch)``.

    Scores are bits/dim (``bpd``) for integers and nats (``nll``) for reals, per example, ``(B,)``, or what else the flow's
    ``units`` call them. Training maximises the mean of ``objective``; validation and test report that of ``flow.log_prob``, a
    test by K samples also the mean by a single one (``test/bpd_K1``), a flow of latent variables what its single-sample bound
    is made of: the ``distortion`` -log p(x | z) and the ``kl`` log q(z | x) - log p(z), in nats. On data of known density a
    test reports the excess over it, in nats. An objective that trains on the flow's own draws has its KL tested too, with what
    the draws' importance weights tell; where there are no data to score (``blind``), its own number is the score.

    The noise of an example is a function of (seed, stage, epoch, index): evaluation counts as epoch 0, so that a number
    repeats, and training goes on after a resume as if it had never stopped.

    Args:
        objective: what is maximised. Parameters that it does not train are frozen.
        optimizer: recipe, called with the parameters.
        scheduler: recipe, called with the optimizer; None keeps the learning rate.
        interval: what the schedule counts, ``step`` (optimizer steps) or ``epoch``.
        num_samples: importance samples K behind a test score.
        seed: the run's.
        config: the run's resolved config as plain containers, kept in checkpoints.
        blind: whether rows stand for draws of the flow alone, and hold nothing to score.
    """

    def __init__(
        self,
        flow: Flow,
        objective: Objective,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        interval: str = "step",
        num_samples: int = 1,
        seed: int = 0,
        config: dict[str, Any] | None = None,
        blind: bool = False,
    ):
        super().__init__()
        if blind and not objective.draws:
            raise Refused("data=nothing holds no data to be likely: choose objective=reverse_kl, or other data")
        self.units = (objective.unit,) if blind else flow.units
        self.unit = self.units[0]
        self.own, self.blind = self.unit == flow.space.unit, blind  # own: a number of the data themselves
        if num_samples < 1 or (num_samples > 1 and (flow.noisy or not self.own)):
            raise Refused(
                f"num_samples={num_samples} does not fit a number that is {self.unit}, graded {flow.grade}: give 1 "
                "(or more, where the likelihood is the data's own and no log-det is an estimate)"
            )
        objective.check(flow)
        self.flow, self.objective = flow, objective
        self.optimizer, self.scheduler, self.interval = optimizer, scheduler, interval
        self.num_samples, self.seed, self.config = num_samples, seed, config
        self.scores = Scores(self.units, flow.space.size)  # of the stage that is being evaluated
        self.epoch = 0  # the last one that was trained in
        self.latest: dict[str, Tensor] = {}  # what the last training step was worth
        self.validations, self.scored = 0, True  # so far in training; whether the one at hand asks for the likelihood
        trained = {id(parameter) for parameter in objective.trains(flow)}
        for parameter in flow.parameters():
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in trained)

    def on_fit_start(self) -> None:
        silence(self.trainer.callbacks)
        self.objective.to(self.device)
        self.refreshes = self.flow.refreshes

    def on_train_epoch_start(self) -> None:
        self.epoch = self.current_epoch

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.refreshes:
            self.flow.refresh()

    def training_step(self, batch: tuple, batch_idx: int) -> Tensor:
        with ledger.noting() as notes:
            value = self.ask(self.objective, batch, "train", batch_idx)
        loss = (self.score(value) if self.objective.unit is None else -value).mean()
        terms = {f"train/{name}": torch.cat(noted).detach().mean() for name, noted in notes.items()}
        self.latest = mean_where_logged(self.trainer, {self.train_name: loss.detach()} | terms)
        if self.trainer._logger_connector.should_update_logs:  # a log that nobody reads costs half a millisecond
            self.log_dict(self.latest, prog_bar=True)
        return loss

    @property
    def train_name(self) -> str:
        """Under which name the training loss is logged."""
        return f"train/{self.objective.unit or self.unit}"

    # A validation looks at a flow that is up to its weights (the average's, where one was swapped in), and puts back what
    # it found: a run must not depend on how often it is validated.

    def on_validation_epoch_start(self) -> None:
        self.scores, self.found = self.no_scores(), []
        if self.trainer.state.fn == "fit":
            self.validations += 1
            every = self.objective.likelihood_every or 1
            self.scored = self.trainer.should_stop or self.validations % every == 0
        else:
            self.scored = True
        if self.trainer.state.fn == "fit" and self.refreshes:
            self.found = [buffer.clone() for buffer in self.buffers_to_keep()]
            self.flow.refresh()
        self.calibrate()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["validations"] = self.validations

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.validations, self.epoch = checkpoint.get("validations", 0), checkpoint["epoch"]

    def calibrate(self) -> None:
        """Gives batch norms that want them the statistics of the training split: the same rows and noise on every rank."""
        norms = [norm for norm in self.flow.modules() if isinstance(norm, BatchNorm) and norm.rows is not None]
        if not norms:
            return
        batch = self.trainer.datamodule.some_rows(max(norm.rows for norm in norms))
        x, context, index, _ = self.trainer.datamodule.transfer_batch_to_device(batch, self.device, 0)
        with noise.source(noise.mix(self.seed, CALIBRATION, 0, index.numpy())), calibrating():
            self.flow.log_prob(x, context)

    def put_back(self) -> None:
        for buffer, found in zip(self.buffers_to_keep(), self.found, strict=False):
            buffer.copy_(found)
        self.found = []

    def break_off(self) -> None:
        """Ends a validation as if it had not begun."""
        self.put_back()
        self.validations -= 1

    def buffers_to_keep(self) -> Iterator[Tensor]:
        """All but batch norms' statistics, which serve evaluation alone: those of the best validation are to be saved."""
        for module in self.flow.modules():
            if not isinstance(module, BatchNorm):
                yield from module.buffers(recurse=False)

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        if self.objective.likelihood_every is not None:
            self.scores.update(self.objective.unit, -self.ask(self.objective, batch, "val", batch_idx))
        if self.scored:
            self.evaluate(batch, "val", batch_idx)

    def on_validation_epoch_end(self) -> None:
        self.report("val")
        self.put_back()

    def on_test_epoch_start(self) -> None:
        self.scores = self.no_scores()
        self.objective.to(self.device)
        self.weights = LogWeights(normalised=self.objective.unit == "kl").to(self.device)

    def test_step(self, batch: tuple, batch_idx: int) -> None:
        log_prob = self.evaluate(batch, "test", batch_idx)
        known = self.trainer.datamodule.source.log_prob
        if known is not None and self.own:
            self.scores.update("excess", known(batch[0]) - log_prob)
        if self.objective.draws:
            self.weights.update(self.ask(self.objective.log_weights, batch, "test", batch_idx))

    def on_test_epoch_end(self) -> None:
        self.report("test")
        if self.weights.update_called:
            known = {f"test/{name}": value.float() for name, value in self.weights.compute().items()}
            self.log_dict({name: value for name, value in known.items() if not name.startswith(f"test/{self.unit}")})

    def ask(self, objective: Callable[..., Tensor], batch: tuple, stage: str, batch_idx: int) -> Tensor:
        """The objective of every example in nats, ``(B,)``, under the noise that belongs to them: one step for all stages."""
        x, context, index, epoch = batch
        epoch = epoch if stage == "train" else 0
        keys = noise.mix(self.seed, STAGES[stage], epoch, index.numpy())
        stream = noise.mix(self.seed, STAGES[stage], epoch, batch_idx, self.global_rank)
        reseed(int(stream >> 1), self.device)  # what draws without keys: dropout, trace estimates
        with noise.source(keys):
            return objective(self.flow, x, context, self.global_step)

    def score(self, log_prob: Tensor) -> Tensor:
        """Bits/dim or nats."""
        return score(log_prob, self.unit, self.flow.space.size)

    def evaluate(self, batch: tuple, stage: str, batch_idx: int) -> Tensor:
        """Enters a batch into the stage's means; gives its log-likelihoods."""
        with ledger.noting() as notes:
            log_weights = self.ask(self.draws if self.blind else self.log_weights, batch, stage, batch_idx)
        log_prob = self.scores.enter(log_weights, self.repeated(self.flow), self.groups_of(batch, stage))
        terms = {name: torch.cat(noted) for name, noted in notes.items()}
        if sum(isinstance(part, Latent) for part in self.flow.modules()) == 1:
            given = self.ask(self.given, batch, stage, batch_idx)
            terms["distortion"] = terms["distortion"].view_as(log_weights).mean(0) - given
            terms["kl"] = -log_weights.mean(0) - terms["distortion"]
        for name, values in terms.items():
            self.scores.update(name, values)
        return log_prob

    def repeated(self, flow: Flow) -> bool:
        """Whether likelihoods are the means of repeated estimates: in a test, where they tell an error of their own."""
        return self.trainer.testing and flow.noisy

    def log_weights(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        """The logarithms of K importance weights, ``(K, B)``; K is 1 but in a test. Of an estimate its repeats, ``(R, B)``."""
        if self.repeated(flow):
            return flow.estimates(x, context, REPEATS)
        num_samples = self.num_samples if self.trainer.testing else 1
        one = num_samples == 1  # drawn as anyone draws who asks for a single sample
        return flow.log_prob(x, context)[None] if one else flow.log_weights(x, context, num_samples, chunk=len(x))

    def given(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        """What the parts before the latent variables contribute: a distortion is told of stored values."""
        before, *_ = flow.locate(Latent)
        return before(x, flow.context(context))[1]

    def likelihood(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        log_weights = self.log_weights(flow, x, context, step)
        return log_weights.mean(0) if self.repeated(flow) else log_weights.logsumexp(0) - log(len(log_weights))

    def draws(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        """The objective where there are no data, by the draws' own log q: near the optimum it varies less than by H(prior)."""
        return self.objective.log_weights(flow, x, context, step).mean(0, keepdim=True)

    def groups_of(self, batch: tuple, stage: str) -> Tensor | None:
        """The numbers of what the rows are parts of, where they are not independent."""
        group = getattr(self.trainer.datamodule.splits, stage).group
        return None if group is None else group[batch[2]].to(self.device)

    def no_scores(self) -> Scores:
        return Scores(self.units, self.flow.space.size, self.trainer.datamodule.groups, self.device)

    def report(self, stage: str) -> None:
        """Logs the means over the split, over all ranks; their standard errors for scores and what they are made of."""
        numbers = self.scores.numbers()
        own = {f"{name}_se" for unit in self.units for name in (unit, f"{unit}_K1", f"{unit}_estimator")}
        told = {*own, "excess_se", "kl_se", "distortion_se"}
        for name, value in numbers.items():
            if name in told or not name.endswith("_se"):
                self.log(f"{stage}/{name}", value.float(), prog_bar=name in (self.unit, "excess"))
        scales = [part for part in self.flow.modules() if isinstance(part, Standardise)]
        if stage == "test" and self.units == ("nll",) and self.flow.space.exact and len(scales) == 1:
            self.log("test/nll_standardised", (numbers["nll"] + scales[0].log_det).float())
            self.log("test/nll_standardised_se", numbers["nll_se"].float())

    def configure_optimizers(self) -> Any:
        optimizer = cook(self.optimizer, "optimizer", [weight for weight in self.flow.parameters() if weight.requires_grad])
        # Where gradients are scaled for half precision, that is undone before they are clipped, and not within a fused step,
        # which Lightning would refuse to clip.
        optimizer._step_supports_amp_scaling = False
        if self.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": cook(self.scheduler, "scheduler", optimizer), "interval": self.interval},
        }
