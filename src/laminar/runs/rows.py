"""Rows: samples of a table as a table, and the rows of a file as context."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from laminar.config.whole import whole
from laminar.data.files import open_table
from laminar.data.source import Source
from laminar.data.table import Table
from laminar.flows.space import Context, rows_of
from laminar.refused import Refused

Given = dict[str, np.ndarray]


def given_by(path: str, source: Source, copies: int) -> tuple[Given, Context]:
    """The context columns of a file as they stand in it, and as the flow sees them; each row as often as asked."""
    if not isinstance(source, Table) or not source.context:
        raise Refused(f"context={path} is for flows of a table's columns given others (data.context), and this one has none")
    file = open_table(Path(path), source.separator)
    if missing := [name for name in source.context if name not in file.names]:
        raise Refused(f"{path} has no column {missing[0]}, on which this flow is conditional ({', '.join(source.context)})")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in source.context}
    for piece in file.pieces(source.context):
        for name, values in piece.items():
            parts[name].append(values)
    raw = {name: np.concatenate(pieces) for name, pieces in parts.items() if pieces}
    if not raw or not len(raw[source.context[0]]):
        raise Refused(f"{path} holds no row to be conditional on")
    rows = torch.arange(len(raw[source.context[0]])).repeat_interleave(copies)
    return {name: values[rows.numpy()] for name, values in raw.items()}, rows_of(source.given(raw), rows)


def write_rows(values: Tensor, source: Source, out: Path, given: Given | None = None) -> None:
    """A CSV file of the columns that samples were given, and of those that were drawn; categories by their words."""
    import pandas

    columns = dict(given or {})
    for place, name in enumerate(source.columns):
        column = values[:, place].double().numpy()
        kind = source.kinds.get(name) if isinstance(source, Table) else None
        words = kind and getattr(kind, "places", None)
        if words:
            columns[name] = np.array(list(words))[column.astype(np.int64)]
        elif kind is not None and kind.option == "levels":
            columns[name] = column.astype(np.int64)
        elif kind is not None and kind.step:
            columns[name] = (np.round(column / kind.step) * kind.step).round(12)
        else:
            columns[name] = column.astype(np.float32)
    with whole(out) as file:
        pandas.DataFrame(columns).to_csv(file, index=False)
