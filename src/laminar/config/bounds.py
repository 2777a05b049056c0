"""Bounds: the numbers that an option can hold, by its name, which means the same on every page, or by its whole key."""

import re
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a number, or a text, keeps, and the sentence's words for it."""

    holds: Callable[[Any], bool]
    told: str
    kind: type = Real


COUNT = Rule(lambda number: number >= 1, "a whole number from 1 on")
AMOUNT = Rule(lambda number: number >= 0, "a whole number from 0 on")
POSITIVE = Rule(lambda number: number > 0, "a number above 0")
WEIGHT = Rule(lambda number: number >= 0, "a number from 0 on")
SHARE = Rule(lambda number: 0 <= number <= 1, "a number from 0 to 1")
BELOW_ONE = Rule(lambda number: 0 <= number < 1, "a number from 0 up to 1, and not 1 itself")
BUDGET = Rule(lambda number: number >= -1, "a whole number from 0 on (-1: no limit)")
DEVICES = Rule(lambda number: number == -1 or number >= 1, "a whole number from 1 on (-1 or auto: all)")
POINTS = Rule(lambda number: number >= 2, "a whole number from 2 on")
HARDWARE = Rule(lambda text: text in ("cpu", "gpu", "cuda", "mps", "tpu", "auto"), "cpu, gpu, cuda, mps, tpu or auto", str)
PLACE = Rule(lambda text: not text.startswith("/") and ".." not in text.split("/"), "a name that leads to no other folder", str)
TIME = Rule(lambda text: re.fullmatch(r"\d+:\d\d:\d\d:\d\d", text), "days:hours:minutes:seconds, as in 00:01:30:00", str)

NAMES = {
    name: rule
    for rule, names in (
        (COUNT, "batch_size eval_batch_size train_size test_size val_size num_samples num_probes repeats n every draws rows"),
        (COUNT, "width components bins steps levels layers nodes blocks times heads head_width hidden growth patch deep"),
        (COUNT, "latent channels features embedding terms max_steps reflections dims arms kernel accumulate_grad_batches size"),
        (COUNT, "num_nodes check_val_every_n_epoch every_n_steps agree_every patience likelihood_every chunk"),
        (AMOUNT, "seed depth warmup hold pad accuracy_samples finer_rows label num_sanity_val_steps log_every_n_steps"),
        (POSITIVE, "temperature bound eps rtol atol train_factor sigma gain val_check_interval resolution"),
        (WEIGHT, "lr weight_decay guidance tolerance min_delta gradient_clip_val validation limit_train_batches"),
        (WEIGHT, "limit_val_batches limit_test_batches overfit_batches kinetic jacobian free"),
        (SHARE, "decay momentum dampening"),
        (BELOW_ONE, "betas dropout"),
    )
    for name in names.split()
}
KEYS = {
    "name": PLACE,
    "task_name": PLACE,
    "trainer.max_steps": BUDGET,
    "trainer.max_epochs": BUDGET,
    "trainer.max_time": TIME,
    "trainer.accelerator": HARDWARE,
    "trainer.devices": DEVICES,
    "data.shift": BELOW_ONE,
    "steps": POINTS,  # of a line that laminar-sample draws
}


def bound(key: str) -> Rule | None:
    """The rule of an option by its key, with dots."""
    return KEYS.get(key) or NAMES.get(key.rpartition(".")[2])


def within(value: Any, rule: Rule) -> bool:
    """Whether a value keeps a rule, each entry of a list for itself. Null, truth values and what is no such kind keep it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(within(part, rule) for part in value)
    return isinstance(value, bool) or not isinstance(value, rule.kind) or bool(rule.holds(value))
