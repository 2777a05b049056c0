"""How a run comes to its folder: as a new one that Hydra composed, or as one that goes on."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from laminar.config.allow import packages
from laminar.config.judge import judge
from laminar.config.knobs import unread
from laminar.config.machine import refuse_other_machine
from laminar.config.pages import recompose
from laminar.config.plain import refuse_unplain
from laminar.config.whole import write_text
from laminar.refused import Refused, say, stoppable
from laminar.runs.changes import changed, is_budget
from laminar.runs.folder import claim, numbers_of, read_config, write_composition
from laminar.runs.latest import resumable
from laminar.runs.links import refuse_links
from laminar.runs.outcome import FAILURE, WORST, score
from laminar.runs.owner import owning
from laminar.runs.run import run
from laminar.runs.same import CHANGED
from laminar.runs.sweep import write as write_tables
from laminar.runs.undone import undone
from laminar.runs.untuned import untold
from laminar.runs.words import told
from laminar.training.callbacks.nonfinite import Diverged
from laminar.training.lost_rank import RankLost

WORKER = "laminar.runs.worker"


def start(config: DictConfig) -> float:
    """A new run in a folder of its own: the one that Hydra chose, or one beside it. Gives the number that a sweep minimises."""
    hydra = HydraConfig.get()
    in_sweep = hydra.mode == RunMode.MULTIRUN
    asked = in_sweep or any(word.partition("=")[0] == "hydra.run.dir" for word in hydra.overrides.hydra)
    with (
        owning(Path(hydra.runtime.output_dir), another=not asked) as folder,
        nullcontext() if in_sweep else undone(folder),  # a sweep's job becomes a row of its table
    ):
        claim(folder)
        settled(folder)
        words = list(hydra.overrides.task)
        if added := untold(config, words):
            print(f"data=table, untuned: {' '.join(added)}", flush=True)
            config, words = recompose("train", added + words), added + words
        write_composition(folder, config, hydra)
        idle = unread(OmegaConf.to_container(config), words)
        plain = OmegaConf.to_container(OmegaConf.masked_copy(config, [key for key in config if key not in idle]), resolve=True)
        judge(plain, "train", packages(words))  # again, for the job of a sweep, and for what a table added
        plain |= told(plain, OmegaConf.to_container(hydra.runtime.choices), words, in_sweep and hydra.job.override_dirname)
        plain |= {"sweep": Path(hydra.sweep.dir).name} if in_sweep else {}
        refuse_unplain(plain, "the config of this run")
        return attempt(plain, folder, words, in_sweep)


def settled(folder: Path) -> None:
    """Tells Hydra which folder it is, before anything is resolved that asks for it."""
    runtime = HydraConfig.instance().cfg.hydra.runtime
    with read_write(runtime):
        runtime.output_dir = str(folder)


def resume(folder: str | Path, overrides: Sequence[str] = ()) -> float:
    """Goes on with a run in its folder, or with the ``latest``, from its ``last.ckpt``; see ``changes`` for what may change.

    The numbers of a shorter budget stay beside, in ``metrics-<steps>.json``. A sweep whose job it is has its tables anew.
    """
    words = [word for word in overrides if word.split("=")[0] not in (CHANGED, "allow")]
    longer = any(map(is_budget, words))
    folder = resumable(str(folder), longer)
    with owning(folder):
        refuse_links(folder)
        plain = read_config(folder)
        config = changed(plain, words)
        if numbers_of(folder) and not longer:
            raise Refused(f"{folder} is finished: to train it for longer, add trainer.max_steps= or trainer.max_epochs=")
        if not (folder / "checkpoints" / "last.ckpt").exists():
            raise Refused(f"{folder} has no checkpoints/last.ckpt to go on from: start the run anew")
        judge(config, "train", packages(overrides), [root for root in config if config[root] != plain.get(root)])
        if config["trainer"] != plain["trainer"]:
            refuse_other_machine(config["trainer"], config["data"].get("batch_size", 1))
        try:
            return attempt(config, folder, overrides)
        finally:
            if (folder.parent / "table.csv").is_file():
                write_tables(folder.parent)


def attempt(plain: dict[str, Any], folder: Path, overrides: Sequence[str], in_sweep: bool = False) -> float:
    """Runs; a run that diverges ends with one sentence and status 1, or in a sweep with the worst score."""
    plain["allow"] = allow = packages(overrides)  # whatever a page or the folder says
    last = folder / "checkpoints" / "last.ckpt"
    try:
        with stoppable(lambda: f"go on with laminar-train resume={folder}" if last.exists() else "nothing was trained yet"):
            return score(plain, run(plain, folder, overrides, WORKER, allow))
    except (Diverged, RankLost) as error:
        say(error)
        write_text(folder / FAILURE, f"{type(error).__name__}: {error}\n")
        if in_sweep:
            return WORST
        raise SystemExit(1) from None
