"""laminar-evaluate: the likelihood of a trained flow on a split of its data.

laminar-evaluate run=outputs/train/default/2026-01-31_12-00-00                  test split; of a bound 64 samples
laminar-evaluate run=... split=val num_samples=1                                what validation reports
laminar-evaluate run=runs/7/checkpoints/last.ckpt num_samples=1000 device=cuda  one checkpoint
laminar-evaluate run=... against=outputs/train/default/2026-01-30_09-00-00      paired difference to another run's
laminar-evaluate -m run=... num_samples=1,16,256                                how the bound tightens
laminar-evaluate run=... trace=exact                                            the exact number behind an estimate
laminar-evaluate run=... trace=hutchinson num_probes=8 repeats=4                an estimate, and its own standard error
laminar-evaluate run=... solver.rtol=1e-7 solver.atol=1e-7                      a continuous flow, solved more finely
"""

from collections.abc import Callable
from typing import Any

from laminar.commands.door import enter


def main() -> None:
    enter("evaluate", __doc__, start)


def start() -> Callable[[Any], Any]:
    """What Hydra calls."""
    from laminar.runs.evaluate import start

    return start


if __name__ == "__main__":
    main()
