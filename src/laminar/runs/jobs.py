"""Jobs: what a sweep's folder tells of its runs, and which of them are one setting under several seeds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from laminar.flows.units import UNITS
from laminar.runs.folder import numbers_of, read_json
from laminar.runs.outcome import FAILURE

_MINIMISED = re.compile(r"^optimized_metric: (\w+/\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its folder's name, the words of its command line, what it is known by in the end."""

    name: str
    words: dict[str, str]
    numbers: dict[str, Any]
    failure: str  # a sentence; empty of a job that is done
    metric: str  # under which name the sweep minimises its score
    data: str

    @property
    def score(self) -> float:
        """Infinite of a job without one."""
        value = self.numbers.get(self.metric, inf)
        return value if isfinite(value) else inf

    @property
    def contest(self) -> tuple[str, str]:
        """Scores of other data, or by other names, are not to be compared."""
        return self.data, self.metric


@dataclass(frozen=True)
class Setting:
    """Jobs that are done and differ by seed alone, the best first."""

    jobs: Sequence[Job]

    @property
    def score(self) -> float:
        return fmean(job.score for job in self.jobs)

    @property
    def contest(self) -> tuple[str, str]:
        return self.jobs[0].contest

    @property
    def command(self) -> list[str]:
        """The words that repeat it."""
        words = dict(self.jobs[0].words)
        seeds = sorted({job.words["seed"] for job in self.jobs if "seed" in job.words}, key=_natural)
        if seeds:
            words["seed"] = ",".join(seeds)
        multirun = ["-m"] if len(seeds) > 1 else []
        return [
            "laminar-train",
            *multirun,
            *(f"{name}={value}" if value is not None else name for name, value in words.items()),
        ]

    def mean(self, name: str) -> tuple[float, float] | None:
        """Mean and standard error of a number over the seeds; None where fewer than two have it."""
        values = [job.numbers[name] for job in self.jobs if isinstance(job.numbers.get(name), int | float)]
        return (fmean(values), stdev(values) / len(values) ** 0.5) if len(values) > 1 else None


def read(folder: Path) -> list[Job]:
    """The jobs of a sweep's folder, in their order."""
    jobs = []
    for page in sorted(folder.rglob(".hydra/overrides.yaml"), key=lambda path: _natural(path.parents[1])):
        job, words = page.parents[1], yaml.safe_load(page.read_text())  # as text: nothing is resolved
        numbers, split = numbers_of(job), read_json(job / "environment.json").get("split", {})
        told = {name: value if sign else None for name, sign, value in (word.partition("=") for word in words)}
        own = Path(told.get("data.path") or told.get("data.root") or "").stem  # of files of one's own
        data = " ".join(filter(None, [split.get("source"), own]))
        jobs.append(Job(str(job.relative_to(folder)), told, numbers, _failure(job, numbers), _metric(job, numbers), data))
    return jobs


def settings(jobs: Sequence[Job]) -> list[Setting]:
    """The settings of the jobs that are done: contest by contest, the best first."""
    groups: dict[tuple, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.score):
        if not job.failure:
            without = {name: value for name, value in job.words.items() if name != "seed"}
            groups.setdefault((job.contest, *sorted(without.items(), key=str)), []).append(job)
    contests = list(dict.fromkeys(job.contest for job in jobs))
    return sorted(map(Setting, groups.values()), key=lambda found: (contests.index(found.contest), found.score))


def winners(found: Sequence[Setting]) -> list[Setting]:
    """Of settings in their order, the best of each contest of several."""
    contests: dict[tuple[str, str], list[Setting]] = {}
    for setting in found:
        contests.setdefault(setting.contest, []).append(setting)
    return [best for best, *others in contests.values() if others and isfinite(best.score)]


def varying(jobs: Sequence[Job]) -> list[str]:
    """The options by which jobs differ."""
    names = dict.fromkeys(name for job in jobs for name in job.words)
    return [name for name in names if len({job.words.get(name, "") for job in jobs}) > 1]


def _metric(job: Path, numbers: dict[str, Any]) -> str:
    page = job / "config.yaml"
    if page.is_file() and (asked := _MINIMISED.search(page.read_text(encoding="utf-8"))):
        return asked[1]
    return next((f"val/{unit}" for unit in UNITS if f"val/{unit}" in numbers), "")


def _failure(job: Path, numbers: dict[str, Any]) -> str:
    if numbers:
        return ""
    reason = job / FAILURE
    return " ".join(reason.read_text().split()) if reason.exists() else "no result"


def _natural(path: Path | str) -> list[tuple[bool, int, str]]:
    """Sorts 2 before 10."""
    parts = Path(path).parts
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
