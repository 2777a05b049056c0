"""Which way back is faster on a trained autoregressive flow: python scripts/decoding.py run=<run folder> [n=1] [rounds=5]

Decodes the same noise step after step and all steps at once (Jacobi: to rounding, and to tolerances), by turns within one
process, and tells median times, how often the nets were asked, what one call took, and how far the reals behind the dequantizer
are from those of step after step, in units of the stored values.
"""

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from laminar.flows.draw import some_context
from laminar.flows.flow import Flow
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.runs.open import open_run

WAYS = {"step after step": ("sequential", 0.0), "all at once, to rounding": ("jacobi", 0.0)}
WAYS |= {f"all at once, to {tolerance:g}": ("jacobi", tolerance) for tolerance in (1e-4, 1e-3, 1e-2)}


def main(run: str, n: int, rounds: int) -> None:
    flow = open_run(run).flow
    density, context = flow.density(), some_context(flow, n)
    with torch.no_grad():
        torch.manual_seed(0)
        z = density.prior.sample(n)
    calls = counting(density)
    found, asked, times = {}, {}, {name: [] for name in WAYS}
    for turn in track(range(rounds + 1), "rounds", transient=True):
        for name, (inverse, tolerance) in WAYS.items():
            density.decode_by(inverse, tolerance)
            before, began = [*calls], perf_counter()
            with torch.no_grad():
                found[name] = density.decode(z, context)
            if z.device.type == "cuda":
                torch.cuda.synchronize()
            asked[name] = [after - earlier for after, earlier in zip(calls, before, strict=True)]
            if turn:  # the first round warms up
                times[name].append(1000 * (perf_counter() - began))
    table = Table("way", "ms", "times as fast", "calls", "ms a call", "off by at most", "median")
    table.title = f"{n} of {tuple(flow.space.event)} on {z.device}, {torch.get_num_threads()} threads"
    sequential = next(iter(WAYS))
    for name in WAYS:
        took, total = median(times[name]), sum(asked[name])
        off = (found[name] - found[sequential]).abs()
        row = [f"{took:.1f}", f"{median(times[sequential]) / took:.2f}", f"{total}: {' '.join(map(str, asked[name]))}"]
        table.add_row(name, *row, f"{took / total:.3f}", f"{off.max():.2g}", f"{off.median():.2g}")
    Console().print(table)


def counting(flow: Flow) -> list[int]:
    """How often the net of each autoregressive layer was asked for parameters so far, in the order of the way back."""
    layers = [part for part in flow.modules() if isinstance(part, Autoregressive)][::-1]
    calls = [0] * len(layers)

    def counted(law_inverse: Callable[..., Tensor], number: int) -> Callable[..., Tensor]:
        def inverse(*args: Tensor) -> Tensor:
            calls[number] += 1
            return law_inverse(*args)

        return inverse

    for number, layer in enumerate(layers):
        layer.law.inverse = counted(layer.law.inverse, number)  # asked once for each answer of the net
    return calls


if __name__ == "__main__":
    words = {"n": "1", "rounds": "5"} | dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    if "run" not in words:
        sys.exit("Which run? Say run=<run folder> of a flow that laminar-train has trained.")
    main(words["run"], int(words["n"]), int(words["rounds"]))
