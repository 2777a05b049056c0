"""Evaluation: the likelihood of a split, with its standard error, its grade and the samples behind it."""

import sys
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from laminar.config.settings import in_force, name_of
from laminar.flows import noise
from laminar.flows.draw import classes_of
from laminar.flows.flow import Flow
from laminar.flows.solver.finer import solved
from laminar.flows.units import UNITS
from laminar.refused import Refused
from laminar.runs.against import check
from laminar.runs.compiled import compile_flow
from laminar.runs.folder import write_json
from laminar.runs.links import below
from laminar.runs.open import open_data, open_run, split_of
from laminar.runs.page import write_page
from laminar.runs.same import compare
from laminar.runs.scoring import accuracy, evaluate, paired, resolved
from laminar.training.metric import REPEATS
from laminar.training.module import STAGES

GROUPS = ("trace", "solver")  # what an evaluation may choose otherwise than the training
LARGEST = 0.01  # bits/dim or nats that a finer solve may move a score by without a warning


def start(config: DictConfig) -> float:
    """Evaluates, prints a table, and writes ``<run>/evaluations/<split>-K<samples>[-<settings>].json``. Gives the score."""
    if config.num_samples is not None and config.num_samples < 1:
        raise Refused(f"num_samples={config.num_samples} is no number of draws: take 1 or more (64 is a good start)")
    if config.accuracy_samples < 0:
        raise Refused(f"accuracy_samples={config.accuracy_samples} is negative: take 0 to leave the accuracy out")
    if config.finer_rows < 0:
        raise Refused(f"finer_rows={config.finer_rows} is negative: take 0 to leave the finer solve out")
    settings = chosen(config)
    flow, trained, folder, known = open_run(config.run, config.device, config.allow, settings)
    data = open_data(trained, config.data, config.allow)
    if data.source.empty:
        raise Refused(f"{config.run} was trained on no data, so there is nothing to score: its metrics.json has its numbers")
    samples, repeats = draws(flow, config.num_samples, config.repeats)
    split = split_of(data, config.split)
    changed = compare(config.run, known, flow.space, data, config.split)
    if config.compile:
        compile_flow(flow, flow.device)
    size = config.batch_size or data.source.eval_batch_size or data.source.batch_size
    keys = noise.mix(trained["seed"], STAGES[config.split], 0, range(len(split)))
    began = monotonic()
    numbers = evaluate(flow, split, keys, size, samples, data.source.log_prob, repeats)
    if (classes := classes_of(flow)) and config.accuracy_samples:
        counts = torch.bincount(data.splits.train.labels, minlength=classes)
        numbers |= accuracy(flow, split, keys, size, counts, config.accuracy_samples)
    numbers |= in_force(trained["flow"], GROUPS) | changed
    numbers |= {"groups": int(split.group.unique().numel())} if split.group is not None else {}
    numbers |= {"base": data.source.base} if data.source.base else {}
    if config.against is not None:
        other, theirs, _, known = open_run(config.against, config.device, config.allow)
        check(trained, theirs, flow, other, config.against, config.split)
        compare(config.against, known, other.space, data, config.split)
        asked = [(samples, repeats), draws(other, config.num_samples, config.repeats if other.noisy else None)]
        numbers |= {"against": str(config.against), **paired(flow, other, split, keys, size, asked)}
    if solved(flow) and config.finer_rows:
        numbers["finer"] = resolved(flow, split, keys, size, config.finer_rows)
    numbers = {"split": config.split, "rows": len(split), **numbers, "seconds": round(monotonic() - began, 1)}
    words = [config.split, f"K{numbers['num_samples']}", *([f"R{repeats}"] if repeats not in (1, REPEATS) else [])]
    path = below(folder, "evaluations") / ("-".join([*words, *filter(None, [name_of(settings, config.allow)])]) + ".json")
    write_json(path, {"run": str(config.run), **numbers})
    show(numbers, path)
    write_page(folder)
    if "finer" in numbers and (sentence := warning(numbers["finer"], UNITS[flow.unit])):
        print(f"laminar: {sentence}", file=sys.stderr, flush=True)
    return numbers[flow.unit]


