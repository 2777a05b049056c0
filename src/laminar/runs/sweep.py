"""Sweep: the table of all jobs at the end of a ``-m`` run."""

import csv
import json
import traceback
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from laminar.refused import Refused, say
from laminar.runs.outcome import FAILURE, WORST

# What a score may be called; no torch is imported to know it.
UNITS = ("bpd", "nll", "noisy_nll", "not_a_likelihood", "free_energy", "kl")
SPEEDS = ("examples_per_second", "scored_per_second", "samples_per_second")
SCORES = (*UNITS, "distortion", "bpd_K1", "nll_K1")
AS_IT_IS = ("published", "grade", "num_samples", "train_seconds", "seconds")
NUMBERS = (
    *(f"{stage}/{unit}{error}" for stage in ("val", "test") for unit in SCORES for error in ("", "_se")),
    *(
        "grade",
        "num_samples",
        "test/active_units",
        "test/excess",
        "test/excess_se",
        "test/log_z",
        "test/log_z_se",
        "test/ess",
        "published",
        "parameters",
        "train_seconds",
        "seconds",
        *SPEEDS,
    ),
)


class SweepTable(Callback):
    """Writes ``table.csv`` and ``table.md`` into the sweep's folder after each job, and prints the table at the end.

    A failed job does not end a sweep: it leaves its reason in its folder and counts as the worst score; the sweep then
    exits with status 1.
    """

    failed = False
    folder: Path | None = None

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        self.folder = Path(config.hydra.sweep.dir)

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        from hydra.core.utils import JobStatus
        from hydra.types import RunMode

        if job_return.hydra_cfg is None or job_return.hydra_cfg.hydra.mode != RunMode.MULTIRUN:
            return
        if job_return.status == JobStatus.FAILED:
            error = job_return._return_value
            if isinstance(error, Refused):
                say(error)
            else:
                traceback.print_exception(error)
            folder = Path(job_return.hydra_cfg.hydra.runtime.output_dir)
            if not (folder / "metrics.json").exists():  # a finished run, which the job was about to overwrite
                folder.mkdir(parents=True, exist_ok=True)
                (folder / FAILURE).write_text(f"{type(error).__name__}: {error}\n")
            self.failed = True
            job_return.return_value, job_return.status = WORST, JobStatus.COMPLETED
        if self.folder is not None:  # None in a launcher's process of its own
            write(self.folder)

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        rows = write(self.folder)
        show(rows, self.folder)
        if self.failed or any(row["status"] != "done" for row in rows):
            raise SystemExit(1)


def read(folder: Path) -> list[dict[str, Any]]:
    """One row for each job of a sweep's folder: the overrides that differ, status, scores, parameters, time."""
    from omegaconf import OmegaConf

    jobs = sorted((path.parents[1] for path in folder.rglob(".hydra/overrides.yaml")), key=_natural)
    overrides = [dict(word.partition("=")[::2] for word in OmegaConf.load(job / ".hydra/overrides.yaml")) for job in jobs]
    numbers = [_numbers(job) for job in jobs]
    names = dict.fromkeys(name for words in overrides for name in words)
    differing = [name for name in names if len({words.get(name) for words in overrides}) > 1]
    shown = [name for name in NUMBERS if any(name in found for found in numbers)]
    return [
        {
            "job": str(job.relative_to(folder)),
            **{name: words.get(name, "") for name in differing},
            "status": _status(job),
            **{name: found.get(name, "") for name in shown},
        }
        for job, words, found in zip(jobs, overrides, numbers, strict=True)
    ]


def write(folder: Path) -> list[dict[str, Any]]:
    """Writes the table of a sweep's folder as CSV and as Markdown; gives its rows."""
    rows = read(folder)
    if rows:
        with (folder / "table.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        texts = [pretty(row) for row in rows]
        lines = [list(texts[0]), ["---"] * len(texts[0]), *([*text.values()] for text in texts)]
        (folder / "table.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
    return rows


def pretty(row: dict[str, Any]) -> dict[str, str]:
    """A row as people read it: each score with its standard error in one cell."""
    text = {}
    for name, value in row.items():
        if name.endswith("_se"):
            text[name.removesuffix("_se")] += f" ± {value:.4f}" if value != "" else ""
        elif name in ("parameters", "test/active_units"):
            text[name] = f"{value:,.0f}" if value != "" else ""
        elif name == "num_samples":
            text["K"] = str(value)
        elif name in SPEEDS:
            text[name.removesuffix("_per_second") + "/s"] = f"{value:,.0f}" if value != "" else ""
        else:
            exact = name not in NUMBERS or value == "" or name in AS_IT_IS
            text[name] = str(value) if exact else f"{value:.4f}"
    return text


def show(rows: list[dict[str, Any]], folder: Path) -> None:
    """Prints the table, and where it lies."""
    from rich.console import Console
    from rich.table import Table

    texts = [pretty(row) for row in rows]
    table = Table(*(texts[0] if texts else []), title=f"{folder}: {len(rows)} jobs", title_justify="left")
    for text in texts:
        table.add_row(*text.values(), style=None if text["status"] == "done" else "red")
    console = Console()
    Console(width=None if console.is_terminal else 200).print(table)


def _numbers(job: Path) -> dict[str, Any]:
    path = job / "metrics.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _status(job: Path) -> str:
    if (job / "metrics.json").exists():
        return "done"
    failure = job / FAILURE
    return f"failed: {failure.read_text().partition(':')[0]}" if failure.exists() else "no result"


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts 2 before 10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in path.parts]
