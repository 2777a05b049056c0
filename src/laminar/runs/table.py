"""The table at a run's end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from laminar.flows.numerics import UNITS


def show(numbers: Mapping[str, Any], baselines: Mapping[str, tuple[float, float]], folder: Path) -> None:
    """Prints a run's final numbers, the baselines' on the same split, and where the run lies."""
    table = Table(show_header=False)
    for stage in ("test", "val"):
        for unit, title in UNITS.items():
            if f"{stage}/{unit}" in numbers:
                score, standard_error = numbers[f"{stage}/{unit}"], numbers[f"{stage}/{unit}_se"]
                behind = "draws of the flow" if unit in ("kl", "free_energy") else _behind(stage, numbers)
                table.add_row(f"{stage} {title}", f"{score:.4f} ± {standard_error:.4f}", behind)
    if "test/excess" in numbers:
        excess = f"{numbers['test/excess']:.4f} ± {numbers['test/excess_se']:.4f}"
        table.add_row("test excess", excess, "nats over the density's own, same rows")
    if "test/log_z" in numbers:
        seen = f"{numbers['test/log_z']:.4f} ± {numbers['test/log_z_se']:.4f}"
        table.add_row("test log Z", seen, f"ess {numbers['test/ess']:.1%} of the draws")
    for unit, title in UNITS.items():
        if f"teacher/{unit}" in numbers:
            score = f"{numbers[f'teacher/{unit}']:.4f} ± {numbers[f'teacher/{unit}_se']:.4f}"
            table.add_row(f"test {title}", score, "teacher, same rows")
    for name, (score, standard_error) in baselines.items():
        table.add_row("test bits/dim", f"{score:.4f} ± {standard_error:.4f}", f"baseline: {name.replace('_', ' ')}")
    table.add_row("parameters", f"{numbers['parameters']:,}")
    if "examples_per_second" in numbers:
        table.add_row("examples/s", f"{numbers['examples_per_second']:,.0f}", "training")
    if "samples_per_second" in numbers:
        table.add_row("samples/s", f"{numbers['samples_per_second']:,.0f}", "64 at once")
    for name, how in (("", "teacher, one pass in total"), ("naive_", "teacher, a pass for each value")):
        if f"teacher/{name}samples_per_second" in numbers:
            table.add_row("samples/s", f"{numbers[f'teacher/{name}samples_per_second']:,.0f}", how)
    table.add_row("time", f"{numbers['seconds']:,.0f} s", f"{numbers['steps']:,} steps")
    Console().print(table)
    print(f"The run lies in {folder}", flush=True)


def _behind(stage: str, numbers: Mapping[str, Any]) -> str:
    samples = numbers["num_samples"] if stage == "test" else 1
    return numbers["grade"] if numbers["grade"] == "exact" else f"{numbers['grade']}, K = {samples}"
