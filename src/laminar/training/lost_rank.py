"""Lost rank: a process that has ended before the others of its run, and what becomes of them."""

import os
import signal
from collections.abc import Sequence
from subprocess import Popen
from time import sleep

from laminar.refused import say

PATIENCE = 10.0  # seconds in which rank 0 ends by itself, once another rank has ended


class RankLost(RuntimeError):
    """A rank has ended before the others. The message names it."""


def lost(procs: Sequence[Popen]) -> RankLost | None:
    """Which further rank of this machine has ended with a failure: one that was killed, where there is one."""
    ended = [(rank, proc.returncode) for rank, proc in enumerate(procs, 1) if proc.poll()]
    if not ended:
        return None
    rank, status = min(ended, key=lambda end: end[1])
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return RankLost(f"rank {rank} {how}, and all ranks end with it: go on with resume=, from the last checkpoint")


def waited_for(procs: Sequence[Popen]) -> RankLost | None:
    """The same where ranks have lost contact, once it is known who went first."""
    for _ in range(50 if procs else 0):
        if found := lost(procs):
            return found
        sleep(0.1)
    return None


def watch(procs: Sequence[Popen]) -> None:
    """Ends this process, and the further ranks, where one of them has failed and the others wait for it for good."""
    while not (found := lost(procs)):
        if all(proc.returncode == 0 for proc in procs):
            return
        sleep(0.5)
    sleep(PATIENCE)
    say(found)
    for proc in procs:
        proc.kill()
    os._exit(1)
