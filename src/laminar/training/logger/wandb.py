"""Weights & Biases: offline and silent unless the user has said otherwise."""

import netrc
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pytorch_lightning.loggers import WandbLogger

from laminar.config.checkout import commit, diff
from laminar.config.pages import CHECKOUT, CONF, PACKAGE
from laminar.config.whole import write_text
from laminar.refused import Refused
from laminar.training.logger.logger import REFUSED, RunLogger

CONNECTION_SECONDS = 30
LONGEST = 128  # name that W&B takes


class WandB(RunLogger, WandbLogger):
    """One W&B run for one run folder, under ``<run>/wandb``; a resumed folder goes on in the same run.

    Online if ``WANDB_MODE=online``, or if ``WANDB_MODE`` is unset and a login is stored; else offline, unless ``offline``
    says so or otherwise. It never asks: a mode that needs a login and finds none raises ``Refused``, a server that does not
    answer turns the run offline. With the run go the checkout's commit and diff; with ``save_code`` all of Laminar's source.
    """

    def __init__(
        self,
        run_dir: str | Path,
        project: str = "laminar",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        offline: bool | None = None,
        save_code: bool = False,
    ):
        self.mode = mode(offline)  # decided before wandb is imported, which asks for a login when it sees fit
        import wandb

        folder = Path(run_dir) / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        known = {} if (head := commit()) is None else {"git_root": str(CHECKOUT), "git_commit": head.rstrip("+")}
        settings = wandb.Settings(silent=True, console="off", init_timeout=CONNECTION_SECONDS, **known)
        super().__init__(
            # not ``offline=True``: Lightning would write it into os.environ, for every later run of this process
            mode=self.mode,
            id=_run_id(folder),
            save_dir=run_dir,
            settings=settings,
            project=project,
            entity=entity,
            name=(name or "/".join(Path(run_dir).resolve().parts[-2:]))[:LONGEST],
            group=group,
            job_type=job_type,
            tags=list(tags),
            notes=notes,
        )
        del self._wandb_init["anonymous"]  # wandb warns of this argument, even where it is None
        try:
            run = self.experiment
        except wandb.Error:
            if self.mode != "online":
                raise
            wandb.teardown()  # the attempt still holds the run's id
            self.mode = self._wandb_init["mode"] = "offline"
            run = self.experiment
        for name in ("val/bpd", "val/nll"):
            run.define_metric(name, step_metric="trainer/global_step", summary="min")
        if self.mode != "disabled" and (changes := diff()):  # which has no folder
            write_text(patch := Path(run.dir) / "diff.patch", changes)
            run.save(patch, base_path=run.dir, policy="now")
        if save_code:
            run.log_code(str(PACKAGE), f"source-{project}", lambda path: path.endswith(".py"))
            run.log_code(str(CONF), f"pages-{project}", lambda path: path.endswith(".yaml"))

    def log_picture(self, name: str, path: Path, step: int) -> None:
        self.log_image(name, [str(path)], step=step)

    def summarise(self, numbers, table=()) -> None:
        self.experiment.summary.update(dict(numbers))
        if table:
            self.log_table("final", ["number", "value", "behind it"], [list(line) for line in table])

    def close(self, exit_code: int) -> None:
        run = self.experiment
        folder, url = Path(run.dir).parent, run.url if self.mode == "online" else None
        if folder.is_relative_to(Path.cwd()):
            folder = folder.relative_to(Path.cwd())
        run.finish(exit_code=exit_code)
        if exit_code == REFUSED:
            return  # its files go with its folder
        if self.mode == "offline":
            print(f"W&B run {self.version} is offline; to upload it: wandb sync {folder}")
        elif url:
            print(f"W&B run {self.version}: {url}")


def mode(offline: bool | None = None) -> str:
    """online, offline or disabled: what ``WANDB_MODE`` says; without it online exactly if a login is stored.

    ``offline`` counts more than both, but for a W&B that is disabled.
    """
    said = os.environ.get("WANDB_MODE", "").lower()
    if offline is not None and said != "disabled":
        if not offline and not has_login():
            raise Refused("logger.offline=false needs a login: run `wandb login`, set WANDB_API_KEY or leave it null")
        return "offline" if offline else "online"
    if said in ("disabled", "offline", "dryrun"):
        return "offline" if said == "dryrun" else said
    if said not in ("", "online", "run"):
        raise Refused(f"WANDB_MODE={said} is none of online, offline and disabled")
    if said and not has_login():
        raise Refused("WANDB_MODE=online needs a login: run `wandb login`, set WANDB_API_KEY or unset WANDB_MODE")
    return "online" if has_login() else "offline"


def has_login() -> bool:
    """Whether wandb would find credentials without asking: in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    try:
        return netrc.netrc(os.path.expanduser(os.environ.get("NETRC") or "~/.netrc")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _run_id(folder: Path) -> str:
    """The run folder's own id, made on first use, and anew where the file holds something else."""
    file = folder / "run_id"
    if not file.is_file() or file.is_symlink() or not re.fullmatch(r"[0-9a-f]{8}", file.read_text().strip()):
        write_text(file, secrets.token_hex(4))
    return file.read_text().strip()
