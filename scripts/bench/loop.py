"""Loop: what laminar-train adds to a bare training step."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from bench.measure import Model
from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.data.datamodule import FlowDataModule
from laminar.flows.initialise import initialising

FLOWS = {  # with the share of the steps that are enough to time it
    "small step": (1.0, ["flow=realnvp_flat", "size.steps=2", "size.width=64", "data.batch_size=64"]),
    "large step": (0.2, ["flow=glow", "size.levels=2", "size.steps=2", "size.width=64", "data.batch_size=32"]),
}
COMMAND = [sys.executable, "-c", "from laminar.commands.train import main; main()"]


def models(setting: Any, steps: int) -> Iterator[Model]:
    """ms of a step: a run's, by its own ``examples_per_second``, and the bare step's of the same flow on one batch."""
    folder = TemporaryDirectory(prefix="laminar-bench-")
    root = Path(folder.name)
    rows = np.random.default_rng(0).integers(0, 256, (2000, 28, 28), dtype=np.uint8)
    np.savez(root / "images.npz", images=rows)
    run, bare = Model("laminar-train", warm=False), Model("bare step", peer=True, warm=False)
    for name, (share, words) in FLOWS.items():
        count = max(1, round(share * steps))
        words = ["data=npz", f"data.path={root / 'images.npz'}", *words, *setting.words]
        run.operations[name] = lambda words=words, count=count, kept=folder: trained(words, root, count)
        bare.operations[name] = bare_step(words, count, setting.device)
    yield run
    yield bare


def trained(words: Sequence[str], root: Path, steps: int) -> float:
    """ms a step of a whole run in a process of its own."""
    number = len([*root.iterdir()])
    run = root / f"run-{number}"
    own = [
        f"trainer.max_steps={steps}",
        f"trainer.val_check_interval={steps}",
        "logger=csv",
        "test=false",
        "callbacks.pictures=null",
    ]
    own += ["trainer.limit_val_batches=2", f"hydra.run.dir={run}"]
    finished = subprocess.run([*COMMAND, *words, *own], capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(finished.stderr.strip().splitlines()[-1])
    rate = json.loads((run / "metrics.json").read_text())["examples_per_second"]
    return 1000 * size_of(words) / rate


def size_of(words: Sequence[str]) -> int:
    return int(OmegaConf.to_container(compose("train", [*words]).data, resolve=True)["batch_size"])


def bare_step(words: Sequence[str], steps: int, device: str) -> Any:
    config = compose("train", [*words])
    data = FlowDataModule(build(config.data, "data"), seed=0)
    x = data.first_batch()[0].to(device)
    flow = build(config.flow, "flow")(data.space).to(device)
    with initialising():
        flow.log_prob(x)
    optimizer = build(config.optimizer, "optimizer")(flow.parameters())
    flow.train()

    def bare() -> float:
        began = perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            (-flow.log_prob(x).mean()).backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return 1000 * (perf_counter() - began) / steps

    return bare
