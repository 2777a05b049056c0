"""The default for a table of one's own beside densities without a net: python scripts/own_tables.py [splits=4] [seed=100]

[out=outputs/own_tables] [tables=iris,wine,...] [further words for laminar-train]. Writes scikit-learn's tables with a column
that cuts each of them by chance into 70 % training, 10 % validation and 20 % test rows, several times, and trains the default
on each cut: laminar-train data=table data.path=<file> data.split_column=split, with what a refusal asks to be declared. Nats of
the test rows (bits/dim, where all columns are integers), mean over the cuts, and the mean difference to each baseline with its
standard error over the cuts.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn import datasets

TABLES = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "diabetes": lambda **options: datasets.load_diabetes(scaled=False, **options),
    "digits": datasets.load_digits,
}
PARTS = ["train"] * 7 + ["val"] + ["test"] * 2


def table(name: str) -> pd.DataFrame:
    """A table's measurements without columns that never change; diabetes with what it is asked to predict."""
    bunch = TABLES[name](as_frame=True)
    frame = bunch.frame if name == "diabetes" else bunch.data
    return frame.loc[:, frame.nunique() > 1].rename(columns=lambda column: re.sub(r"\W+", "_", column).strip("_"))


def train(path: Path, folder: Path, words: list[str]) -> dict:
    """The numbers of a run on a file, which is asked for once more with all that its refusal declares."""
    command = [f"data.path={path}", "data=table", "data.split_column=split", "logger=csv", f"hydra.run.dir={folder}", *words]
    while (done := subprocess.run(["laminar-train", *command], capture_output=True, text=True)).returncode:
        declared = [word for word in re.findall(r"data\.\w+=\{[^}]*\}", done.stderr) if word not in command]
        if not declared:
            raise SystemExit(done.stderr)
        command += declared
    return json.loads((folder / "metrics.json").read_text())


def compared(name: str, splits: int, seed: int, out: Path, words: list[str]) -> list[str]:
    """A line of the table."""
    frame, numbers, seconds = table(name), [], []
    for cut in range(splits):
        parts = np.resize(PARTS, len(frame))
        np.random.default_rng(seed + cut).shuffle(parts)
        path = out / f"{name}_{cut}.csv"
        frame.assign(split=parts).to_csv(path, index=False)
        start = time.monotonic()
        numbers.append(train(path, out / f"{name}_{cut}", words))
        seconds.append(time.monotonic() - start)
    unit = "test/bpd" if "test/bpd" in numbers[0] else "test/nll"
    own = np.array([found[unit] for found in numbers])
    line = [name, f"{len(frame)} x {frame.shape[1]}", f"{own.mean():.3f}"]
    for kind in ("gaussian", "mixture", "kernel"):
        other = np.array([next(v for k, v in found.items() if k.startswith(f"baselines/{kind}")) for found in numbers])
        apart = other - own
        line.append(f"{other.mean():.3f} ({apart.mean():+.3f} ± {apart.std(ddof=1) / splits**0.5:.3f})")
    return [*line, f"{max(seconds):.0f}"]


def main(words: list[str]) -> None:
    own = {"splits": "4", "seed": "100", "out": "outputs/own_tables", "tables": ",".join(TABLES)}
    own |= {key: value for key, _, value in (word.partition("=") for word in words) if key in own}
    rest = [word for word in words if word.partition("=")[0] not in own]
    out = Path(own["out"]).absolute()
    out.mkdir(parents=True, exist_ok=True)
    shown = Table("table", "rows x columns", "flow", "Gaussian", "mixture (BIC)", "kernel density", "longest, s")
    for name in own["tables"].split(","):
        line = compared(name, int(own["splits"]), int(own["seed"]), out, rest)
        print(*line, sep="  ", flush=True)
        shown.add_row(*line)
    Console().print(shown)


if __name__ == "__main__":
    main(sys.argv[1:])
