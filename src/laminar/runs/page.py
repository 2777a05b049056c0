"""The page of a run: its pictures and final numbers, to be opened in a browser from the run's folder."""

import logging
import shlex
from collections.abc import Iterator
from pathlib import Path

from laminar.flows.units import UNITS
from laminar.pictures.figure import subject
from laminar.pictures.page import page
from laminar.runs.folder import numbers_of, read_config, read_json
from laminar.runs.links import below
from laminar.runs.table import lines

log = logging.getLogger(__name__)


def write_page(folder: Path) -> None:
    """Writes ``figures/index.html`` of a run that has pictures, anew. What fails is noted in the log: it does not end a run."""
    try:
        pictures = any(any(folder.glob(f"{kind}/*.png")) for kind in ("figures", "samples"))
        if pictures and (folder / "config.yaml").is_file():
            environment, numbers = read_json(folder / "environment.json"), numbers_of(folder)
            command = shlex.join(["laminar-train", *environment.get("overrides", ())])
            rows = [*(lines(numbers) if numbers else ()), *_evaluations(folder)]
            page(folder, below(folder, "figures") / "index.html", subject(read_config(folder)), command, rows)
    except Exception as error:
        log.warning("the page of %s could not be written: %s", folder, error)


def _evaluations(folder: Path) -> Iterator[tuple[str, ...]]:
    for path in sorted(folder.glob("evaluations/*.json")):
        numbers = read_json(path)
        for unit in UNITS:
            if unit in numbers:
                score = f"{numbers[unit]:.4f} ± {numbers[f'{unit}_se']:.4f}"
                yield f"{numbers['split']} {UNITS[unit]}", score, f"evaluation {path.stem}: {numbers['grade']}"
