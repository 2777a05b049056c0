"""Columns of text, as wide as the terminal: the last one is cut where it is longer."""

from collections.abc import Sequence
from shutil import get_terminal_size

LEAST = 120  # where no terminal says how wide it is


def columns(rows: Sequence[Sequence[str]], cut: bool = False) -> str:
    """Rows below each other, indented; with ``cut`` no line is longer than the terminal."""
    width = get_terminal_size((LEAST, 24)).columns
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  " + "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in rows]
    return "\n".join(line if len(line) <= width or not cut else line[: width - 1].rstrip() + "…" for line in lines)
