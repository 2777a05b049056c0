"""Sweep: the table and the picture of all jobs of a ``-m`` run."""

import csv
import logging
import re
import traceback
from collections.abc import Sequence
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from laminar.config.whole import write_text
from laminar.flows.units import UNITS
from laminar.refused import Refused, say, sentences
from laminar.runs.jobs import Job, Setting, read, settings, varying
from laminar.runs.outcome import FAILURE, WORST
from laminar.runs.owner import owning
from laminar.runs.standings import markdown, show, standings

log = logging.getLogger(__name__)

SCORES = (*UNITS, "distortion", "bpd_K1", "nll_K1")
NUMBERS = (
    *(f"{stage}/{unit}{error}" for stage in ("val", "test") for unit in SCORES for error in ("", "_se")),
    *("grade", "num_samples", "test/active_units", "test/excess", "test/excess_se", "test/log_z", "test/log_z_se", "test/ess"),
    *("published", "parameters", "train_seconds", "seconds"),
    *("examples_per_second", "scored_per_second", "samples_per_second"),
)


class SweepTable(Callback):
    """Leaves in the sweep's folder, after each job, ``table.md``, the best first, and ``table.csv``, all numbers job by job; at
    the end prints the table, and draws the scores against the options that varied (``table.png``).

    A failed job does not end a sweep: it leaves its reason in its folder and counts as the worst score; the sweep then
    exits with status 1.
    """

    failed = False
    folder: Path | None = None
    owned: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """A launcher's processes have neither the folder nor what holds it."""
        return {}

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        from omegaconf import open_dict, read_write

        asked = any(word.partition("=")[0] == "hydra.sweep.dir" for word in config.hydra.overrides.hydra)
        with sentences():
            self.owned = owning(Path(config.hydra.sweep.dir), another=not asked)  # given back when the process ends
            self.folder = self.owned.__enter__()
        with read_write(config), open_dict(config):  # the jobs are composed anew, by the words of Hydra's command line
            config.hydra.sweep.dir = str(self.folder)
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={_quoted(self.folder)}")
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys={_shared(config)}")

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
        jobs = write(self.folder)
        show(*standings(jobs), self.folder)
        draw(jobs, self.folder)
        if self.failed or any(job.failure for job in jobs):
            raise SystemExit(1)


def write(folder: Path) -> list[Job]:
    """Writes the tables of a sweep's folder; gives its jobs."""
    jobs = read(folder)
    if jobs:
        text, knobs = StringIO(), varying(jobs)
        shown = [name for name in NUMBERS if any(name in job.numbers for job in jobs)]
        writer = csv.writer(text)
        writer.writerow(["job", *knobs, "status", *shown])
        for job in jobs:
            status = f"failed: {job.failure}" if job.failure else "done"
            words = [job.words.get(name) or "" for name in knobs]
            writer.writerow([job.name, *words, status, *(job.numbers.get(name, "") for name in shown)])
        write_text(folder / "table.csv", text.getvalue())
        write_text(folder / "table.md", markdown(*standings(jobs)))
    return jobs


def draw(jobs: Sequence[Job], folder: Path) -> None:
    """``table.png``: the scores against the options that varied; of several sets of data one each, by their names."""
    from laminar.pictures.knobs import Entry, knobs

    contests: dict[tuple[str, str], list[Setting]] = {}
    for setting in settings(jobs):
        if isfinite(setting.score):
            contests.setdefault(setting.contest, []).append(setting)
    for (data, metric), found in contests.items():
        names = [name for name in varying([job for setting in found for job in setting.jobs]) if name != "seed"]
        stage, _, unit = metric.partition("/")
        told = re.sub(r"\W+", "_", f"{data} {unit}")
        file = folder / (f"table-{told}.png" if len(contests) > 1 else "table.png")
        words = [{name: setting.jobs[0].words.get(name) or "" for name in names} for setting in found]
        scores = [[job.score for job in setting.jobs] for setting in found]
        try:
            if names:
                knobs(list(map(Entry, words, scores)), names, f"{stage} {UNITS.get(unit, unit)}", file)
        except Exception:
            log.exception("%s could not be drawn", file)


def _shared(config: Any) -> list[str]:
    """The options that all jobs have in common: a job is called by its others."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    return [word.key_or_group for word in words if not word.is_sweep_override()]


def _quoted(path: Path) -> str:
    """A path as a value of Hydra's command line."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"
