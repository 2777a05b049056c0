"""One further rank of a run: ``python -m laminar.worker <run folder>`` takes the steps that the folder's config says."""

import sys
from pathlib import Path

from laminar.callbacks.nonfinite import Diverged
from laminar.door import sentences
from laminar.folder import read_config
from laminar.run import run


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
