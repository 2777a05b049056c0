"""metrics.csv: every number of a run, one row for each call of ``log``."""

import csv
from pathlib import Path

from pytorch_lightning.loggers.logger import Logger

from laminar.training.logger.logger import RunLogger


class CSV(RunLogger, Logger):
    """Appends to ``<run>/metrics.csv``; a new metric rewrites the file with one more column.

    A resumed run may start before the step at which its predecessor was killed: rows from that step on are dropped.
    """

    name, version = "csv", None

    def __init__(self, run_dir: str | Path):
        super().__init__()
        self.path = Path(run_dir) / "metrics.csv"
        self.columns: list[str] | None = None  # unknown until the first row is written

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params, *args, **kwargs) -> None:
        """Nothing to do: config.yaml lies beside metrics.csv."""

    def log_metrics(self, metrics, step=None) -> None:
        step = step or 0
        row = {"step": step, **{name: float(value) for name, value in sorted(metrics.items())}}
        if self.columns is None:
            self._rewrite([old for old in self._rows() if int(old["step"]) < step])
        if not row.keys() <= set(self.columns):
            self._rewrite(self._rows(), row)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def _rows(self) -> list[dict[str, str]]:
        return read(self.path) if self.path.exists() else []

    def _rewrite(self, rows: list[dict], *new: dict) -> None:
        self.columns = list(dict.fromkeys(["step", *(name for row in [*rows, *new] for name in row)]))
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def read(path: str | Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv; a metric that a row does not have is an empty string."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))
