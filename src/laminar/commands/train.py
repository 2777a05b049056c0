"""laminar-train: trains a flow and leaves a run folder.

laminar-train experiment=realnvp_digits                  RealNVP on 8x8 digits, a minute or two on a CPU
laminar-train                                            the published RealNVP on digits, half an hour on a CPU
laminar-train flow=glow data=mnist prior=logistic        another recipe, data set and prior
laminar-train data=table data.path=x.csv                 a table of your own; the flow follows from rows and columns
laminar-train flow=realnvp size.width=64 optimizer.lr=3e-4 trainer.max_steps=5000
laminar-train experiment=realnvp_cifar10 trainer=gpu     a paper's setting
laminar-train -m coupling=additive,affine seed=0,1,2     a sweep: six runs and a table
laminar-train resume=outputs/train/default/2026-01-31_12-00-00 trainer.max_steps=9000
laminar-train resume=outputs/train/default/2026-01-31_12-00-00 data.changed=accept    on other data than before
"""

import sys
from collections.abc import Callable
from typing import Any

from laminar.commands.door import enter, heavy
from laminar.refused import Refused, sentences, stoppable


def main() -> None:
    resumed = [word.removeprefix("resume=") for word in sys.argv[1:] if word.startswith("resume=")]
    if resumed:
        with stoppable(at_once=True), sentences():
            resume(resumed[-1], [word for word in sys.argv[1:] if not word.startswith("resume=")])
    elif any(word.startswith("data.changed=") for word in sys.argv[1:]):
        with sentences():
            raise Refused("data.changed= is said beside resume=<run folder>, of data that a run goes on with: leave it out")
    else:
        enter("train", __doc__, start)


def start() -> Callable[[Any], Any]:
    """A new run of a composed config: what Hydra calls, once for each job of a sweep."""
    from laminar.runs.start import start

    return start


def resume(folder: str, overrides: list[str]) -> float:
    """Goes on with a run where its ``last.ckpt`` stands."""
    with stoppable():
        return heavy(resuming)(folder, overrides)


def resuming() -> Callable[..., float]:
    """What goes on with a run."""
    from laminar.runs.start import resume

    return resume


if __name__ == "__main__":
    main()
