"""Many processes for one run: every rank reads the run folder's config and takes the same steps."""

import os
import subprocess
import sys
from collections.abc import Sequence
from threading import Thread
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor

from laminar.training.lost_rank import watch

ENVIRONMENT = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class DDP(DDPStrategy):
    """Lightning's DDP, whose further ranks are ``python -m <worker>``, a module and its arguments.

    They do not repeat the command line: in a sweep, under a launcher or with a sampler it means another job.

    Attributes:
        worker: the module of a further rank, and its arguments, named by who starts the trainer.
    """

    worker: tuple[str, ...]

    def _configure_launcher(self) -> None:
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


class Launcher(_SubprocessScriptLauncher):
    """Starts the ranks of this machine, once for all of the run's fits and tests."""

    def launch(self, function: Any, *args: Any, trainer: pl.Trainer, **kwargs: Any) -> Any:
        self.command = command(trainer.strategy.worker)
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            Thread(target=watch, args=(self.procs,), daemon=True).start()
        return function(*args, **kwargs)

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        address = {
            "MASTER_ADDR": self.cluster_environment.main_address,
            "MASTER_PORT": str(self.cluster_environment.main_port),
            "NODE_RANK": str(self.cluster_environment.node_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }
        os.environ.update(address, LOCAL_RANK=str(self.cluster_environment.local_rank()))
        for rank in range(1, self.num_processes):
            self.procs.append(subprocess.Popen(self.command, env={**os.environ, "LOCAL_RANK": str(rank)}))


def command(worker: Sequence[str]) -> list[str]:
    """What starts a further rank. ``-m`` alone would import from the working directory, which may be a run folder."""
    here = {"", os.getcwd()} & {*sys.path}  # where this rank does so itself
    return [sys.executable, *([] if here else ["-P"]), "-m", *worker]


def agree(trainer: pl.Trainer, value: int) -> int:
    """The largest value of any rank, on every rank."""
    if trainer.world_size == 1:
        return value
    return int(trainer.strategy.reduce(torch.tensor(value, device=trainer.strategy.root_device), reduce_op="max"))


def mean_where_logged(trainer: pl.Trainer, numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    """A training step's numbers by name: their means over the ranks if the step is logged, else this rank's own.

    Nobody waits for others on steps that nobody reads. (``self.log`` cannot be told so: Lightning keeps the ``sync_dist`` of
    its first call.)
    """
    if trainer.world_size == 1 or not trainer._logger_connector.should_update_logs:
        return numbers
    means = trainer.strategy.reduce(torch.stack([number.detach().float() for number in numbers.values()]), reduce_op="mean")
    return dict(zip(numbers, means, strict=True))


def first_said(trainer: pl.Trainer, text: str | None) -> str | None:
    """What the first rank says that says anything, on every rank."""
    if trainer.world_size == 1:
        return text
    texts: list[str | None] = [None] * trainer.world_size
    torch.distributed.all_gather_object(texts, text)
    return next((text for text in texts if text), None)


def leave_group() -> None:
    """Ends the process group and forgets its address, so that the next job of a sweep starts its own ranks."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in ENVIRONMENT:
        os.environ.pop(name, None)
