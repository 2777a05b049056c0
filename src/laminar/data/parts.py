"""Parts: which rows of a table are trained on, validated and tested, and how they come apart in its own memory."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from laminar.data.source import TEST_SEED, Split, Splits, cut
from laminar.flows.noise import mix
from laminar.refused import Refused

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
Rows = tuple[Tensor, Tensor, Tensor]


def names_of(values: np.ndarray, column: str, before: int) -> np.ndarray:
    """What a column says of some rows, as text; refuses a row of which it says nothing."""
    import pandas

    if (missing := pandas.isna(values)).any():
        row = before + int(missing.argmax()) + 1
        raise Refused(f"column {column} has no value in row {row}: drop or fill such rows first")
    return values.astype(str)


def by_chance(split: Split, test: float, validation: float, seed: int) -> Rows:
    """Rows for training, validation and testing, by chance; whole groups where there are groups."""
    unit = torch.arange(len(split)) if split.group is None else split.group
    count, what = int(unit.max()) + 1, "rows" if split.group is None else "groups"
    if count < 3:
        raise Refused(f"data.group has too few groups ({count}) to train, validate and test on different ones: leave it out")
    rest, held = cut(count, test, TEST_SEED, "data.test", what)
    _, val = cut(len(rest), validation, seed, "data.validation", what)
    part = torch.zeros(count, dtype=torch.int8)
    part[held], part[rest[val]] = 2, 1
    return tuple((part[unit] == number).nonzero()[:, 0] for number in range(3))


def by_column(words: np.ndarray, column: str, validation: float, seed: int) -> Rows:
    unknown = [word for word in np.unique(words).tolist() if word not in PARTS]
    if unknown:
        raise Refused(f"column {column} holds {unknown[0]!r}: data.split_column knows train, val and test")
    called = {part: [word for word, meant in PARTS.items() if meant == part] for part in ("train", "val", "test")}
    train, val, test = (torch.from_numpy(np.flatnonzero(np.isin(words, names))) for names in called.values())
    for part, found in (("train", train), ("val", val), ("test", test)):
        if len(found) < 2 and (part != "val" or len(found)):
            raise Refused(f"column {column} marks {len(found)} rows as {part}: at least 2 are needed")
    if not len(val):
        kept, held = cut(len(train), validation, seed, "data.validation")
        train, val = train[kept], train[held]
    return train, val, test


def apart(split: Split, train: Tensor, val: Tensor, test: Tensor) -> Splits:
    """The three parts. The training rows move to the front of the whole table's memory, so that no second copy is made."""
    others = split.pick(val), split.pick(test)
    count, size = len(train), 2**16
    for block in (split.values, *split.context.values()):
        for first in range(0, count, size):  # rows in order stand no further forward than they go
            here = train[first : first + size]
            block[first : first + len(here)] = block[here]
    context = {name: value[:count] for name, value in split.context.items()}
    group = None if split.group is None else split.group[train]
    return Splits(replace(split, values=split.values[:count], context=context, ids=split.ids[train], group=group), *others)


def twins(splits: Splits) -> Iterator[str]:
    """Sentences about test and validation rows that training rows repeat."""

    def keys(split: Split) -> np.ndarray:
        return mix(*split.values.numpy().view(np.uint32).T)

    known = keys(splits.train)
    for name in ("val", "test"):
        split = getattr(splits, name)
        if found := int(np.isin(keys(split), known).sum()):
            yield f"{found:,} of the {len(split):,} {name} rows repeat a training row in every column: their score is too good"
