"""Columns: what a table's column may hold, and what it becomes: real numbers, integers, rounded reals, categories.

A density can be made infinite on a value that occurs again and again, so a column with ties has no score until somebody says
where they come from: it holds integers (``levels``), was rounded to a ``resolution``, or names categories.
"""

import re
from collections.abc import Iterator, Sequence
from numbers import Number

import numpy as np

from laminar.refused import Refused, shown

TIES = 0.01  # share of a real column's rows that may repeat another's value
NUMBER_WITH_COMMAS = re.compile(r"[+-]?\d[\d.]*(,\d+)+(\.\d+)?")
LOOKED_AT = 100_000  # rows that are searched for ties, in full precision


class Column:
    """A column of real numbers. ``take`` is shown piece after piece, ``finish`` the whole.

    Attributes:
        levels: integers 0 .. levels-1, or None.
        step: multiples of which the numbers were rounded to, or None.
        codes: what the integers stand for, or None.
        tie: where it repeats itself more than a density allows: how, and the option and entry that would declare it.
    """

    levels: int | None = None
    step: float | None = None
    codes: list[str] | None = None
    tie: tuple[str, str, str] | None = None
    option = ""

    def __init__(self, name: str):
        self.name, self.seen, self.kept, self.place = name, 0, [], 0

    def take(self, values: np.ndarray, every: int = 1) -> np.ndarray:
        """The values of the next rows as float64; every so-many-th of them is kept to be looked at."""
        numbers = self.numbers(values)
        self.kept.append(numbers[(-self.seen) % every :: every].copy())
        self.seen += len(values)
        return numbers

    def numbers(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind in "mM":
            raise Refused(f"column {self.name} holds dates: write them as numbers, or leave it out (data.columns)")
        if values.dtype.kind not in "fiub":
            values = self._parsed(values)
        numbers = values.astype(np.float64)
        self.refuse(~np.isfinite(numbers), lambda row, at: f"has no (finite) value in row {row}: drop or fill such rows first")
        large = np.abs(numbers) > np.finfo(np.float32).max
        self.refuse(
            large, lambda row, at: f"holds {numbers[at]:g} in row {row}, more than float32 does: scale the column first"
        )
        return numbers

    def finish(self, column: np.ndarray) -> np.ndarray:
        """Checks the whole column, float32; gives what it becomes."""
        low, high, sample = column.min(), column.max(), np.concatenate(self.kept)
        if (sample == sample[0]).all() and low == high:
            raise Refused(f"column {self.name} is {low:g} in every row, and so has no density: leave it out (data.columns)")
        if column.std(dtype=np.float64) < 1e-4 * max(abs(low), abs(high)):
            raise Refused(
                f"column {self.name} lies between {low:.9g} and {high:.9g}, closer together than float32 tells apart: "
                "subtract its mean first"
            )
        self.check(sample)
        self.kept = []
        return column

    def check(self, sample: np.ndarray) -> None:
        values, counts = np.unique(sample, return_counts=True)
        share = counts[counts > 1].sum() / len(sample)
        if share > TIES:
            often = counts.argmax()
            told = f"in {share:.1%} of the rows ({values[often]:g} stands in {counts[often]:,} of {len(sample):,})"
            self.tie = told, *_cure(self.name, values)

    def refuse(self, wrong: np.ndarray, why) -> None:
        """Refuses the first wrong row, told from 1, by ``why(row, its place in this piece)``."""
        if wrong.any():
            at = int(wrong.argmax())
            raise Refused(f"column {self.name} {why(self.seen + at + 1, at)}")

    def _parsed(self, values: np.ndarray) -> np.ndarray:
        import pandas

        odd = np.array([not (isinstance(value, str | Number) or value is None) for value in values], dtype=bool)
        self.refuse(odd, lambda row, at: f"holds {shown(values[at])} in row {row}, neither a number nor text: leave it out")
        told = np.array([isinstance(value, str) and value.strip() != "" for value in values], dtype=bool)
        numbers = np.asarray(pandas.to_numeric(values, errors="coerce"), dtype=np.float64)
        words = told & np.isnan(numbers)
        if words.any() and not self.seen and not np.isfinite(numbers).any():
            word = values[int(words.argmax())]
            cure = f"declare data.categories=[{self.name}], or leave it out (data.columns)"
            if NUMBER_WITH_COMMAS.fullmatch(word.strip()):
                cure = "write numbers with a decimal point and nothing between thousands"
            raise Refused(f"column {self.name} holds strings ({shown(word)}): {cure}")
        self.refuse(words, lambda row, at: f"mixes types: row {row} holds {shown(values[at])} among numbers; repair the file")
        return numbers


class Integers(Column):
    """Whole numbers 0 .. levels-1; without a number of levels, up to the largest."""

    option = "levels"

    def __init__(self, name: str, levels: int | None = None):
        super().__init__(name)
        if levels is not None and levels < 2:
            raise Refused(f"data.levels={{{name}: {levels}}} leaves nothing to tell apart: take 2 or more")
        self.levels = levels

    def numbers(self, values: np.ndarray) -> np.ndarray:
        numbers = super().numbers(values)
        wrong = (numbers < 0) | (numbers != np.floor(numbers))
        self.refuse(wrong, lambda row, at: f"holds {numbers[at]:g} in row {row}, and data.levels are integers from 0 up")
        if self.levels is not None:
            told = f"and data.levels declares 0 to {self.levels - 1}"
            self.refuse(numbers >= self.levels, lambda row, at: f"holds {numbers[at]:g} in row {row}, {told}")
        return numbers

    def check(self, sample: np.ndarray) -> None:
        """Ties are what integers are for."""

    def finish(self, column: np.ndarray) -> np.ndarray:
        self.levels = self.levels or int(column.max()) + 1
        if self.levels > 2**23:
            raise Refused(f"column {self.name} has {self.levels:,} levels, more than float32 counts: declare a resolution")
        if (column == column[0]).all():
            raise Refused(f"column {self.name} is {column[0]:g} in every row, and tells nothing: leave it out (data.columns)")
        self.kept = []
        return column


class Rounded(Column):
    """Real numbers, rounded to multiples of ``step``."""

    option = "resolution"

    def __init__(self, name: str, step: float):
        super().__init__(name)
        if not step > 0:
            raise Refused(f"data.resolution={{{name}: {step}}} is no rounding step: take a number above 0")
        self.step = float(step)

    def numbers(self, values: np.ndarray) -> np.ndarray:
        numbers = super().numbers(values)
        off = np.abs(numbers / self.step - np.round(numbers / self.step)) > 1e-3
        told = f"no multiple of data.resolution={{{self.name}: {self.step:g}}}"
        self.refuse(off, lambda row, at: f"holds {numbers[at]:.9g} in row {row}, {told}")
        return numbers

    def check(self, sample: np.ndarray) -> None:
        """Ties come from the rounding."""


class Categories(Column):
    """Words, or whatever else is told apart by its name, as integers in alphabetical order; ``codes`` fixes them."""

    option = "categories"

    def __init__(self, name: str, codes: Sequence[str] | None = None):
        super().__init__(name)
        self.fixed = codes is not None
        self.places = {str(code): place for place, code in enumerate(codes or ())}

    def numbers(self, values: np.ndarray) -> np.ndarray:
        import pandas

        self.refuse(pandas.isna(values), lambda row, at: f"has no value in row {row}: drop or fill such rows first")
        words, inverse = np.unique(values.astype(str), return_inverse=True)
        if self.fixed and (unknown := [word for word in words.tolist() if word not in self.places]):
            raise Refused(f"column {self.name} holds {shown(unknown[0])}, none of this run's categories: {_few(self.places)}")
        return np.array([self.places.setdefault(word, len(self.places)) for word in words.tolist()], dtype=np.float64)[inverse]

    def check(self, sample: np.ndarray) -> None:
        """Ties are what categories are for."""

    def finish(self, column: np.ndarray) -> np.ndarray:
        if not self.fixed:
            ordered = {word: place for place, word in enumerate(sorted(self.places))}
            column = np.array([ordered[word] for word in self.places], dtype=column.dtype)[column.astype(np.int64)]
            self.places = ordered
        self.codes, self.levels, self.kept = list(self.places), len(self.places), []
        if self.levels < 2:
            raise Refused(f"column {self.name} is {_few(self.places)} in every row, and tells nothing: leave it out")
        return column


def refuse_ties(columns: Sequence[Column]) -> None:
    """Refuses all columns that repeat themselves at once, with the words that would declare them."""
    tied = [column for column in columns if column.tie]
    if not tied:
        return
    words = {
        option: ", ".join(c.tie[2] for c in tied if c.tie[1] == option) for option in dict.fromkeys(c.tie[1] for c in tied)
    }
    declared = " ".join(f"data.{option}={{{entries}}}" for option, entries in words.items())
    counted = [column.name for column in tied if column.tie[1] == "levels"]
    others = f" (integers; words and codes: data.categories=[{','.join(counted)}])" if counted else ""
    others += " (or drop rows, where whole ones repeat)" if "rounding step" in declared else ""
    also = f", and so do {_few(column.name for column in tied[1:])}: a density" if tied[1:] else ", and a density"
    raise Refused(
        f"column {tied[0].name} repeats itself {tied[0].tie[0]}{also} has no upper bound there: declare {declared}{others}"
    )


def _cure(name: str, values: np.ndarray) -> tuple[str, str]:
    """What a column with ties could be declared as: an option of the data, and its entry."""
    if values.min() >= 0 and (values == np.floor(values)).all():
        return "levels", f"{name}: {int(values.max()) + 1}"
    step = next(_steps(values), None)
    return "resolution", f"{name}: {f'{step:g}' if step else 'the rounding step'}"


def _steps(values: np.ndarray) -> Iterator[float]:
    """Decimal steps that all values, each different, are multiples of, the largest first."""
    for power in range(6, -10, -1):
        step = 10.0**power
        multiples = np.round(values / step)
        if (np.abs(values / step - multiples) < 1e-4).all() and len(np.unique(multiples)) == len(values):
            yield step


def _few(words) -> str:
    words = list(words)
    return ", ".join(words[:8]) + (f", ... ({len(words)})" if len(words) > 8 else "")
