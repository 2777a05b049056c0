"""laminar-sample: draws from a trained flow, or sends its data to the noise and back.

laminar-sample run=outputs/train/default/2026-01-31_12-00-00              64 samples, as a picture in the run folder
laminar-sample run=... n=100 temperature=0.8 seed=3 out=samples.png       a cooler hundred
laminar-sample run=... n=50000 out=samples.npz                            stored integers, as data=npz reads them
laminar-sample run=... label=3                                            one class of a conditional flow
laminar-sample run=... context=rows.csv n=100                             100 samples for each row that a table's flow is given
laminar-sample run=... mode=reconstruct                                   test images and what comes back of them
laminar-sample run=... mode=interpolate n=8 steps=12                      lines between test images
"""

import sys
from collections.abc import Callable
from typing import Any

from laminar.commands.door import enter


def main() -> None:
    # context is a group of training's pages, so that Hydra would look for a member of that name.
    sys.argv[1:] = [f"given={word.removeprefix('context=')}" if word.startswith("context=") else word for word in sys.argv[1:]]
    enter("sample", __doc__, start)


def start() -> Callable[[Any], Any]:
    """What Hydra calls."""
    from laminar.runs.sample import start

    return start


if __name__ == "__main__":
    main()
