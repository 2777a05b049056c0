"""Standings: a sweep's table as people read it, on the screen and in a paper."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laminar.flows.units import UNITS
from laminar.runs.jobs import Job, Setting, settings, varying, winners


@dataclass(frozen=True)
class Row:
    """Column -> text; a row may be the best, or one of a job that failed."""

    cells: dict[str, str]
    best: bool = False
    failed: bool = False


def standings(jobs: Sequence[Job]) -> tuple[list[Row], list[str], list[list[str]]]:
    """Rows, the best first and the failed last; the remarks below them; the commands that repeat the best.

    A setting under several seeds has a row of its own above theirs: the mean over them.
    """
    found, knobs, numbers = settings(jobs), varying(jobs), _numbers(jobs)
    best, rows = winners(found), []
    for setting in found:
        several = len(setting.jobs) > 1
        if several:
            first = setting.jobs[0].words
            shown = {name: "" if name == "seed" else _value(first.get(name)) for name in knobs}
            means = {title: _cell(name, setting) for name, title in numbers.items()}
            rows.append(_row(f"mean of {len(setting.jobs)}", shown | means, setting in best))
        for job in setting.jobs:
            shown = {name: _value(job.words.get(name)) for name in knobs}
            own = {title: _cell(name, job) for name, title in numbers.items()}
            rows.append(_row(job.name, shown | own, setting in best and not several))
    failed = [job for job in jobs if job.failure]
    for job in failed:
        shown = {name: _value(job.words.get(name)) for name in knobs}
        rows.append(Row({"job": job.name, **shown, **dict.fromkeys(numbers.values(), ""), "failure": job.failure}, failed=True))
    if failed:
        rows = [Row({**row.cells, "failure": row.cells.get("failure", "")}, row.best, row.failed) for row in rows]
    return rows, _remarks(found, numbers), [setting.command for setting in best]


def _row(job: str, cells: dict[str, str], best: bool) -> Row:
    return Row({"job": f"{job}, best" if best else job, **cells}, best)


def _numbers(jobs: Sequence[Job]) -> dict[str, str]:
    """The numbers that are told, and what their columns are called."""
    done = [job for job in jobs if not job.failure]
    names = {}
    for metric in dict.fromkeys(job.metric for job in done):
        unit = metric.partition("/")[2]
        names |= {f"{stage}/{unit}": f"{stage} {UNITS.get(unit, unit)}" for stage in ("val", "test")}
    names |= {"grade": "grade", "num_samples": "K"} if len({_graded(job) for job in done}) > 1 else {}
    names |= {"published": "published", "parameters": "parameters", "examples_per_second": "examples/s", "seconds": "time"}
    return {name: title for name, title in names.items() if any(name in job.numbers for job in done)}


def _cell(name: str, of: Job | Setting) -> str:
    """A number as it is read; of several seeds, their mean and its standard error."""
    if isinstance(of, Setting):
        mean = of.mean(name)
        value, error = mean or (of.jobs[0].numbers.get(name), None)
    else:
        value, error = of.numbers.get(name), of.numbers.get(f"{name}_se")
    if value is None:
        return ""
    if name == "seconds":
        return _time(value)
    if name in ("parameters", "examples_per_second"):
        return f"{value:,.0f}"
    if "/" in name:
        return f"{value:.4f}" + ("" if error is None else f" ± {error:.4f}")
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _remarks(found: Sequence[Setting], numbers: dict[str, str]) -> list[str]:
    several = any(len(setting.jobs) > 1 for setting in found)
    over = "groups of rows" if any("groups" in job.numbers for setting in found for job in setting.jobs) else "examples"
    remarks = [f"± is the standard error over {over}" + (", of a mean over seeds" if several else "")] if found else []
    graded = {_graded(job) for setting in found for job in setting.jobs}
    if "grade" not in numbers and len(graded) == 1 and (graded := graded.pop()) != ("exact", 1):
        remarks.append(f"scores are graded {graded[0]}, K = {graded[1]}")
    return remarks


def _graded(job: Job) -> tuple[str, int]:
    return job.numbers.get("grade", ""), job.numbers.get("num_samples", 1)


def _value(word: str | None) -> str:
    """A knob's value; the many digits of a number that a sweeper drew are cut."""
    try:
        return f"{float(word):.4g}" if len(word) > 6 and not word.isdigit() else word
    except (TypeError, ValueError):
        return word or ""


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def markdown(rows: Sequence[Row], remarks: Sequence[str], commands: Sequence[Sequence[str]]) -> str:
    """GitHub's Markdown; the best is bold, columns of numbers end at the right."""
    numeric = [all(row.cells[name][:1].isdigit() for row in rows if row.cells[name]) for name in rows[0].cells]
    lines = [[_plain(name) for name in rows[0].cells], ["---:" if right else "---" for right in numeric]]
    for row in rows:
        texts = map(_plain, row.cells.values())
        lines.append([f"**{text}**" if row.best and text else text for text in texts])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    below = [f"{'; '.join(remarks)}."] * bool(remarks) + [f"```sh\n{shlex.join(words)}\n```" for words in commands]
    return "\n".join([table, *(f"{text}\n" for text in below)])


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def show(rows: Sequence[Row], remarks: Sequence[str], commands: Sequence[Sequence[str]], folder: Path) -> None:
    """Prints the table, where it lies, and the commands of the best."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table: Any = Table(title=Text(f"{folder}"), title_justify="left", caption="; ".join(remarks), caption_justify="left")
    for name in rows[0].cells if rows else ():
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        style = "red" if row.failed else "bold green" if row.best else None
        table.add_row(*(Text(text) for text in row.cells.values()), style=style)
    console = Console()
    Console(width=None if console.is_terminal else 200).print(table)
    for words in commands:
        print(f"best: {shlex.join(words)}", flush=True)
