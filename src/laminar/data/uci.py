"""The UCI tables of MAF (Papamakarios, Pavlakou, Murray 2017, https://arxiv.org/abs/1705.07057), preprocessed as its code does.

Their files come from https://zenodo.org/records/1161203 and are never fetched. Scores are in the benchmark's standardised
units, those of the literature: what standardises a set is no part of the flow here.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from laminar.data.root import rooted
from laminar.data.source import Source, Split, Splits
from laminar.refused import Refused

FROM = "https://zenodo.org/records/1161203 has it"


class Benchmark(Source):
    """Splits of standardised float32 rows; the last tenth tests, and the last tenth of the rest validates.

    Args:
        root: holds the set's folder.
    """

    levels = None
    base = "benchmark's standardised units"
    dims: int
    folder: str

    def __init__(self, *, root: str | None = None, **serving):
        super().__init__(**serving)
        self.place = Path(rooted(root)) / self.folder
        self.columns = [f"x{place}" for place in range(self.dims)]

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Standardised training, validation and test rows."""
        raise NotImplementedError

    def read(self) -> Splits:
        parts = self.parts()
        if parts[0].shape[1] != self.dims:
            raise Refused(f"{self.place} gives {parts[0].shape[1]} columns, and the benchmark has {self.dims}: replace it")
        return Splits(*(Split.whole(torch.from_numpy(part.astype(np.float32))) for part in parts))

    def array(self, name: str) -> np.ndarray:
        return self.opened(name, lambda path: np.load(path, allow_pickle=False)).astype(np.float64)

    def opened(self, name: str, read: Callable[[Path], np.ndarray]) -> np.ndarray:
        path = self.place / name
        if not path.exists():
            raise Refused(f"{path} does not exist: put it there ({FROM}, in data.tar.gz)")
        try:
            return read(path)
        except Exception as error:
            raise Refused(f"{path} cannot be read ({error}): replace it ({FROM})") from error


class Power(Benchmark):
    """POWER, 6 columns, 1,659,917 / 184,435 / 204,928 rows: a household's electricity, with noise against its rounding.

    ``power/data.npy``. Rows are shuffled and columns 3 and 1 dropped; noise of 0.001 on the first column, 0.01 on the voltage
    and 1 on the three meters; by mean and deviation of training and validation rows.
    """

    dims, folder = 6, "power"

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        data, rng = self.array("data.npy"), np.random.RandomState(42)
        rng.shuffle(data)
        data = np.delete(data, [1, 3], axis=1)
        voltage, first, meters = 0.01 * rng.rand(len(data), 1), 0.001 * rng.rand(len(data), 1), rng.rand(len(data), 3)
        return by_known(*tenths(data + np.hstack([first, voltage, meters, np.zeros_like(first)])))


class Gas(Benchmark):
    """GAS, 8 columns, 852,174 / 94,685 / 105,206 rows: sensors in a mixture of ethylene and CO.

    ``gas/ethylene_CO.parquet``, which is the benchmark's ``ethylene_CO.pickle`` in a form that cannot run code. Sensors that
    are correlated by more than 0.98 with another are dropped, the first such one again and again; by mean and deviation of
    all rows.
    """

    dims, folder = 8, "gas"

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        import pandas

        path = self.place / "ethylene_CO.parquet"
        if not path.exists():
            raise Refused(
                f"{path} does not exist: {FROM} as a pickle, which may run code and is not read here; where you trust it, "
                "pandas.read_pickle('ethylene_CO.pickle').to_parquet('ethylene_CO.parquet') writes this file"
            )
        data = self.opened(path.name, pandas.read_parquet).drop(columns=["Meth", "Eth", "Time"]).to_numpy(dtype=np.float64)
        while (twins := (np.corrcoef(data.T) > 0.98).sum(1) > 1).any():
            data = np.delete(data, twins.argmax(), axis=1)
        return tenths((data - data.mean(0)) / data.std(0, ddof=1))


class Hepmass(Benchmark):
    """HEPMASS, 21 columns, 315,123 / 35,013 / 174,987 rows: particle collisions, those of a signal.

    ``hepmass/1000_train.csv`` and ``1000_test.csv``. Rows of class 1, without it and without the test file's last column; by
    mean and deviation of the training file; columns whose smallest value occurs more than 5 times are dropped.
    """

    dims, folder = 21, "hepmass"

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        import pandas

        train, test = (
            self.opened(f"1000_{name}.csv", lambda path: pandas.read_csv(path, index_col=False)).to_numpy(dtype=np.float64)
            for name in ("train", "test")
        )
        train, test = train[train[:, 0] == 1, 1:], test[test[:, 0] == 1, 1:-1]
        mean, deviation = train.mean(0), train.std(0, ddof=1)
        train, test = (train - mean) / deviation, (test - mean) / deviation
        kept = (train == train.min(0)).sum(0) <= 5
        held = len(train) // 10
        return train[:-held][:, kept], train[-held:][:, kept], test[:, kept]


class Miniboone(Benchmark):
    """MINIBOONE, 43 columns, 29,556 / 3,284 / 3,648 rows: neutrinos.

    ``miniboone/data.npy``, from which outliers and repeating columns are gone already; by mean and deviation of training and
    validation rows.
    """

    dims, folder = 43, "miniboone"

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return by_known(*tenths(self.array("data.npy")))


def tenths(data: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rest, test = np.split(data, [len(data) - len(data) // 10])
    train, val = np.split(rest, [len(rest) - len(rest) // 10])
    return train, val, test


def by_known(train: np.ndarray, val: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised by the mean and deviation of training and validation rows."""
    known = np.vstack([train, val])
    mean, deviation = known.mean(0), known.std(0)
    return tuple((part - mean) / deviation for part in (train, val, test))
