"""Table: rows of a file of your own, for density estimation of its columns, or of some given others."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from laminar.data.columns import LOOKED_AT, Categories, Column, Integers, Rounded, refuse_ties
from laminar.data.files import open_table
from laminar.data.parts import apart, by_chance, by_column, names_of, twins
from laminar.data.source import Source, Split, Splits
from laminar.refused import Refused

Name = str | int  # a column's; 2019 is one, too
FEWEST = 30  # rows that can be trained on, validated and tested


class Table(Source):
    """Rows of a ``.csv`` (with a header), ``.parquet`` or ``.npy`` file, float32 ``(N, D)`` in the table's own numbers.

    Columns are real numbers unless they are declared otherwise; one whose values repeat is refused until it is. Peak memory
    is that of the float32 numbers and a fifth.

    Args:
        path: the file.
        columns: whose density is learned, in this order; None takes all that have no other part.
        context: columns that it is conditional on, ``p(columns | context)``; categories are one-hot.
        group: a column that says which rows belong together (an image, a patient): standard errors are then those of the
            groups, and no group is on two sides of a split.
        split_column: a column with ``train``, ``val`` and ``test``; None cuts the splits by chance.
        levels: columns that hold integers 0 .. levels-1: name -> levels, or names alone.
        resolution: columns that were rounded: name -> step. Their score is a bound on the mean density within a step.
        categories: columns that hold words, counted as integers.
        codes: of categories, name -> words in the order of their integers; None finds them in the file.
        separator: between the columns of a CSV file.
        test: share or number of rows (of groups) held out for testing, the same whatever the run's seed.
    """

    levels = None

    def __init__(
        self,
        *,
        path: str,
        columns: Sequence[Name] | None = None,
        context: Sequence[Name] | None = None,
        group: Name | None = None,
        split_column: Name | None = None,
        levels: Mapping[Name, int | None] | Sequence[Name] | None = None,
        resolution: Mapping[Name, float] | None = None,
        categories: Sequence[Name] | None = None,
        codes: Mapping[Name, Sequence[Name]] | None = None,
        separator: str = ",",
        test: float = 0.1,
        **serving,
    ):
        super().__init__(**serving)
        self.path, self.separator, self.test = Path(path), separator, test
        self.asked, self.context = columns and [*map(str, columns)], [*map(str, context or ())]
        self.group, self.split_column = (name if name is None else str(name) for name in (group, split_column))
        self.columns = self.asked and [*self.asked]
        self.kinds: dict[str, Column] = {}
        counted = levels if isinstance(levels, Mapping) else dict.fromkeys(levels or ())
        declared = [Integers(str(name), number) for name, number in counted.items()]
        declared += [Rounded(str(name), step) for name, step in (resolution or {}).items()]
        declared += [Categories(str(name), (codes or {}).get(name)) for name in categories or ()]
        for column in declared:
            if (other := self.kinds.setdefault(column.name, column)) is not column:
                raise Refused(f"column {column.name} is declared in data.{other.option} and data.{column.option}: choose one")

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def base(self) -> str:
        """The measure that the score is a density of, in words."""
        kinds = [self.kinds[name] for name in self.columns]
        reals = [f"{kind.name} (rounded to {kind.step:g})" if kind.step else kind.name for kind in kinds if kind.levels is None]
        counted = [kind.name for kind in kinds if kind.levels is not None]
        told = [f"density per unit of {_few(reals)}"] if reals else []
        told += [f"probability of {_few(counted)}"] if counted else []
        return ", ".join(told) + (f", given {_few(self.context)}" if self.context else "")

    def found(self) -> dict[str, Any]:
        chosen = {"columns": list(self.columns)}
        codes = {name: kind.codes for name, kind in self.kinds.items() if kind.codes}
        return chosen | ({"codes": codes} if codes else {})

    def roles(self, names: Sequence[str]) -> None:
        """Which column of the file has which part; refuses names that it has not, and parts that clash."""
        others = [*self.context, *filter(None, (self.group, self.split_column))]
        for name in [*(self.asked or ()), *others, *self.kinds]:
            if name not in names:
                near = get_close_matches(name, names, 1)
                raise Refused(f"{self.path} has no column {name}: it has {near[0] + ', ' if near else ''}{_few(names)}")
        if both := next((name for name in others if name in (self.asked or ())), None):
            raise Refused(f"column {both} is in data.columns and a context, group or split as well: it can be one of them")
        if twice := next((name for name in others if others.count(name) > 1), None):
            raise Refused(f"column {twice} has two parts among data.context, data.group and data.split_column: choose one")
        if twice := next((name for name in self.asked or () if self.asked.count(name) > 1), None):
            raise Refused(f"data.columns names {twice} twice: a density has each column once")
        if "label" in self.context:
            raise Refused("data.context=[label] has the name that stands for classes of images: rename the column")
        self.columns = list(self.asked or (name for name in names if name not in others))
        if not self.columns:
            raise Refused("no column is left whose density could be learned: name fewer in data.context")

    def load(self, seed: int) -> Splits:
        split, parts = self.rows()
        if len(split) < FEWEST:
            raise Refused(f"{self.path} holds {len(split)} rows, too few to train, validate and test on: at least {FEWEST}")
        if parts is None:
            rows = by_chance(split, self.test, self.validation, seed)
        else:
            rows = by_column(parts, self.split_column, self.validation, seed)
        splits = apart(split, *rows)
        if any(kind.levels is None and not kind.step for kind in map(self.kinds.get, self.columns)):
            self.remarks = list(twins(splits))
        return splits

    def rows(self) -> tuple[Split, np.ndarray | None]:
        """The whole table, and what its ``split_column`` says of each row."""
        table = open_table(self.path, self.separator)
        self.roles(table.names)
        asked = [*self.columns, *self.context, *filter(None, (self.group, self.split_column))]
        for name in (*self.columns, *self.context):
            self.kinds.setdefault(name, Column(name))
        values = np.empty((table.rows, len(self.columns)), dtype=np.float32)  # memory is taken as rows come in
        given = np.empty((table.rows, len(self.context)), dtype=np.float32)
        words = {name: [] for name in (self.group, self.split_column) if name}
        blocks = ((values, self.columns), (given, self.context))
        into = {name: block[:, place] for block, names in blocks for place, name in enumerate(names)}
        every = max(1, table.rows // LOOKED_AT)
        watched = {"disable": not sys.stdout.isatty(), "transient": True}
        for piece in track(table.pieces(asked), f"reading {self.path.name}", table.count(asked), **watched):
            for name, part in piece.items():
                if name in words:
                    words[name].append(names_of(part, name, sum(map(len, words[name]))))
                else:
                    first = self.kinds[name].seen
                    into[name][first : first + len(part)] = self.kinds[name].take(part, every)
        count = self.kinds[self.columns[0]].seen
        if not count:
            raise Refused(f"{self.path} holds no row: put some below the header")
        values, given = values[:count], given[:count]
        for name, column in into.items():
            if name in self.columns or isinstance(self.kinds[name], Categories):
                column[:count] = self.kinds[name].finish(column[:count])
        refuse_ties([self.kinds[name] for name in self.columns])
        for name, column in zip(self.context, given.T, strict=True):
            if (column == column[0]).all():
                raise Refused(f"column {name} is {column[0]:g} in every row, and tells nothing: leave it out (data.context)")
        self.levels = tuple(self.kinds[name].levels for name in self.columns)
        self.rounded = tuple(self.kinds[name].step for name in self.columns)
        context = {name: self._told(name, given[:, place]) for place, name in enumerate(self.context)}
        split = Split.whole(torch.from_numpy(values), **context)
        if self.group:
            groups = np.unique(np.concatenate(words[self.group]), return_inverse=True)[1]
            split = replace(split, group=torch.from_numpy(groups))
        return split, np.concatenate(words[self.split_column]) if self.split_column else None

    def _told(self, name: str, column: np.ndarray) -> Tensor:
        """What a context column looks like: ``(N, 1)``, or one-hot ``(N, categories)``."""
        codes = self.kinds[name].codes
        column = torch.from_numpy(column)
        return column[:, None].clone() if codes is None else torch.nn.functional.one_hot(column.long(), len(codes)).float()

    def given(self, rows: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """The context of rows whose columns are given as they stand in a file."""
        if missing := next((name for name in self.context if name not in rows), None):
            raise Refused(f"this flow is conditional on {_few(self.context)}, and column {missing} is not there: give it")
        for name in self.context:
            self.kinds.setdefault(name, Column(name))
            self.kinds[name].codes = list(self.kinds[name].places) if isinstance(self.kinds[name], Categories) else None
        return {name: self._told(name, self.kinds[name].take(rows[name]).astype(np.float32)) for name in self.context}


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
