"""How long flows take, ours and the peers': python scripts/benchmark.py W1 W4   or   flow=glow data=cifar10

W1 to W10 (all of them, where nothing is named) build one flow by Laminar and by each peer that is installed
(pip install laminar[bench]) at equal shapes; further words are laminar-train's, for ours. Without a W they are the flow itself,
several with -- between them: it is scored, trained and sampled on its own data.

Everything is timed by turns in one process, so that ratios mean something on a machine that drifts: read those, not ms.
``ratio`` is the best peer's median over the line's own (without peers: the first line's), ``limit`` how many times the matrix
and convolution work of our model the line takes, at the rate that this machine reached on such work in the same run.

Options: rounds=9 threads=<torch's> device=cpu|cuda precision=float32|bf16 (of networks) compile=false peers=true
clock=wall|cpu (of this process) json=<file> markdown=<file> shares=false (what kinds of kernels our first model's time goes to)
"""

import json
import sys
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from statistics import median

import torch
from bench import pages
from bench.measure import Model, Row, limits, machine, measure, shares, work
from bench.workloads import WORKLOADS, Setting
from rich.console import Console
from rich.markdown import Markdown

OPTIONS = {
    "rounds": "9",
    "threads": "",
    "device": "cuda" if torch.cuda.is_available() else "cpu",
    "precision": "float32",
    "compile": "false",
    "peers": "true",
    "clock": "wall",
    "json": "",
    "markdown": "",
    "shares": "false",
}
HEAD = ("operation", "model", "parameters", "median ms", "min-max", "ratio", "limit", "MiB")


def main(words: list[str]) -> list[Row]:
    own = OPTIONS | dict(word.split("=", 1) for word in words if word.partition("=")[0] in OPTIONS)
    named = [word for word in words if word in WORKLOADS]
    rest = [word for word in words if word not in named and word.partition("=")[0] not in OPTIONS]
    if own["threads"]:
        torch.set_num_threads(int(own["threads"]))
    setting = Setting(own["device"], own["precision"] == "bf16", own["compile"] == "true", rest, own["peers"] == "true")
    timed = {"rounds": int(own["rounds"]), "device": own["device"], "clock": own["clock"]}
    rows, text = [], []
    if rest and not named:
        flows = [[*words] for separator, words in groupby(rest, "--".__eq__) if not separator]
        contests = {" ".join(words): pages.models(setting, words) for words in flows}
    else:
        names = named or list(WORKLOADS)
        contests = {
            f"{name}: {WORKLOADS[name].title}": WORKLOADS[name].models(setting, **WORKLOADS[name].sizes) for name in names
        }
    for title, models in contests.items():
        models = [*models]
        found = contest(title, models, setting, **timed)
        rows += found
        text.append(table(title, found))
        if own["shares"] == "true":
            text[-1] += "\n\n" + shares_table(next(model for model in models if not model.peer))
        Console().print(Markdown(text[-1]))
    text.append(f"{own['device']}, {torch.get_num_threads()} threads, {own['precision']}, torch {torch.__version__}, {timed}")
    if own["json"]:
        Path(own["json"]).write_text(json.dumps([asdict(row) | {"median": row.median} for row in rows], indent=1))
    if own["markdown"]:
        Path(own["markdown"]).write_text("\n\n".join(text) + "\n")
    return rows


def contest(title: str, models: list[Model], setting: Setting, rounds: int, device: str, clock: str) -> list[Row]:
    """Times the models of a workload, and the machine beside them."""
    dtype = torch.bfloat16 if setting.bf16 else torch.float32
    works = {} if setting.compile else works_of(models)
    beside = [machine(device, dtype)] if works else []
    rows = measure(title, [*models, *beside], rounds, device, clock, setting.compile)
    if works:
        flops = {name: sum(work(call).values()) for name, call in beside[0].operations.items()}
        rates = {row.operation: flops[row.operation] / median(row.times) for row in rows if row.model == "machine"}
        limits(rows, works, rates)
    return [row for row in rows if row.model != "machine"]


def works_of(models: list[Model]) -> dict[str, dict[str, float]]:
    """Of each operation of our first model, the work that no way around it spares, where there is any."""
    first = next(model for model in models if not model.peer)
    found = {name: work(call) for name, call in first.operations.items() if not name.endswith("step")}
    return {name: count for name, count in found.items() if sum(count.values())}


def shares_table(model: Model) -> str:
    """Where the time of each operation goes, in percent."""
    found = {}
    for name, call in model.operations.items():
        model.ready(name)
        found[name] = shares(call)
    kinds = [*next(iter(found.values()))]
    lines = ["| " + " | ".join([f"{model.name}: % of", *kinds]) + " |", "|" + "---|" * (1 + len(kinds))]
    return "\n".join(
        [
            *lines,
            *(f"| {name} | " + " | ".join(f"{100 * own[kind]:.0f}" for kind in kinds) + " |" for name, own in found.items()),
        ]
    )


def table(title: str, rows: list[Row]) -> str:
    lines = [f"**{title}**", "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for row in rows:
        if row.times:
            numbers = [
                f"{row.parameters:,}" if row.parameters else "",
                f"{row.median:.3g}" if row.median < 100 else f"{row.median:.0f}",
                f"{min(row.times):.3g} - {max(row.times):.3g}",
                f"{row.ratio:.2f}",
                f"{row.limit:.1f}" if row.limit else "",
                f"{row.memory:.0f}" if row.memory is not None else "",
            ]
        else:
            numbers = ["", row.trouble, *[""] * 4]
        lines.append(f"| {row.operation} | {row.model} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
