"""Latest: the run that somebody means by ``resume=latest``."""

from pathlib import Path

from laminar.refused import Refused
from laminar.runs.folder import numbers_of
from laminar.runs.owner import held

OUTPUTS = Path("outputs")


def resumable(word: str, longer: bool) -> Path:
    """The run folder that ``resume=`` names.

    ``latest`` is, of the runs below ``outputs/`` that nobody is at work on, the one that was saved last: among the unfinished
    ones, or among all where it is to be trained for ``longer``.

    Raises:
        Refused: where there is none.
    """
    folder = latest(longer) if word == "latest" else Path(word)
    if not folder.is_dir():
        raise Refused(f"resume={folder} is not a run folder: name one that laminar-train has made")
    if not (folder / "config.yaml").is_file():
        jobs = sorted(path.parent.name for path in folder.glob("*/config.yaml") if not numbers_of(path.parent))
        if jobs or (folder / "table.csv").exists():
            told = f"unfinished are {', '.join(jobs)}" if jobs else "all are finished"
            raise Refused(f"resume={folder} is a sweep: name a job of it, as {folder / (jobs or ['0'])[0]} ({told})")
        raise Refused(f"{folder} is not a run folder: it has no config.yaml")
    return folder


def latest(longer: bool) -> Path:
    saved = [path for path in OUTPUTS.glob("**/checkpoints/last.ckpt") if not path.is_symlink()]
    for path in sorted(saved, key=lambda path: path.stat().st_mtime, reverse=True):
        folder = path.parents[1]
        if (longer or not numbers_of(folder)) and not held(folder):
            return folder
    what = "run" if longer else "unfinished run"
    cure = "name a run folder" if longer else "name a run folder, or a larger trainer.max_steps= for the last finished one"
    raise Refused(f"resume=latest finds no {what} with a checkpoint below {OUTPUTS}/: {cure}")
