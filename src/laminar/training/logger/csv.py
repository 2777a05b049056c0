"""metrics.csv: every number of a run, one row for each call of ``log``."""

import csv
import os
from io import StringIO
from pathlib import Path

from pytorch_lightning.loggers.logger import Logger

from laminar.config.whole import mend, write_text
from laminar.training.logger.logger import RunLogger


class CSV(RunLogger, Logger):
    """Appends to ``<run>/metrics.csv`` by whole lines; a new metric replaces the file by one with a further column.

    A resumed run may start before the step at which its predecessor was killed: rows from its first step on are dropped.
    """

    name, version = "csv", None

    def __init__(self, run_dir: str | Path):
        super().__init__()
        self.path = Path(run_dir) / "metrics.csv"
        self.columns: list[str] | None = None  # unknown until the first row is written
        self.last: dict[str, float] = {}
        self.start: int | None = None  # without a training: that of the first row

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params, *args, **kwargs) -> None:
        """Nothing to do: config.yaml lies beside metrics.csv."""

    def begin(self, step: int) -> None:
        self.start = step

    def log_metrics(self, metrics, step=None) -> None:
        step = step or 0
        row = {"step": step, **{name: float(value) for name, value in sorted(metrics.items())}}
        if row == self.last:
            return  # it was logged early, for a state that was saved behind it
        self.last = row
        if self.columns is None:
            start = step if self.start is None else self.start
            self._rewrite([old for old in self._rows() if int(old["step"]) < start])
        if not row.keys() <= set(self.columns):
            self._rewrite(self._rows(), row)
        with self.path.open("a", newline="") as file:
            file.write(_lines(self.columns, [row]))

    def settle(self) -> None:
        if self.path.exists():
            with self.path.open("a") as file:
                os.fsync(file.fileno())

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        mend(self.path)
        return read(self.path)

    def _rewrite(self, rows: list[dict], *new: dict) -> None:
        self.columns = list(dict.fromkeys(["step", *(name for row in [*rows, *new] for name in row)]))
        write_text(self.path, _lines(self.columns, [dict(zip(self.columns, self.columns, strict=True)), *rows]))


def read(path: str | Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv; a metric that a row does not have is an empty string."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def _lines(columns: list[str], rows: list[dict]) -> str:
    """Rows as they stand in the file, each with its end."""
    text = StringIO()
    csv.DictWriter(text, columns, restval="").writerows(rows)
    return text.getvalue()
