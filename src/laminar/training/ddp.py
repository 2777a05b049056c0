"""Many processes for one run: every rank reads the run folder's config and takes the same steps."""

import os
import subprocess
import sys
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

ENVIRONMENT = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class DDP(DDPStrategy):
    """Lightning's DDP, whose further ranks are ``python -m <worker> <run folder>``.

    They do not repeat the command line: in a sweep, under a launcher or with a sampler it means another job.

    Attributes:
        worker: the module of a further rank, named by who starts the trainer.
    """

    worker: str

    def _configure_launcher(self) -> None:
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


class Launcher(_SubprocessScriptLauncher):
    """Starts the ranks of this machine, once for all of the run's fits and tests."""

    def launch(self, function: Any, *args: Any, trainer: pl.Trainer, **kwargs: Any) -> Any:
        self.command = [sys.executable, "-m", trainer.strategy.worker, trainer.default_root_dir]
        return super().launch(function, *args, trainer=trainer, **kwargs)

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


def agree(trainer: pl.Trainer, value: int) -> int:
    """The largest value of any rank, on every rank."""
    if trainer.world_size == 1:
        return value
    return int(trainer.strategy.reduce(torch.tensor(value, device=trainer.strategy.root_device), reduce_op="max"))


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
