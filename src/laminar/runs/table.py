"""The table at a run's end: on the screen, and on the page of its pictures."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from laminar.flows.units import UNITS
from laminar.training.metric import REPEATS

Baselines = Mapping[str, tuple[float, float]]


def show(numbers: Mapping[str, Any], baselines: Baselines, folder: Path) -> None:
    """Prints a run's final numbers, the baselines' on the same split, and where the run lies."""
    table = Table(show_header=False)
    for line in lines(numbers, baselines):
        table.add_row(*map(Text, line))
    Console().print(table)
    print(f"The run lies in {folder}", flush=True)


def lines(numbers: Mapping[str, Any], baselines: Baselines = MappingProxyType({})) -> Iterator[tuple[str, ...]]:
    """What is told of a run's numbers: what it is, the number, and what is behind it. Baselines are among the numbers, too."""
    latent = "test/distortion" in numbers or "val/distortion" in numbers
    baselines = {**_baselines(numbers), **baselines}
    for stage in ("test", "val"):
        for unit, title in UNITS.items():
            if f"{stage}/{unit}" in numbers:
                behind = "draws of the flow" if unit in ("kl", "free_energy") else _behind(stage, numbers)
                behind = "of q(z | x) from p(z)" if latent and unit == "kl" else behind
                yield (f"{stage} {title}", told(numbers, f"{stage}/{unit}"), behind)
            if f"{stage}/{unit}_estimator_se" in numbers:
                alone = f"± {numbers[f'{stage}/{unit}_estimator_se']:.4f}"
                yield ("", alone, f"by the estimator alone, mean of {REPEATS} on the same rows")
            if f"{stage}/{unit}_K1" in numbers:
                behind = f"{numbers['grade']}, K = 1, mean of {numbers['num_samples']}"
                yield ("", told(numbers, f"{stage}/{unit}_K1"), behind)
        if f"{stage}/distortion" in numbers:
            yield (f"{stage} distortion", told(numbers, f"{stage}/distortion"), "nats of x given z")
    if "test/active_units" in numbers:
        units = f"{numbers['test/active_units']:.0f}"
        yield ("active units", units, "latents whose mean given x varies by more than 0.01")
    if "test/excess" in numbers:
        yield ("test excess", told(numbers, "test/excess"), "nats over the density's own, same rows")
    if "test/log_z" in numbers:
        yield ("test log Z", told(numbers, "test/log_z"), f"ess {numbers['test/ess']:.1%} of the draws")
    for unit, title in UNITS.items():
        if f"teacher/{unit}" in numbers:
            yield (f"test {title}", told(numbers, f"teacher/{unit}"), "teacher, same rows")
    if "test/nll_standardised" in numbers:
        yield ("test nats", told(numbers, "test/nll_standardised"), "of the standardised columns")
    title = UNITS["nll" if "test/nll" in numbers and "test/bpd" not in numbers else "bpd"]
    for name, (score, standard_error) in baselines.items():
        yield (f"test {title}", f"{score:.4f} ± {standard_error:.4f}", f"baseline: {name.replace('_', ' ')}")
    if isinstance(numbers.get("published"), int | float):
        yield (f"test {title}", f"{numbers['published']:g}", "published")
    if "base" in numbers:
        yield ("", "", numbers["base"])
    if "groups" in numbers:
        yield ("", "", "± is that of groups of rows")
    yield ("parameters", f"{numbers['parameters']:,}", "")
    if "examples_per_second" in numbers:
        yield ("examples/s", f"{numbers['examples_per_second']:,.0f}", "training")
    if "scored_per_second" in numbers:
        yield ("scored/s", f"{numbers['scored_per_second']:,.0f}", _behind("test", numbers))
    if "samples_per_second" in numbers:
        yield ("samples/s", f"{numbers['samples_per_second']:,.0f}", "64 at once")
    for name, how in (("", "teacher, one pass in total"), ("naive_", "teacher, a pass for each value")):
        if f"teacher/{name}samples_per_second" in numbers:
            yield ("samples/s", f"{numbers[f'teacher/{name}samples_per_second']:,.0f}", how)
    yield ("time", f"{numbers['seconds']:,.0f} s", f"{numbers['steps']:,} steps")


def told(numbers: Mapping[str, Any], name: str) -> str:
    """A number and its standard error."""
    return f"{numbers[name]:.4f} ± {numbers[f'{name}_se']:.4f}"


def _baselines(numbers: Mapping[str, Any]) -> Baselines:
    names = [name.removeprefix("baselines/") for name in numbers if name.startswith("baselines/") and not name.endswith("_se")]
    return {name: (numbers[f"baselines/{name}"], numbers[f"baselines/{name}_se"]) for name in names}


def _behind(stage: str, numbers: Mapping[str, Any]) -> str:
    samples = numbers["num_samples"] if stage == "test" else 1
    return numbers["grade"] if numbers["grade"] == "exact" else f"{numbers['grade']}, K = {samples}"
