"""Links: a run writes into its own folder. A link in a folder that somebody else has made leads out of it."""

from pathlib import Path

from laminar.refused import Refused


def refuse_links(folder: Path) -> None:
    """Refuses a run folder with a link in it, before a run goes on there; W&B's own, which it makes anew, may stay."""
    for path in sorted(folder.rglob("*")):
        room, *rest = path.relative_to(folder).parts
        if path.is_symlink() and not (room == "wandb" and rest):
            raise _leads_out(path)


def below(folder: Path, name: str) -> Path:
    """A folder of a run's, for new files of it."""
    path = folder / name
    if path.is_symlink():
        raise _leads_out(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _leads_out(path: Path) -> Refused:
    return Refused(f"{path} is a link, and a run's files are written into its own folder: put what it leads to in its place")
