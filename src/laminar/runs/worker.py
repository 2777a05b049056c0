"""One further rank of a run: ``python -m laminar.runs.worker <run folder>`` takes the steps that the folder's config says."""

import sys
from pathlib import Path

from laminar.refused import sentences
from laminar.runs.folder import read_config
from laminar.runs.run import run
from laminar.training.callbacks.nonfinite import Diverged


def main(folder: Path) -> None:
    """Ends with status 0 where all ranks end together (a signal, a divergence): rank 0 says so, and is not to be killed."""
    try:
        with sentences():
            run(read_config(folder), folder)
    except (Diverged, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code == 2:
            raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
