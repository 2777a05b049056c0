"""What estimates of a trained flow's log-det are worth beside the exact one: python scripts/estimates.py run=<run folder>

[run=<another>] [repeats=200] [rows=360] [samples=64] [out=estimates.png]. The flow is a continuous or a residual one of some
hundred dimensions at most. Its weights score the same rows, with the same dequantization noise, by each trace; an estimate
``repeats`` times, each time as ``laminar-evaluate`` would (two draws a row, and an interval from their difference), so that it
shows how often the interval holds the exact number. The last line is what a bound of many samples would claim if it were not
refused.
"""

import sys
from math import log
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from laminar.flows import noise
from laminar.flows.flow import Flow
from laminar.flows.layer.residual import Residual
from laminar.flows.numerics import score
from laminar.flows.units import UNITS
from laminar.pictures.figure import BLUE, INK, ORANGE, figure, subject
from laminar.runs.open import open_data, open_run
from laminar.training.metric import REPEATS
from laminar.training.module import STAGES

HALF = 1.96  # standard errors to each side of a 95 % interval
SIGNS = {"_target_": "laminar.flows.trace.hutchinson.Hutchinson"}
SERIES = {"_target_": "laminar.flows.trace.truncated.Truncated"}
RANDOM = {"_target_": "laminar.flows.trace.roulette.Roulette"}
EXACT = {"_target_": "laminar.flows.trace.exact.Exact"}
OF_CONTINUOUS = {"Hutchinson's, 4 probes": SIGNS | {"num_probes": 4}, "Hutchinson's, 1 probe": SIGNS}
OF_RESIDUAL = {
    "series of 2 terms": SERIES | {"terms": 2},
    "series of 5 terms": SERIES | {"terms": 5},
    "roulette, 2 exact terms": RANDOM | {"evaluation_terms": 2},
    "roulette, 20 exact terms": RANDOM | {"evaluation_terms": 20},
}


def main(run: str, repeats: int, rows: int, samples: int) -> dict[str, np.ndarray]:
    """Prints a run's table; gives how far each repeat's mean is from the exact one, ``(R,)``, by flow and trace."""
    flow, config, _, _ = open_run(run)
    split = open_data(config).splits.test
    rows = min(rows, len(split))
    split, keys = split.pick(torch.arange(rows)), noise.mix(config["seed"], STAGES["test"], 0, range(rows))
    x, unit = split.values.to(flow.device), UNITS[flow.unit]

    def told(log_prob: Tensor) -> Tensor:
        return score(log_prob.double().cpu(), flow.unit, flow.space.size)

    def bound(by: Flow) -> float:
        """Of many samples, whatever the grade is."""
        weights = [drawn(by, x, noise.mix(keys, number), 1)[0] for number in track(range(samples), "samples", transient=True)]
        return told(torch.stack(weights).logsumexp(0) - log(samples)).mean().item()

    exact = open_run(run, settings={"trace": EXACT}).flow
    truth = told(drawn(exact, x, keys, 1)[0])
    table = Table("number of the same rows", unit, "less the exact", "± of 2 repeats", "95 % intervals that hold it")
    table.title = f"{subject(config)}: {rows} rows, {repeats} repeats"
    table.add_row("exact", f"{truth.mean():.4f}", "", "", "")
    found: dict[str, np.ndarray] = {}
    estimates = OF_RESIDUAL if any(isinstance(part, Residual) for part in flow.modules()) else OF_CONTINUOUS
    for name, page in estimates.items():
        by = open_run(run, settings={"trace": page}).flow
        off = told(drawn(by, x, keys, REPEATS * repeats)) - truth  # (R, N)
        pairs = off.view(repeats, REPEATS, rows)
        means, errors = pairs.mean((1, 2)), pairs.var(1).div(REPEATS).sum(1).sqrt() / rows
        found[f"{config['choices']['flow']}: {name}"] = means.numpy()
        mean, error = means.mean().item(), means.std().item() / repeats**0.5
        held = (means.abs() <= HALF * errors).double().mean().item()
        table.add_row(name, f"{truth.mean() + mean:.4f}", f"{mean:+.4f} ± {error:.4f}", f"{errors.mean():.4f}", f"{held:.1%}")
    claims = {}
    if flow.stochastic and samples > 1:
        last, page = list(estimates.items())[-1]
        right, wrong = bound(exact), bound(open_run(run, settings={"trace": page}).flow)
        claims = {f"exact, bound of {samples}": right, f"{last}: what a forced bound of {samples} claims": wrong}
        for name, value in claims.items():
            table.add_row(name, f"{value:.4f}", f"{value - truth.mean():+.4f}", "", "")
    Console().print(table)
    return found


@torch.no_grad()
def drawn(flow: Flow, x: Tensor, keys: np.ndarray, repeats: int) -> Tensor:
    """log p of each row by each repeat of the estimate, ``(R, N)``; of an exact flow by one."""
    with noise.source(keys):
        return flow.estimates(x, repeats=repeats) if flow.noisy else flow.log_prob(x)[None]


def picture(found: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Every repeat's distance from the exact number as a point, a row for each trace; the mean as a stroke."""
    with figure(path, size=(7.0, 0.9 + 0.62 * len(found))) as (axes,):
        scatter = np.random.default_rng(0)
        for place, off in enumerate(found.values()):
            axes.plot(off, place + scatter.uniform(-0.22, 0.22, len(off)), "o", color=BLUE, ms=2.6, alpha=0.45, mew=0)
            axes.plot([off.mean()] * 2, [place - 0.34, place + 0.34], color=ORANGE, lw=2)
        axes.axvline(0, color=INK, lw=0.9)
        axes.set_yticks(range(len(found)), found)
        axes.tick_params("y", labelcolor=INK, length=0)
        axes.set(title=title, xlabel="above the exact number", ylim=(len(found) - 0.5, -0.5))
        axes.grid(True, axis="x")


if __name__ == "__main__":
    words = {"repeats": "200", "rows": "360", "samples": "64", "out": "estimates.png"}
    words |= dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    runs = [word.removeprefix("run=") for word in sys.argv[1:] if word.startswith("run=")]
    if not runs:
        sys.exit("Which run? Say run=<run folder> of a continuous or a residual flow that laminar-train has trained.")
    found: dict[str, np.ndarray] = {}
    for run in runs:
        found |= main(run, int(words["repeats"]), int(words["rows"]), int(words["samples"]))
    picture(found, f"{words['rows']} rows, {words['repeats']} repeats", Path(words["out"]))
    print(f"the picture lies in {words['out']}")