def chosen(config: DictConfig) -> dict[str, dict[str, Any]]:
    """The words that put other options, or another member, in the place of the trained flow's trace and solver."""
    pages = {group: OmegaConf.to_container(config[group], resolve=True) for group in GROUPS}
    if config.num_probes is not None:
        pages["trace"]["num_probes"] = config.num_probes
    pages = {group: {name: value for name, value in page.items() if value is not None} for group, page in pages.items()}
    return {group: page for group, page in pages.items() if page}


def draws(flow: Flow, num_samples: int | None, repeats: int | None) -> tuple[int, int]:
    """How many samples are behind a bound and how many repeats behind an estimate, 1 where a flow has no use for them."""
    if repeats is not None and repeats < 1:
        raise Refused(f"repeats={repeats} estimates nothing: take 1 or more")
    if repeats is not None and repeats > 1 and not flow.noisy:
        raise Refused(
            f"repeats={repeats} would change nothing: it averages estimates of log-dets, and these are exact: leave it out"
        )
    if num_samples is None:
        num_samples = 64 if flow.stochastic and not flow.noisy and flow.unit == flow.space.unit else 1
    return num_samples, repeats or (REPEATS if flow.noisy else 1)


def show(numbers: dict[str, Any], path: Path) -> None:
    """Prints the numbers and where they lie."""
    table = Table(show_header=False, title=str(path), title_justify="left")
    table.add_row("split", f"{numbers['split']}, {numbers['rows']:,} examples")
    for unit, name in UNITS.items():
        if unit in numbers:
            exact = numbers["grade"] == "exact"
            behind = "exact" if exact else f"{numbers['grade']}, K = {numbers['num_samples']}"
            behind = f"{numbers['grade']}, mean of {numbers['repeats']}" if "repeats" in numbers else behind
            table.add_row(name, f"{numbers[unit]:.4f} ± {numbers[unit + '_se']:.4f}  {behind}")
        if f"{unit}_estimator_se" in numbers:
            table.add_row("", f"± {numbers[f'{unit}_estimator_se']:.4f}  by the estimator alone, on the same rows")
        if f"{unit}_K1" in numbers:
            single = f"{numbers[unit + '_K1']:.4f} ± {numbers[unit + '_K1_se']:.4f}"
            table.add_row("", f"{single}  {numbers['grade']}, K = 1, mean of {numbers['num_samples']}")
    if "excess" in numbers:
        table.add_row("excess", f"{numbers['excess']:.4f} ± {numbers['excess_se']:.4f}  nats over the density's own, same rows")
    if "accuracy" in numbers:
        table.add_row("accuracy of p(y | x)", f"{numbers['accuracy']:.2%} ± {numbers['accuracy_se']:.2%}")
    for group in GROUPS:
        if isinstance(numbers.get(group), dict):
            options = ", ".join(f"{name} {value:g}" for name, value in numbers[group].items() if type(value) in (int, float))
            table.add_row(group, f"{numbers[group]['member']}{options and f', {options}'}")
    if numbers.get("finer", {}).get("moved") is not None:
        moved = f"{numbers['finer']['moved']:+.1g} ± {numbers['finer']['moved_se']:.1g}"
        table.add_row("by a finer solve", f"{moved}  on {numbers['finer']['rows']:,} examples")
    if "groups" in numbers:
        table.add_row("", f"± is that of {numbers['groups']} groups of rows")
    if "base" in numbers:
        table.add_row("", numbers["base"])
    if "data" in numbers:
        table.add_row("", f"on other data than the run's: {numbers['data']['changed']}")
    if "against" in numbers:
        difference = f"{numbers['difference']:+.4f} ± {numbers['difference_se']:.4f}"
        table.add_row("less the other's", f"{difference}  on the same rows, {numbers['against']}")
    table.add_row("time", f"{numbers['seconds']:,.1f} s")
    Console().print(table)


def warning(found: dict[str, Any], unit: str) -> str | None:
    """One sentence where a solver is not fine enough for a score to be trusted."""
    if found["moved"] is None:
        return (
            "a finer solve did not arrive, so the solver's error is unknown: allow more solver.max_steps, or keep to "
            "tolerances that the numbers' precision carries"
        )
    if abs(found["moved"]) > LARGEST:
        return (
            f"a finer solve moves the score by {found['moved']:+.4f} {unit}, more than {LARGEST}: the number is the solver's "
            "as much as the flow's, so lower solver.rtol and solver.atol (or raise solver.steps)"
        )
    return None
