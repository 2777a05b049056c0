"""Sweep: the table of all jobs at the end of a ``-m`` run."""

import csv
import traceback
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback

from laminar.config.whole import write_text
from laminar.refused import Refused, say, sentences
from laminar.runs.folder import numbers_of
from laminar.runs.outcome import FAILURE, WORST
from laminar.runs.owner import owning

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
    owned: Any = None

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        from omegaconf import open_dict, read_write

        asked = any(word.partition("=")[0] == "hydra.sweep.dir" for word in config.hydra.overrides.hydra)
        with sentences():
            self.owned = owning(Path(config.hydra.sweep.dir), another=not asked)  # given back when the process ends
            self.folder = self.owned.__enter__()
        with read_write(config), open_dict(config):  # the jobs are composed anew, by the words of Hydra's command line
            config.hydra.sweep.dir = str(self.folder)
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={_quoted(self.folder)}")

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
                write_text(folder / FAILURE, f"{type(error).__name__}: {error}\n")
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
    jobs = sorted((path.parents[1] for path in folder.rglob(".hydra/overrides.yaml")), key=_natural)
    words = [yaml.safe_load((job / ".hydra/overrides.yaml").read_text()) for job in jobs]  # as text: nothing is resolved
    overrides = [dict(word.partition("=")[::2] for word in told) for told in words]
    numbers = [numbers_of(job) for job in jobs]
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
        text = StringIO()
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        write_text(folder / "table.csv", text.getvalue())
        texts = [pretty(row) for row in rows]
        lines = [list(texts[0]), ["---"] * len(texts[0]), *([*text.values()] for text in texts)]
        write_text(folder / "table.md", "".join(f"| {' | '.join(line)} |\n" for line in lines))
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


def _status(job: Path) -> str:
    if numbers_of(job):
        return "done"
    failure = job / FAILURE
    return f"failed: {failure.read_text().partition(':')[0]}" if failure.exists() else "no result"


def _quoted(path: Path) -> str:
    """A path as a value of Hydra's command line."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts 2 before 10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in path.parts]
