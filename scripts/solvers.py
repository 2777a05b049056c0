"""How our dopri5 compares with torchdiffeq's: python scripts/solvers.py [tolerance=1e-5] [rounds=20]

A 2-D velocity (3-64-64-2, tanh) learns moons, then eight Gaussians, by flow matching; 512 rows are solved with the exact
divergence, by one function for both solvers. torchdiffeq gets the tolerance at which its worst row is as good as ours. CPU time
by turns within one process, one thread, so that the ratios mean something on a machine that drifts.
"""

import sys
from copy import deepcopy
from statistics import median
from time import process_time

import numpy as np
import torch
import torchdiffeq
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from laminar.data.toys import EightGaussians, Moons
from laminar.flows.solver.dopri5 import Dopri5

ROWS = 512
SPAN = (0.0, 1.0)


class Velocity(nn.Module):
    """State (x, log-det) and times (B,) -> its slope: the velocity and its divergence, by tangents carried through the net."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 64), nn.Linear(64, 64), nn.Linear(64, 2)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        return self.last(self.second(self.first(torch.cat([x, t[:, None]], 1)).tanh()).tanh())

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        one = self.first(torch.cat([state[:, :2], t[:, None]], 1)).tanh()
        tangents = (1 - one.square())[:, None] * self.first.weight[:, :2].T
        two = self.second(one).tanh()
        tangents = (tangents @ self.second.weight.T) * (1 - two.square())[:, None]
        divergence = torch.einsum("bij,ij->b", tangents, self.last.weight)
        return torch.cat([self.last(two), divergence[:, None]], 1)


def learned(data: Tensor, seed: int, steps: int = 3000) -> Velocity:
    torch.manual_seed(seed)
    net = Velocity()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for _ in track(range(steps), "flow matching", transient=True):
        x, t = data[torch.randint(len(data), (ROWS,))], torch.rand(ROWS)
        z = torch.randn_like(x)
        loss = (net.velocity(x + t[:, None] * (z - x), t) - (z - x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.requires_grad_(False)


def ours(net: Velocity, state: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    return Dopri5(tolerance, tolerance)(net, state, SPAN)


def theirs(net: Velocity, state: Tensor, tolerance: float) -> tuple[Tensor, int]:
    asked = 0

    def rate(t: Tensor, state: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        return net(t.expand(len(state)), state)

    end = torchdiffeq.odeint(rate, state, torch.tensor(SPAN, dtype=state.dtype), rtol=tolerance, atol=tolerance)[-1]
    return end, asked


def main(tolerance: float, rounds: int) -> None:
    torch.set_num_threads(1)
    table = Table("problem", "worst row", "asked", "ms", "torchdiffeq at", "worst row", "asked", "ms", "ratio")
    for source in (Moons, EightGaussians):
        for seed in (0, 1):
            data = torch.from_numpy(source(batch_size=ROWS).draw(20_000, np.random.default_rng(seed))).float()
            data = (data - data.mean(0)) / data.std(0)
            net = learned(data, seed)
            state = torch.cat([data[:ROWS], torch.zeros(ROWS, 1)], 1)
            truth = ours(deepcopy(net).double(), state.double(), 1e-11)[0]
            end, evaluations = ours(net, state, tolerance)
            worst = (end - truth).abs().max().item()
            other = tolerance
            while (there := (theirs(net, state, other)[0] - truth).abs().max().item()) > worst and other > 1e-9:
                other /= 1.1
            times: list[list[float]] = [[], []]
            for _ in range(rounds + 3):
                for spent, solve, price in zip(times, (ours, theirs), (tolerance, other), strict=True):
                    began = process_time()
                    solve(net, state, price)
                    spent.append(1000 * (process_time() - began))
            mine, his = (median(spent[3:]) for spent in times)
            asked = f"{evaluations.double().mean():.0f}, at most {evaluations.max()}"
            row = (f"{other:.1e}", f"{there:.1e}", str(theirs(net, state, other)[1]), f"{his:.1f}", f"{mine / his:.2f}")
            table.add_row(f"{source.__name__}, seed {seed}", f"{worst:.1e}", asked, f"{mine:.1f}", *row)
    console = Console()
    Console(width=None if console.is_terminal else 120).print(table)


if __name__ == "__main__":
    words = dict(word.split("=") for word in sys.argv[1:])
    main(float(words.get("tolerance", 1e-5)), int(words.get("rounds", 20)))
