"""Files: tables on disk, read piece by piece, so that memory holds little beside the numbers that are kept."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from laminar.refused import Refused

VALUES = 2**21  # of one piece
Piece = dict[str, np.ndarray]


class TableFile:
    """A file of named columns.

    Attributes:
        names: of the columns, in the file's order.
        rows: at most as many as this; a CSV file with line breaks inside quotes has fewer.
    """

    names: list[str]
    rows: int

    def __init__(self, path: Path):
        self.path = path

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        """Name -> the next rows' values, numbers or objects; of all columns at once, or of one after another."""
        try:
            yield from self.read(names)
        except Exception as error:  # whatever a reader says of a damaged file
            raise unreadable(self.path, error) from error

    def read(self, names: Sequence[str]) -> Iterator[Piece]:
        raise NotImplementedError

    def count(self, names: Sequence[str]) -> int:
        """How many pieces there are."""
        return -(-self.rows // self.at_once(names))

    def at_once(self, names: Sequence[str]) -> int:
        return max(1, VALUES // max(1, len(names)))


class CSVFile(TableFile):
    """Comma-separated values with a header, by pandas."""

    def __init__(self, path: Path, separator: str):
        super().__init__(path)
        self.separator = separator
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=separator)
            self.names, first = [name.strip() for name in next(lines, [])], next(lines, [])
        marks = ",;\t|" + " " * (len(first) == 1 and " " in first[0])  # a name alone may have blanks
        if len(self.names) == 1 and (other := next((mark for mark in marks if mark in self.names[0]), None)):
            raise Refused(f'{path} has one column, {self.names[0]!r}: is "data.separator={other!r}" meant?')
        if self.names and all(_is_number(name) for name in self.names):
            raise Refused(f"{path} has no header: its first line holds numbers ({', '.join(self.names[:3])}); put names there")
        if len(first) > len(self.names) > 0:  # which pandas would cut off
            raise Refused(f"{path} has {len(self.names)} names in its header and {len(first)} cells in row 1: repair the file")
        with path.open("rb") as file:
            ends, last = 0, b"\n"
            while block := file.read(2**22):
                ends, last = ends + (block.count(b"\n") or block.count(b"\r")), block[-1:]
        self.rows = max(ends - (last in b"\r\n"), 0)

    def at_once(self, names: Sequence[str]) -> int:
        return super().at_once(self.names)

    def read(self, names: Sequence[str]) -> Iterator[Piece]:
        import pandas

        # All columns are parsed: pandas passes over cells beyond the header's where it is asked for some columns alone.
        options = {"names": self.names, "header": 0, "index_col": False, "skipinitialspace": True, "encoding": "utf-8-sig"}
        with pandas.read_csv(self.path, sep=self.separator, chunksize=self.at_once(names), **options) as chunks:
            for chunk in chunks:
                yield {name: chunk[name].to_numpy() for name in names}


class ParquetFile(TableFile):
    """Parquet, streamed by pyarrow: one column of a group of rows after another, as they lie in the file."""

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            import pyarrow.parquet
        except ImportError:
            raise Refused(f"{path} is read by pyarrow: pip install 'laminar[parquet]', or write the table as .csv") from None
        self.file = pyarrow.parquet.ParquetFile(path, memory_map=True)
        self.names, self.rows = list(self.file.schema_arrow.names), self.file.metadata.num_rows

    def read(self, names: Sequence[str]) -> Iterator[Piece]:
        for group in range(self.file.num_row_groups):
            for name in names:
                yield {name: self.file.read_row_group(group, columns=[name]).column(0).to_numpy()}

    def count(self, names: Sequence[str]) -> int:
        return self.file.num_row_groups * len(names)


class NumpyFile(TableFile):
    """An array ``(N, D)`` in NumPy's format, or one of records with named fields; columns without names are x0, x1, ..."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.array = np.load(path, mmap_mode="r", allow_pickle=False)
        kind, shape = self.array.dtype, self.array.shape
        fields = [kind[name] for name in kind.names or ()]
        flat = (
            len(shape) == 1 and not any(field.shape for field in fields) if fields else len(shape) == 2 and kind.kind in "fiub"
        )
        if not flat:
            needed = "numbers of shape (rows, columns), or records (rows,) of one value a field"
            raise Refused(f"{path} holds {kind} of shape {shape}: it needs {needed}")
        self.names = list(kind.names or (f"x{place}" for place in range(shape[1])))
        self.rows = len(self.array)

    def read(self, names: Sequence[str]) -> Iterator[Piece]:
        size, array = self.at_once(names), self.array
        keys = {name: name if array.dtype.names else (slice(None), self.names.index(name)) for name in names}
        for first in range(0, self.rows, size):
            rows = array[first : first + size]
            yield {name: rows[key] for name, key in keys.items()}


def open_table(path: Path, separator: str = ",") -> TableFile:
    """The file by its suffix: ``.csv`` (``.tsv``, ``.txt``), ``.parquet`` or ``.npy``."""
    separator = separator.replace("\\t", "\t")
    if len(separator) != 1:
        raise Refused(f"data.separator={separator!r} is no single character: take one, such as ';' or '\\t'")
    kinds: dict[str, Any] = {
        **dict.fromkeys((".csv", ".txt"), lambda path: CSVFile(path, separator)),
        ".tsv": lambda path: CSVFile(path, "\t"),
        ".parquet": ParquetFile,
        ".npy": NumpyFile,
    }
    if path.suffix not in kinds:
        raise Refused(f"data.path={path} is of no kind that data=table reads: take {', '.join(kinds)}")
    if not path.is_file():
        told = "is a folder, a pipe or a device" if path.exists() else "does not exist"
        raise Refused(f"data.path={path} {told}: name the file that holds the table")
    try:
        table = kinds[path.suffix](path)
    except Refused:
        raise
    except Exception as error:  # whatever a reader says of a damaged file
        raise unreadable(path, error) from error
    if not table.names or not table.rows:
        raise Refused(f"{path} holds no row: it needs {'some below the header' if table.names else 'a header and rows'}")
    unnamed = [place for place, name in enumerate(table.names, 1) if not name]
    if unnamed:
        raise Refused(f"column {unnamed[0]} of {path} has no name (an index, perhaps): name it, or write the file without it")
    twice = next((name for name in table.names if table.names.count(name) > 1), None)
    if twice is not None:
        raise Refused(f"{path} has two columns named {twice}: rename one")
    return table


def unreadable(path: Path, error: Exception) -> Refused:
    cure = "unpack it, or write it as UTF-8 text" if isinstance(error, UnicodeError) else "repair the file"
    return Refused(f"{path} cannot be read as {path.suffix} ({' '.join(str(error).split())}): {cure}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
