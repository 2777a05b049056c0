"""How a run comes to its folder: as a new one that Hydra composed, or as one that goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from laminar.config.knobs import unread
from laminar.config.pages import recompose
from laminar.refused import Refused, say
from laminar.runs.folder import claim, read_config, write_composition, write_config
from laminar.runs.outcome import FAILURE, WORST, score
from laminar.runs.run import run
from laminar.runs.untuned import untold
from laminar.training.callbacks.nonfinite import Diverged

WORKER = "laminar.runs.worker"
RESUMABLE = ("trainer.max_steps", "trainer.max_epochs", "trainer.max_time", "test", "num_samples")


def start(config: DictConfig) -> float:
    """A new run in the folder that Hydra chose. Gives the number that a sweep minimises."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    claim(folder)
    words = list(hydra.overrides.task)
    if added := untold(config, words):
        print(f"data=table, untuned: {' '.join(added)}", flush=True)
        config, words = recompose("train", added + words), added + words
    write_composition(folder, config, hydra)
    idle = unread(OmegaConf.to_container(config), words)
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, [key for key in config if key not in idle]), resolve=True)
    return attempt(plain, folder, words, in_sweep=hydra.mode == RunMode.MULTIRUN)


def resume(folder: str | Path, overrides: Sequence[str] = ()) -> float:
    """Goes on with a run in its folder, from its ``last.ckpt``; a longer budget is all that may change."""
    folder = Path(folder)
    plain = read_config(folder)
    for word in overrides:
        if word.split("=")[0] not in RESUMABLE:
            raise Refused(f"{word} cannot change in the middle of a run: with resume= only {', '.join(RESUMABLE)} can")
    if (folder / "metrics.json").exists() and not overrides:
        raise Refused(f"{folder} is finished: to train it for longer, add trainer.max_steps= or trainer.max_epochs=")
    if not (folder / "checkpoints" / "last.ckpt").exists():
        raise Refused(f"{folder} has no checkpoints/last.ckpt to go on from: start the run anew")
    longer = OmegaConf.merge(plain, OmegaConf.from_dotlist(list(overrides)))
    return attempt(OmegaConf.to_container(longer), folder, overrides)


def attempt(plain: dict[str, Any], folder: Path, overrides: Sequence[str], in_sweep: bool = False) -> float:
    """Runs; a run that diverges ends with one sentence and status 1, or in a sweep with the worst score."""
    write_config(folder, plain)
    try:
        return score(plain, run(plain, folder, overrides, worker=WORKER))
    except Diverged as error:
        say(error)
        (folder / FAILURE).write_text(f"Diverged: {error}\n")
        if in_sweep:
            return WORST
        raise SystemExit(1) from None
