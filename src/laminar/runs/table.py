"""The table at a run's end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from laminar.flows.units import UNITS
from laminar.training.metric import REPEATS


def show(numbers: Mapping[str, Any], baselines: Mapping[str, tuple[float, float]], folder: Path) -> None:
    """Prints a run's final numbers, the baselines' on the same split, and where the run lies."""
    table, latent = Table(show_header=False), "test/distortion" in numbers or "val/distortion" in numbers
    for stage in ("test", "val"):
        for unit, title in UNITS.items():
            if f"{stage}/{unit}" in numbers:
                behind = "draws of the flow" if unit in ("kl", "free_energy") else _behind(stage, numbers)
                behind = "of q(z | x) from p(z)" if latent and unit == "kl" else behind
                table.add_row(f"{stage} {title}", told(numbers, f"{stage}/{unit}"), behind)
            if f"{stage}/{unit}_estimator_se" in numbers:
                alone = f"± {numbers[f'{stage}/{unit}_estimator_se']:.4f}"
                table.add_row("", alone, f"by the estimator alone, mean of {REPEATS} on the same rows")
            if f"{stage}/{unit}_K1" in numbers:
                behind = f"{numbers['grade']}, K = 1, mean of {numbers['num_samples']}"
                table.add_row("", told(numbers, f"{stage}/{unit}_K1"), behind)
        if f"{stage}/distortion" in numbers:
            table.add_row(f"{stage} distortion", told(numbers, f"{stage}/distortion"), "nats of x given z")
    if "test/active_units" in numbers:
        units = f"{numbers['test/active_units']:.0f}"
        table.add_row("active units", units, "latents whose mean given x varies by more than 0.01")
    if "test/excess" in numbers:
        table.add_row("test excess", told(numbers, "test/excess"), "nats over the density's own, same rows")
    if "test/log_z" in numbers:
        table.add_row("test log Z", told(numbers, "test/log_z"), f"ess {numbers['test/ess']:.1%} of the draws")
    for unit, title in UNITS.items():
        if f"teacher/{unit}" in numbers:
            table.add_row(f"test {title}", told(numbers, f"teacher/{unit}"), "teacher, same rows")
    if "test/nll_standardised" in numbers:
        table.add_row("test nats", told(numbers, "test/nll_standardised"), "of the standardised columns")
    title = UNITS["nll" if "test/nll" in numbers and "test/bpd" not in numbers else "bpd"]
    for name, (score, standard_error) in baselines.items():
        table.add_row(f"test {title}", f"{score:.4f} ± {standard_error:.4f}", f"baseline: {name.replace('_', ' ')}")
    if "base" in numbers:
        table.add_row("", "", numbers["base"])
    if "groups" in numbers:
        table.add_row("", "", "± is that of groups of rows")
    table.add_row("parameters", f"{numbers['parameters']:,}")
    if "examples_per_second" in numbers:
        table.add_row("examples/s", f"{numbers['examples_per_second']:,.0f}", "training")
    if "scored_per_second" in numbers:
        table.add_row("scored/s", f"{numbers['scored_per_second']:,.0f}", _behind("test", numbers))
    if "samples_per_second" in numbers:
        table.add_row("samples/s", f"{numbers['samples_per_second']:,.0f}", "64 at once")
    for name, how in (("", "teacher, one pass in total"), ("naive_", "teacher, a pass for each value")):
        if f"teacher/{name}samples_per_second" in numbers:
            table.add_row("samples/s", f"{numbers[f'teacher/{name}samples_per_second']:,.0f}", how)
    table.add_row("time", f"{numbers['seconds']:,.0f} s", f"{numbers['steps']:,} steps")
    Console().print(table)
    print(f"The run lies in {folder}", flush=True)


def told(numbers: Mapping[str, Any], name: str) -> str:
    """A number and its standard error."""
    return f"{numbers[name]:.4f} ± {numbers[f'{name}_se']:.4f}"


def _behind(stage: str, numbers: Mapping[str, Any]) -> str:
    samples = numbers["num_samples"] if stage == "test" else 1
    return numbers["grade"] if numbers["grade"] == "exact" else f"{numbers['grade']}, K = {samples}"
