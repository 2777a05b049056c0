"""Processes that begin with all that this one has imported: whole commands, and runs to be killed, for a second each."""

import gc
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from laminar.refused import Refused


def fork(task: Callable[[], object], said: Path | None = None) -> int:
    """Starts the task in a process of its own, whose output goes to ``said``; gives the process's number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    gc.freeze()  # what was imported is not for this process to collect
    status = 1
    try:
        if said is not None:
            file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        task()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except Refused as error:
        print(error)
        status = 2
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def end(child: int) -> int:
    """Waits for a process: its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forked(task: Callable[[], object], said: Path | None = None) -> int:
    return end(fork(task, said))
