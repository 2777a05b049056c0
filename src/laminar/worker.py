"""One further rank of a run: ``python -m laminar.worker <run folder>`` takes the steps that the folder's config says."""

import sys
from pathlib import Path

from laminar.folder import read_config
from laminar.run import run

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    run(read_config(folder), folder)
