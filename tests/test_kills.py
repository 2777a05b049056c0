"""A run that is killed wherever it writes, and resumed, equals one that was left alone, in every number."""

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest
from engine import SMALL, prepared
from forked import end, fork, forked
from test_resume import assert_same_run

from laminar.commands.train import main
from laminar.runs.start import attempt, resume

WORDS = (
    "data=moons",
    "callbacks=[nonfinite,signals,ema,checkpoints]",
    "callbacks.ema.decay=0.9",
    "callbacks.checkpoints.every_n_steps=1",
    "data.batch_size=200",
    "trainer.max_steps=3",
    "trainer.val_check_interval=2",  # the last validation comes when training ends
)
# What Python tells of before it happens, with the place of the path among its arguments
CHANGES = {"open": 0, "os.rename": 1, "os.remove": 0, "os.mkdir": 0}
TIMINGS = ("train_seconds", "seconds")


class Writes:
    """Counts the changes that this process makes below a folder, and kills it just before one of them.

    Args:
        fatal: the number of that change, from 0; None only records them.
        torn: whether the kill leaves half of what is being written: of the file that is about to be renamed, of a line.
    """

    def __init__(self, folder: Path, fatal: int | None = None, torn: bool = False):
        self.folder, self.fatal, self.torn = str(folder), fatal, torn
        self.seen: list[tuple[str, str]] = []
        self.busy = False

    def __call__(self, event: str, given: tuple) -> None:
        if event not in CHANGES or self.busy or not isinstance(given[CHANGES[event]], str | Path):
            return
        path = os.fspath(given[CHANGES[event]])
        reads = event == "open" and not (given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if not path.startswith(self.folder) or reads:
            return
        if len(self.seen) == self.fatal:
            self.busy = True
            if self.torn:
                self.tear(event, given)
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen.append((event, os.path.relpath(path, self.folder)))

    def tear(self, event: str, given: tuple) -> None:
        if event == "os.rename":
            os.truncate(given[0], os.path.getsize(given[0]) // 2)
        elif str(given[0]).endswith((".csv", ".log")):
            with open(given[0], "ab") as file:
                file.write(b"3,0.0,2.8\0\0")


def watched(task: Callable[[], object], watch: Writes) -> int:
    def begin() -> None:
        sys.addaudithook(watch)
        task()

    return forked(begin)


def whole(folder: Path) -> list[tuple[str, str]]:
    """A run in the folder, in a process that tells what it changed there."""
    plain, watch = prepared(folder, *WORDS), Writes(folder)

    def task() -> None:
        attempt(plain, folder, ())
        (folder.parent / f"{folder.name}.json").write_text(json.dumps(watch.seen))

    assert watched(task, watch) == 0
    return [(event, path) for event, path in json.loads((folder.parent / f"{folder.name}.json").read_text())]


def numbers(folder: Path) -> dict:
    found = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in found.items() if name not in TIMINGS}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    return folder, whole(folder)


def killed(alone: Path, folder: Path, fatal: int, torn: bool) -> None:
    """Kills a run at one of its changes, goes on, and compares."""
    plain = prepared(folder, *WORDS)
    assert watched(lambda: attempt(plain, folder, ()), Writes(folder, fatal, torn)) == -signal.SIGKILL
    saved, finished = (folder / "checkpoints" / "last.ckpt").exists(), (folder / "metrics.json").exists()
    if finished:
        assert forked(lambda: resume(folder)) == 2  # refused: there is nothing to do
    elif saved:
        assert forked(lambda: resume(folder)) == 0
    else:
        assert forked(lambda: resume(folder)) == 2  # refused: there is nothing to go on from
        assert forked(lambda: attempt(prepared(folder, *WORDS), folder, ())) == 0
    assert_same_run(alone, folder)
    assert numbers(alone) == numbers(folder)
    assert not list(folder.rglob("*.part"))


def test_every_change_is_seen(alone):
    """All files that a run leaves are renamed into place, or grow by lines: nothing is written in another way."""
    folder, seen = alone
    renamed = {path for event, path in seen if event == "os.rename"}
    grown = {path for event, path in seen if event == "open" and not path.endswith(".part")} - renamed
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert grown == {"train.log"} and left - renamed == {"train.log"}
    assert {"config.yaml", "environment.json", "metrics.csv", "metrics.json"} | {
        f"checkpoints/{name}.ckpt" for name in ("last", "best")
    } == renamed


def chosen(seen: list[tuple[str, str]]) -> list[tuple[int, bool]]:
    """Of every file, the first time that it is written, in the middle, and the last time, before it takes its place."""
    kinds = [
        kind
        for kind in dict.fromkeys(seen)
        if kind[0] == "os.rename" or kind in (("open", "metrics.csv"), ("open", "train.log"))
    ]
    places = [[place for place, other in enumerate(seen) if other == kind] for kind in kinds]
    return [(place[0], True) for place in places] + [(place[-1], False) for place in places]


@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_where_it_writes_equals_one_left_alone(alone, tmp_path, half):
    folder, seen = alone
    for place, torn in chosen(seen)[half::2]:
        killed(folder, tmp_path / f"{place}-{torn}", place, torn)


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True])
def test_a_run_killed_anywhere_it_writes_equals_one_left_alone(alone, tmp_path, torn):
    folder, seen = alone
    for place, (event, path) in enumerate(seen):
        if not torn or event == "os.rename" or path in ("metrics.csv", "train.log"):
            killed(folder, tmp_path / str(place), place, torn)


STEPS = 30
STORM = (
    ("flow=maf", "data=moons", "data.batch_size=200"),
    ("flow=glow", "size.levels=1", "size.steps=1"),
    ("flow=realnvp_flat", "callbacks=[nonfinite,signals,ema,checkpoints]", "trainer.gradient_clip_val=1"),
    ("flow=nsf_coupling", "data=moons", "data.batch_size=200", "trainer.check_val_every_n_epoch=1"),
    ("flow=realnvp_flat", "trainer.accumulate_grad_batches=2", "scheduler=cosine", "callbacks.checkpoints.every_n_steps=3"),
)


def command(*words: str) -> Callable[[], object]:
    def begin() -> None:
        sys.argv = ["laminar-train", *words]
        main()

    return begin


def killed_after(task: Callable[[], object], seconds: float) -> int:
    """The task's end, or that of its process after so many seconds."""
    child = fork(task)
    began = monotonic()
    while monotonic() - began < seconds:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return end(child)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_a_command_killed_at_any_moment_again_and_again(tmp_path, number):
    """Three kills at random moments, each in what the one before has left."""
    chance = random.Random(number)
    changes = STORM[number % len(STORM)]
    chosen = {word.partition("=")[0] for word in changes}  # a group is chosen once
    words = (*(word for word in SMALL if word.partition("=")[0] not in chosen), *changes, f"trainer.max_steps={STEPS}")
    began = monotonic()
    assert forked(command(*words, f"hydra.run.dir={tmp_path}/alone")) == 0
    length = monotonic() - began
    folder, statuses = tmp_path / "run", []
    while not statuses or statuses[-1] == -signal.SIGKILL:
        again = (folder / "checkpoints" / "last.ckpt").exists()
        task = command(f"resume={folder}") if again else command(*words, f"hydra.run.dir={folder}")
        moment = chance.uniform(0.1, 0.9) * length if len(statuses) < 3 else 100 * length
        statuses.append(killed_after(task, moment))
    assert statuses[-1] in (0, 2)  # 2: it had finished, and was asked again
    assert_same_run(tmp_path / "alone", folder)
    assert numbers(tmp_path / "alone") == numbers(folder)
