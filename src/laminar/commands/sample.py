"""laminar-sample: draws from a trained flow, or sends its data to the noise and back.

laminar-sample run=outputs/train/default/2026-01-31_12-00-00              64 samples, as a picture in the run folder
laminar-sample run=... n=100 temperature=0.8 seed=3 out=samples.png       a cooler hundred
laminar-sample run=... n=50000 out=samples.npz                            stored integers, as data=npz reads them
laminar-sample run=... label=3                                            one class of a conditional flow
laminar-sample run=... mode=reconstruct                                   test images and what comes back of them
laminar-sample run=... mode=interpolate n=8 steps=12                      lines between test images
"""

from typing import Any

from laminar.commands.door import enter


def main() -> None:
    enter("sample", start, __doc__)


def start(config: Any) -> None:
    """The task that Hydra calls."""
    from laminar.runs.sample import start

    start(config)


if __name__ == "__main__":
    main()
