"""A run, from config to numbers."""

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from laminar.config.recipe import build
from laminar.data.datamodule import FlowDataModule
from laminar.flows import noise
from laminar.flows.flow import Flow
from laminar.flows.initialise import SetByData, initialising
from laminar.refused import Refused
from laminar.runs.folder import environment, write_json
from laminar.runs.table import show
from laminar.training.checkpoint import AtomicIO, in_precision, load_flow, read
from laminar.training.ddp import leave_group
from laminar.training.logger.open import open_loggers, summarise
from laminar.training.module import INIT, FlowModule


def run(config: dict[str, Any], folder: Path, overrides: Sequence[str] = (), worker: str | None = None) -> dict[str, Any]:
    """The steps of one run, taken by every rank. A folder that holds ``last.ckpt`` goes on from it.

    ``worker`` is the module that a further rank runs, for a trainer that starts its own. Returns the final numbers, which
    ``metrics.json`` holds too.
    """
    began = monotonic()
    write_log(folder)
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    allow = config["allow"]
    data = FlowDataModule(build(config["data"], allow), build(config.get("dequantization"), allow), config["seed"])
    flow = in_precision(build(config["flow"], allow)(data.space), config)
    module = build_module(config, flow, blind=data.source.empty)
    if rank_zero_only.rank == 0:
        write_json(folder / "environment.json", environment(config["seed"], list(overrides), data.split_record()))
    with open_loggers(config, folder) as loggers:
        trainer = build_trainer(config, folder, loggers)
        trainer.strategy.worker = worker
        try:
            if config["train"]:
                fit(trainer, module, data, config, folder)
            numbers = evaluate(trainer, module, data, config, folder)
        finally:
            leave_group()
        if trainer.is_global_zero:
            numbers["seconds"] = round(monotonic() - began, 1)
            write_json(folder / "metrics.json", numbers)
            summarise(loggers, numbers)
            show(numbers, baselines_of(data) if config["test"] and module.unit == "bpd" else {}, folder)
    return numbers


def build_module(config: dict[str, Any], flow: Flow, blind: bool = False) -> FlowModule:
    """The flow with all that trains it."""
    allow, metric = config["allow"], config["optimized_metric"]
    schedule = build(config["scheduler"], allow)
    module = FlowModule(
        flow,
        objective=build(config["objective"], allow),
        optimizer=build(config["optimizer"], allow),
        scheduler=schedule["recipe"],
        interval=schedule["interval"],
        num_samples=config["num_samples"],
        seed=config["seed"],
        config=config,
        blind=blind,
    )
    if metric not in (None, f"val/{module.unit}", f"test/{module.unit}"):
        raise Refused(f"optimized_metric={metric} is not a number of this run: val/{module.unit} and test/{module.unit} are")
    return module


def build_trainer(config: dict[str, Any], folder: Path, loggers: list) -> pl.Trainer:
    callbacks = build(config["callbacks"], config["allow"]) or {}
    return build(
        config["trainer"],
        config["allow"],
        callbacks=[callback for callback in callbacks.values() if callback is not None],
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
        load_flow(module.flow, read(checkpoint), checkpoint)
    if config["compile"]:
        module.flow.transform.compile()
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)


def initialise(flow: Flow, data: FlowDataModule, seed: int) -> None:
    """Shows the flow one batch, or every row where a part is thorough. They depend on the seed alone: all ranks start alike."""
    thorough = any(isinstance(part, SetByData) and part.thorough for part in flow.modules())
    with initialising():
        for x, context, index, _ in islice(data.first_epoch(), None if thorough else 1):
            with noise.source(noise.mix(seed, INIT, 0, index.numpy())):
                flow.log_prob(x, context)


def evaluate(
    trainer: pl.Trainer, module: FlowModule, data: FlowDataModule, config: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Validates and tests the best weights (those at the end, where nothing was validated)."""
    best = folder / "checkpoints" / "best.ckpt"
    checkpoint = best if best.exists() else None if config["train"] else config["ckpt_path"]
    if checkpoint is not None:
        load_flow(module.flow, read(checkpoint), checkpoint)
    module.flow.refresh()
    loops = (trainer.validate, trainer.test) if config["test"] else (trainer.validate,)
    results = [result for loop in loops for result in loop(module, datamodule=data, verbose=False)]
    return {
        **{name: value for result in results for name, value in result.items()},
        "grade": module.flow.grade,
        "num_samples": config["num_samples"],
        "parameters": sum(parameter.numel() for parameter in module.flow.parameters()),
        "steps": trainer.global_step,
        "ranks": trainer.world_size,
        **({"published": config["published"]} if config.get("published") is not None else {}),
    }


def baselines_of(data: FlowDataModule) -> dict[str, tuple[float, float]]:
    """Scores of models without a net on the same split, where the data are small enough to fit them in seconds."""
    if data.levels is None:
        return {}
    from laminar.data.baselines import baselines

    return baselines(data.splits, data.levels, data.seed)


def write_log(folder: Path) -> None:
    """Sends the process's log to ``train.log``; the terminal keeps the table and the sentences."""
    handler = logging.FileHandler(folder / "train.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
