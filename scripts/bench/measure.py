"""Measure: operations by turns, on a machine that drifts."""

import ctypes
import gc
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch
from rich.progress import track
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

WARM = 2  # rounds that compile and warm up
PATIENCE = 20.0  # seconds, of the rounds that count, after which a slow operation is asked no more


@dataclass
class Model:
    """A contestant: its name, its parameters, and what it is timed at. What gives a float has timed itself, in ms."""

    name: str
    operations: dict[str, Callable[[], Any]] = field(default_factory=dict)
    parameters: int = 0
    peer: bool = False
    trouble: str = ""
    ready: Callable[[str], Any] = str  # before each call, off the clock
    warm: bool = True  # whether it has to warm up


@dataclass
class Row:
    """What was found of one operation of one model: ms, MiB above what was there before, times the limit."""

    workload: str
    operation: str
    model: str
    parameters: int
    times: list[float]
    memory: float | None
    ratio: float | None = None
    limit: float | None = None
    trouble: str = ""

    @property
    def median(self) -> float | None:
        return median(self.times) if self.times else None


def measure(
    workload: str, models: Iterable[Model], rounds: int, device: str, clock: str = "wall", compiled: bool = False
) -> list[Row]:
    """Every operation of every model in each round, forwards and backwards in turn, so that drift meets all alike.

    Args:
        clock: ``wall``, or ``cpu`` seconds of this process, for a machine that is not idle.
        compiled: the first call compiles, and says nothing of how slow an operation is.
    """
    models = [*models]
    rows = {
        (model.name, name): Row(workload, name, model.name, model.parameters, [], None)
        for model in models
        for name in model.operations
    }
    calls = [(model, rows[model.name, name], call) for model in models for name, call in model.operations.items()]
    for turn in track(range(WARM + rounds), workload, transient=True):
        for model, row, call in calls if turn % 2 else reversed(calls):
            if row.trouble or sum(row.times) > 1000 * PATIENCE or (turn < WARM and not model.warm):
                continue
            model.ready(row.operation)
            try:
                if turn == WARM - 1:
                    row.memory = peak(call, device)
                    continue
                took = timed(call, device, clock)
            except Exception as error:
                row.trouble = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
                continue
            if turn >= WARM or (took > 1000 * PATIENCE and not compiled):
                row.times.append(took)
    peers = {model.name for model in models if model.peer}
    for name in dict.fromkeys(row.operation for row in rows.values()):
        same = [row for row in rows.values() if row.operation == name and row.times]
        others = [row.median for row in same if row.model in peers] or [row.median for row in same[:1]]
        for row in same:
            row.ratio = min(others) / row.median
    missing = [Row(workload, "", model.name, 0, [], None, trouble=model.trouble) for model in models if model.trouble]
    order = {name: place for place, name in enumerate(dict.fromkeys(name for model in models for name in model.operations))}
    return [*sorted(rows.values(), key=lambda row: order[row.operation]), *missing]


def timed(call: Callable[[], Any], device: str, clock: str = "wall") -> float:
    """ms of one call."""
    now = process_time if clock == "cpu" else perf_counter
    if device == "cuda":
        torch.cuda.synchronize()
    began = now()
    given = call()
    if device == "cuda":
        torch.cuda.synchronize()
    return given if isinstance(given, float) else 1000 * (now() - began)


def peak(call: Callable[[], Any], device: str) -> float | None:
    """MiB that a call takes above what is held before it; None where the system does not say."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
        before = _status("VmRSS")
    except OSError:
        call()
        return None
    call()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


class Work(TorchDispatchMode):
    """Counts the floating-point operations of matrix products and of convolutions."""

    def __init__(self):
        super().__init__()
        self.done = {"matrix": 0, "convolution": 0}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, name = function(*args, **(kwargs or {})), function._overloadpacket
        if name is torch.ops.aten.addmm_:
            name = torch.ops.aten.addmm
        if name in flop_registry:
            kind = "convolution" if "conv" in str(name) else "matrix"
            self.done[kind] += flop_registry[name](*args, **(kwargs or {}), out_val=given)
        return given


def work(call: Callable[[], Any]) -> dict[str, float]:
    """Of one call."""
    with Work() as counter:
        call()
    return counter.done


KINDS = {  # of kernels, by words in torch's names for them
    "matrix": ("mm", "addmv", "einsum", "mkldnn_linear", "triangular_solve"),
    "convolution": ("conv",),
    "normalisation": ("norm",),
    "copies": ("copy_", "cat", "fill_", "zero_", "index", "gather", "scatter", "roll", "flip"),
}


def shares(call: Callable[[], Any], rounds: int = 10) -> dict[str, float]:
    """Of the time of a call: what kernels of each kind take themselves, everything elementwise, and what no kernel does
    (Python, dispatch, autograd's bookkeeping). The profiler itself makes small kernels look somewhat longer."""
    from torch.autograd.profiler import profile

    call()
    with profile(use_kineto=False) as found:  # which would write lines of its own
        began = perf_counter()
        for _ in range(rounds):
            call()
        whole = 1e6 * (perf_counter() - began)
    took = dict.fromkeys([*KINDS, "elementwise"], 0.0)
    for event in found.key_averages():
        if event.key.startswith(("aten::", "mkldnn::")):
            name = event.key.rpartition("::")[2]
            kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "elementwise")
            took[kind] += event.self_cpu_time_total / whole
    return took | {"no kernel": max(0.0, 1 - sum(took.values()))}


def machine(device: str, dtype: torch.dtype) -> Model:
    """The rates that the machine reaches: a 2048^3 matrix product and a 3x3 convolution of 128 channels."""
    a, b = (torch.randn(2048, 2048, device=device, dtype=dtype) for _ in range(2))
    x, w = (torch.randn(*shape, device=device, dtype=dtype) for shape in ((16, 128, 32, 32), (128, 128, 3, 3)))
    x = x.to(memory_format=torch.channels_last)
    return Model("machine", {"matrix": lambda: a @ b, "convolution": lambda: torch.nn.functional.conv2d(x, w, padding=1)})


def limits(rows: list[Row], works: dict[str, dict[str, float]], rates: dict[str, float]) -> None:
    """Writes to rows how many times the matrix and convolution work of ours they take, at the machine's rates in flop/ms."""
    for row in rows:
        least = sum(count / rates[kind] for kind, count in works.get(row.operation, {}).items())
        if least and row.times:
            row.limit = row.median / least
