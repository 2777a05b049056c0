"""A run, from config to numbers."""

import logging
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only
from torch.optim import Optimizer

from laminar.config.recipe import build, cook
from laminar.config.whole import mend
from laminar.data.datamodule import FlowDataModule
from laminar.data.source import Source
from laminar.flows.flow import Flow
from laminar.flows.transform import Transform
from laminar.refused import Refused, shown
from laminar.runs.folder import begin, environment, write_json
from laminar.runs.open import still
from laminar.runs.page import write_page
from laminar.runs.prepare import prepare
from laminar.runs.said import closing, opening
from laminar.runs.same import accepts, go_on
from laminar.runs.table import lines, show
from laminar.training.callbacks.checkpoints import Checkpoints
from laminar.training.callbacks.nonfinite import Diverged
from laminar.training.checkpoint import AtomicIO, in_precision, load_flow, read
from laminar.training.ddp import leave_group
from laminar.training.logger.open import open_loggers, summarise
from laminar.training.lost_rank import waited_for
from laminar.training.module import FlowModule
from laminar.training.objective.objective import Objective


def run(
    config: dict[str, Any],
    folder: Path,
    overrides: Sequence[str] = (),
    worker: str | None = None,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """The steps of one run, taken by every rank. A folder that holds ``last.ckpt`` goes on from it.

    ``worker`` is the module that a further rank runs, for a trainer that starts its own; ``allow`` the packages that the
    command line trusts, whatever the config says of it. Returns the final numbers, which ``metrics.json`` holds too.
    """
    began = monotonic()
    write_log(folder)
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    resumed = (folder / "checkpoints" / "last.ckpt").exists()
    source = build(still(config["data"]) if resumed else config["data"], "data", allow, Source)
    data = FlowDataModule(source, build(config.get("dequantization"), "flow", allow, Transform), config["seed"])
    if rank_zero_only.rank == 0:  # before it starts the others
        go_on(folder, data, accepts(overrides))
    flow = in_precision(cook(build(config["flow"], "flow", allow, Flow), "this flow", data.space), config)
    module = build_module(config, flow, data.source.empty, allow)
    config["data"] |= data.source.found()
    trainer = build_trainer(config, folder, allow)
    trainer.strategy.worker = (worker, str(folder), *allow)
    if rank_zero_only.rank == 0:
        print("\n".join([opening(config, module, data, trainer, folder), *data.source.remarks]), flush=True)
    ready = monotonic()
    checkpoint = prepare(trainer, module, data, config, folder) if config["train"] else None
    prepared = monotonic() - ready
    clocks = [part for part in trainer.callbacks if isinstance(part, Checkpoints)]
    for clock in clocks:
        clock.prepared = prepared
    if rank_zero_only.rank == 0:  # nothing speaks against it
        begin(folder, config, environment(config["seed"], list(overrides), data.split_record()))
    with open_loggers(config, folder, allow) as loggers:
        trainer.loggers = loggers
        try:
            ready = monotonic()
            if config["train"]:
                trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            trained = prepared + monotonic() - ready
            numbers = evaluate(trainer, module, data, config, folder)
        except RuntimeError as error:
            if not isinstance(error, Diverged) and (found := waited_for(getattr(trainer.strategy.launcher, "procs", ()))):
                raise found from None
            raise
        finally:
            leave_group()
        if trainer.is_global_zero:
            earlier = sum(clock.earlier for clock in clocks)  # in a run's sittings before this one
            took = {"train_seconds": trained, "seconds": monotonic() - began}
            numbers |= {name: round(earlier + seconds, 1) for name, seconds in took.items()}
            known = baselines_of(data) if config["test"] and module.unit in ("bpd", "nll") else {}
            numbers |= {f"baselines/{name}": score for name, (score, _) in known.items()}
            numbers |= {f"baselines/{name}_se": error for name, (_, error) in known.items()}
            write_json(folder / "metrics.json", numbers)
            summarise(loggers, numbers, [*lines(numbers)])
            write_page(folder)
            show(numbers, known, folder)
            if (told := closing(config, module, numbers, folder)) is not None:
                print(told, flush=True)
    return numbers


def build_module(config: dict[str, Any], flow: Flow, blind: bool = False, allow: Sequence[str] = ()) -> FlowModule:
    """The flow with all that trains it."""
    metric = config["optimized_metric"]
    schedule = build(config["scheduler"], "scheduler", allow)
    if schedule.get("interval") not in ("step", "epoch"):
        raise Refused(f"scheduler.interval={shown(schedule.get('interval'))} counts nothing: take step or epoch")
    module = FlowModule(
        flow,
        objective=build(config["objective"], "objective", allow, Objective),
        optimizer=build(config["optimizer"], "optimizer", allow, Optimizer),
        scheduler=schedule.get("recipe"),
        interval=schedule["interval"],
        num_samples=config["num_samples"],
        seed=config["seed"],
        config=config,
        blind=blind,
    )
    numbers = [f"{stage}/{unit}" for unit in module.units for stage in ("val", "test")]
    if metric not in (None, *numbers):
        raise Refused(f"optimized_metric={metric} is not a number of this run: {', '.join(numbers[:-1])} and {numbers[-1]} are")
    return module


def build_trainer(config: dict[str, Any], folder: Path, allow: Sequence[str] = ()) -> pl.Trainer:
    """A trainer that logs nowhere yet: loggers are opened when nothing speaks against the run any more."""
    callbacks = {}
    for name, page in (config["callbacks"] or {}).items():
        if page is not None and "_target_" not in page:
            cure = f"take callbacks=[default,{name}], or ~callbacks.{name}"
            raise Refused(f"callbacks.{name} has options and was not chosen: {cure}")
        if page is not None:
            callbacks[name] = build(page, "callbacks", allow, pl.Callback)
    return build(
        config["trainer"],
        "trainer",
        allow,
        pl.Trainer,
        callbacks=[*callbacks.values()],
        logger=False,
        enable_progress_bar="progress" in callbacks,
        plugins=[AtomicIO()],
        default_root_dir=str(folder),
    )


def evaluate(
    trainer: pl.Trainer, module: FlowModule, data: FlowDataModule, config: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Validates and tests the best weights (those at the end, where nothing was validated)."""
    best = folder / "checkpoints" / "best.ckpt"
    checkpoint = best if best.exists() else None if config["train"] else config["ckpt_path"]
    if checkpoint is not None:
        load_flow(module.flow, read(checkpoint), checkpoint)
    module.flow.eval().refresh()
    # Lightning's counts, under which the scores are logged, are other ones where a run that had been trained was resumed.
    fit = trainer.fit_loop
    fit.epoch_loop._batches_that_stepped, fit.epoch_progress.current.completed = trainer.global_step, module.epoch
    loops = (trainer.validate, trainer.test) if config["test"] else (trainer.validate,)
    results = [result for loop in loops for result in loop(module, datamodule=data, verbose=False)]
    return {
        **{name: value for result in results for name, value in result.items()},
        "grade": module.flow.grade,
        "num_samples": config["num_samples"],
        "parameters": sum(parameter.numel() for parameter in module.flow.parameters()),
        "steps": trainer.global_step,
        "ranks": trainer.world_size,
        **({"base": data.source.base} if data.source.base else {}),
        **({"groups": data.groups} if data.groups else {}),
        **({"published": config["published"]} if config.get("published") is not None else {}),
    }


def baselines_of(data: FlowDataModule) -> dict[str, tuple[float, float]]:
    """Scores of models without a net on the same split, where the data are small enough to fit them in seconds."""
    if data.source.columns is not None:
        from laminar.data.table_baselines import table_baselines

        return table_baselines(data.splits, data.space, data.seed)
    if not isinstance(data.levels, int):
        return {}
    from laminar.data.baselines import baselines

    return baselines(data.splits, data.levels, data.seed)


def write_log(folder: Path) -> None:
    """Sends the process's log to ``train.log``; the terminal keeps the table and the sentences."""
    log = folder / "train.log"
    if log.exists() and rank_zero_only.rank == 0:
        mend(log)
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
