"""Untuned: what a table of one's own is modelled by where nobody says: flow, sizes and steps follow from rows and columns.

They are words of a command line, before those that were typed: every word of the user's counts more.
"""

from collections.abc import Sequence
from math import log2
from pathlib import Path
from typing import Any

from laminar.data.files import open_table
from laminar.data.options import check_options
from laminar.data.table import Table

TABLE = "laminar.data.table.Table"
GROUPS = ("flow", "layer", "coupling", "net", "mix", "norm", "prior", "mask", "multiscale")  # whoever turns these knows sizes


def words_for(rows: int, columns: int) -> dict[str, str]:
    """Option -> value, for rows of which four fifths are trained on: a wider, deeper flow and less decay for more rows, smaller
    steps for a few hundred, which can tell little more than the start that is fitted to them."""
    trained = int(0.8 * rows)
    width = _power(8 * rows**0.25, 16, 256)
    batch = _power(trained / 16, 16, 512)
    epochs = 200 if rows < 20_000 else 60
    steps = 100 * round(min(max(epochs * trained / batch, 600), 3000) / 100)
    return {
        "flow": "table",
        "prior": "fitted_student" if rows < 2000 else "gaussian",
        "size.width": f"{max(width, columns)}",
        "size.depth": "1" if rows < 20_000 else "2",
        "size.steps": "1" if rows < 1000 else "2" if rows < 20_000 else "4",
        "optimizer": "adamw",
        "optimizer.lr": f"{2e-3 * min(1, rows / 500) ** 3:.2g}" if rows < 20_000 else "1e-3",
        "optimizer.weight_decay": f"{min(max(100 / rows, 0.01), 0.5):.2g}",
        "scheduler": "cosine",
        "data.batch_size": f"{batch}",
        "trainer.max_steps": f"{steps}",
        "trainer.val_check_interval": f"{steps // 30}",
        "trainer.gradient_clip_val": "5",
        "callbacks": "[default,ema]",
        "callbacks.ema.decay": "0.99",
    }


def untold(config: Any, words: Sequence[str]) -> list[str]:
    """The words that stand for what was not said; none for other data, and none behind an experiment, which says it all."""
    keys = {word.lstrip("+~").partition("=")[0] for word in words}
    if config.data.get("_target_") != TABLE or keys & {"experiment", "ckpt_path", "debug", "hparams_search"}:
        return []
    check_options(Table, {option: value for option, value in config.data.items() if not option.startswith("_")})
    table = open_table(Path(config.data.path), config.data.separator)
    others = {*(config.data.context or ()), config.data.group, config.data.split_column}
    columns = len(config.data.columns or [name for name in table.names if name not in others])
    found = words_for(table.rows, columns)
    chosen = bool(keys & set(GROUPS))
    if "callbacks" in keys:
        keys.add("callbacks.ema.decay")
    if "optimizer" in keys:
        keys.add("optimizer.weight_decay")
    sizes = ("flow", "prior", "size.width", "size.depth", "size.steps")
    return [f"{key}={value}" for key, value in found.items() if key not in keys and not (chosen and key in sizes)]


def _power(number: float, low: int, high: int) -> int:
    """The nearest power of two, between bounds."""
    return min(max(2 ** round(log2(max(number, 1))), low), high)
