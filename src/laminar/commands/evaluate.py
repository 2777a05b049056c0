"""laminar-evaluate: the likelihood of a trained flow on a split of its data.

laminar-evaluate run=outputs/train/default/2026-01-31_12-00-00                  test split, 64 importance samples
laminar-evaluate run=... split=val num_samples=1                                what validation reports
laminar-evaluate run=runs/7/checkpoints/last.ckpt num_samples=1000 device=cuda  one checkpoint
laminar-evaluate -m run=... num_samples=1,16,256                                how the bound tightens
"""

from typing import Any

from laminar.commands.door import enter


def main() -> None:
    enter("evaluate", start, __doc__)


def start(config: Any) -> float:
    """The task that Hydra calls."""
    from laminar.runs.evaluate import start

    return start(config)


if __name__ == "__main__":
    main()
