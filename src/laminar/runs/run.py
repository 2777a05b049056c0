"""A run, from config to numbers."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torch.optim import Optimizer

from laminar.config.recipe import build, cook
from laminar.config.whole import mend
from laminar.data.datamodule import FlowDataModule
from laminar.data.source import Source
from laminar.flows import noise
from laminar.flows.compose.chain import Chain, links_of
from laminar.flows.flow import Flow
from laminar.flows.initialise import SetByData, initialising
from laminar.flows.memory import remember
from laminar.flows.space import Context
from laminar.flows.transform import Transform
from laminar.refused import Refused, shown
from laminar.runs.folder import begin, environment, write_json
from laminar.runs.open import still
from laminar.runs.page import write_page
from laminar.runs.same import accepts, go_on
from laminar.runs.table import show
from laminar.training.callbacks.nonfinite import Diverged
from laminar.training.checkpoint import AtomicIO, in_precision, load_flow, read
from laminar.training.ddp import leave_group
from laminar.training.logger.open import open_loggers, summarise
from laminar.training.lost_rank import waited_for
from laminar.training.module import INIT, FlowModule
from laminar.training.objective.objective import Objective
from laminar.training.resumable import refuse_other_state

FITTED = 20_000  # rows that a prior is fitted to


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
    if rank_zero_only.rank == 0:
        begin(folder, config, environment(config["seed"], list(overrides), data.split_record()))
        for remark in data.source.remarks:
            print(remark, flush=True)
    with open_loggers(config, folder, allow) as loggers:
        trainer = build_trainer(config, folder, loggers, allow)
        trainer.strategy.worker = (worker, str(folder), *allow)
        try:
            ready = monotonic()
            if config["train"]:
                fit(trainer, module, data, config, folder)
            trained = monotonic() - ready
            numbers = evaluate(trainer, module, data, config, folder)
        except RuntimeError as error:
            if not isinstance(error, Diverged) and (found := waited_for(getattr(trainer.strategy.launcher, "procs", ()))):
                raise found from None
            raise
        finally:
            leave_group()
        if trainer.is_global_zero:
            numbers |= {"train_seconds": round(trained, 1), "seconds": round(monotonic() - began, 1)}
            known = baselines_of(data) if config["test"] and module.unit in ("bpd", "nll") else {}
            if data.source.columns is not None:
                numbers |= {f"baselines/{name}": score for name, (score, _) in known.items()}
                numbers |= {f"baselines/{name}_se": error for name, (_, error) in known.items()}
            write_json(folder / "metrics.json", numbers)
            summarise(loggers, numbers)
            write_page(folder)
            show(numbers, known, folder)
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


def build_trainer(config: dict[str, Any], folder: Path, loggers: list, allow: Sequence[str] = ()) -> pl.Trainer:
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
        logger=loggers,
        enable_progress_bar="progress" in callbacks,
        plugins=[AtomicIO()],
        default_root_dir=str(folder),
    )


def fit(trainer: pl.Trainer, module: FlowModule, data: FlowDataModule, config: dict[str, Any], folder: Path) -> None:
    """Trains, from ``last.ckpt`` if there is one, else from ``ckpt_path``, else from the data-dependent start."""
    last = folder / "checkpoints" / "last.ckpt"
    checkpoint = last if last.exists() else config["ckpt_path"]
    if checkpoint is None:
        initialise(module.flow, data, config["seed"])
    else:
        content = read(checkpoint)
        refuse_other_state(content, trainer, module, checkpoint)
        load_flow(module.flow, content, checkpoint)
    recalling(module.flow, config.get("memory", "store"))
    if config["compile"]:
        module.flow.transform.compile()
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)


def recalling(flow: Flow, how: str) -> None:
    """Has the flow keep as much as ``memory`` says, and tells which parts keep all of theirs nevertheless."""
    kept = remember(flow, how)
    if kept and rank_zero_only.rank == 0:
        reasons = [f"{number} {reason}" for reason, number in Counter(kept.values()).items()]
        print(f"memory={how}, and all is kept of {len(kept)} parts: {'; '.join(reasons)}", flush=True)


def initialise(flow: Flow, data: FlowDataModule, seed: int) -> None:
    """Shows the flow one batch, and before that every row to each part that is thorough, behind what leads there.

    They depend on the seed alone: all ranks start alike.
    """

    def show(see: Callable[[Tensor, Context], Any], batches: int | None) -> None:
        with initialising():
            for x, context, index, _ in islice(data.first_epoch(), batches):
                with noise.source(noise.mix(seed, INIT, 0, index.numpy())):
                    see(x, context)

    if _thorough(flow.context):
        show(lambda x, context: flow.context(context), None)
    links = list(links_of(flow.transform))
    for place, link in enumerate(links):
        if _thorough(link):
            front = Chain.of(flow.transform.domain, links[: place + 1])
            show(lambda x, context, front=front: front(x, flow.context(context)), None)
    if _thorough(flow.prior):
        seen: list[Tensor] = []
        show(lambda x, context: seen.append(flow.encode(x, context)), -(-FITTED // data.source.batch_size))
        with initialising():
            flow.prior.log_prob(torch.cat(seen))
    show(flow.log_prob, 1)


def _thorough(module: nn.Module) -> bool:
    return any(isinstance(part, SetByData) and part.thorough for part in module.modules())


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
