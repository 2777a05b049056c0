"""Prepare: a flow as its training begins: from the run's last state, from a checkpoint, or as its first data show it."""

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from laminar.data.datamodule import FlowDataModule
from laminar.flows import noise
from laminar.flows.compose.chain import Chain, links_of
from laminar.flows.flow import Flow
from laminar.flows.initialise import SetByData, initialising
from laminar.flows.memory import remember
from laminar.flows.space import Context
from laminar.runs.compiled import compile_flow
from laminar.training.checkpoint import load_flow, read
from laminar.training.module import INIT, FlowModule
from laminar.training.resumable import refuse_other_state

FITTED = 20_000  # rows that a prior is fitted to


def prepare(
    trainer: pl.Trainer, module: FlowModule, data: FlowDataModule, config: dict[str, Any], folder: Path
) -> str | Path | None:
    """Where training begins: ``last.ckpt`` if there is one, else ``ckpt_path``, else None: the data-dependent start."""
    data.train_dataloader()  # refuses more rows to a batch than there are
    last = folder / "checkpoints" / "last.ckpt"
    checkpoint = last if last.exists() else config["ckpt_path"]
    if checkpoint is None:
        initialise(module.flow, data, config["seed"])
    else:
        content = read(checkpoint)
        refuse_other_state(content, trainer, module, checkpoint)
        load_flow(module.flow, content, checkpoint)
        if rank_zero_only.rank == 0:
            print(f"goes on after step {content['global_step']:,} of {checkpoint}", flush=True)
    recalling(module.flow, config.get("memory", "store"))
    if config["compile"]:
        compile_flow(module.flow, trainer.strategy.root_device)
    return checkpoint


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
