"""The table at a run's end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def show(numbers: Mapping[str, Any], baselines: Mapping[str, tuple[float, float]], folder: Path) -> None:
    """Prints a run's final numbers, the baselines' on the same split, and where the run lies."""
    table = Table(show_header=False, title=f"{folder}", title_justify="left")
    for name in ("val/bpd", "val/nll", "test/bpd", "test/nll"):
        if name in numbers:
            table.add_row(_title(name), f"{numbers[name]:.4f} ± {numbers[name + '_se']:.4f}  {_behind(name, numbers)}")
    for name, (score, standard_error) in baselines.items():
        table.add_row(f"test bits/dim, {name}", f"{score:.4f} ± {standard_error:.4f}")
    if "published" in numbers:
        table.add_row("published", f"{numbers['published']:g}")
    table.add_row("parameters", f"{numbers['parameters']:,}")
    if "examples_per_second" in numbers:
        table.add_row("examples/s", f"{numbers['examples_per_second']:,.0f}")
    table.add_row("time", f"{numbers['seconds']:,.0f} s, {numbers['steps']:,} steps")
    Console().print(table)


def _title(name: str) -> str:
    stage, unit = name.split("/")
    return f"{stage} {'bits/dim' if unit == 'bpd' else 'nats'}"


def _behind(name: str, numbers: Mapping[str, Any]) -> str:
    samples = numbers["num_samples"] if name.startswith("test") else 1
    return numbers["grade"] if numbers["grade"] == "exact" else f"{numbers['grade']}, K = {samples}"
