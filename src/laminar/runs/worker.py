"""One further rank of a run: ``python -m laminar.runs.worker <run folder> [<allowed package> ...]``.

It takes the steps that the folder's config says; whom the command line trusts, its first rank tells it.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import sleep

from laminar.refused import Stopped, sentences, stoppable
from laminar.runs.folder import read_config
from laminar.runs.run import run
from laminar.training.callbacks.nonfinite import Diverged

PATIENCE = 20  # seconds


def main(folder: Path, allow: Sequence[str]) -> None:
    """Ends with status 0 where all ranks end together (a signal, a divergence): rank 0 says so, and is not to be killed."""
    first = os.getppid()
    try:
        with sentences(lambda: goes_on(first)), stoppable(None):
            run(read_config(folder), folder, allow=allow)
    except (Diverged, SystemExit) as end:
        if isinstance(end, Stopped) or (isinstance(end, SystemExit) and end.code == 2):
            raise
    except RuntimeError:
        if os.getppid() == first:
            raise
        raise SystemExit(1) from None  # the first rank is gone, and whoever killed it knows


def goes_on(first: int) -> bool:
    """Whether the first rank goes on, for seconds, after this one was refused: what refuses all ranks, it says itself."""
    for _ in range(PATIENCE):
        if os.getppid() != first:
            return False
        sleep(1)
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
