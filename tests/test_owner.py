"""A folder belongs to one run at a time, and a signal ends a command with one sentence, whenever it comes."""

import json
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import hydra.core.utils
import pytest
from engine import SMALL, prepared
from forked import end, fork, forked

from laminar.commands.train import main
from laminar.refused import Refused
from laminar.runs.folder import read_config
from laminar.runs.owner import LOCK, owning
from laminar.runs.start import resume
from laminar.training.checkpoint import read

QUICK = (*SMALL, "trainer.max_steps=4", "test=false")


@pytest.fixture
def in_one_second(monkeypatch, tmp_path):
    """Commands that all start in the same second, in an empty folder."""
    moment = datetime(2026, 1, 31, 12)
    monkeypatch.setattr(hydra.core.utils, "datetime", SimpleNamespace(now=lambda: moment))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words: str):
    def begin() -> None:
        sys.argv = ["laminar-train", *words]
        main()

    return begin


def config_seed(folder: Path) -> int:
    return read(folder / "checkpoints" / "last.ckpt")["laminar"]["config"]["seed"]


def started_together(number: int, place: Path) -> None:
    """Each has a folder, its own config there, and the numbers that it would have alone."""
    children = [fork(command(*QUICK, f"seed={seed}"), place / f"said-{seed}") for seed in range(number)]
    assert [end(child) for child in children] == [0] * number
    folders = sorted((place / "outputs" / "train" / "default").iterdir())
    assert {folder.name for folder in folders} == {
        "2026-01-31_12-00-00" + (f"-{place}" if place else "") for place in range(number)
    }
    assert sorted(map(config_seed, folders)) == list(range(number))
    for folder in folders:
        told = json.loads((folder / "environment.json").read_text())
        assert told["seed"] == config_seed(folder) and f"seed={told['seed']}" in (folder / ".hydra/overrides.yaml").read_text()
        assert str(folder) in (place / f"said-{told['seed']}").read_text().replace("\n", "")  # told where it lies
    alone = place / "alone"
    assert forked(command(*QUICK, "seed=1", f"hydra.run.dir={alone}")) == 0
    (same,) = [folder for folder in folders if config_seed(folder) == 1]
    assert (same / "metrics.csv").read_text() == (alone / "metrics.csv").read_text()


def test_runs_that_start_in_one_second_have_a_folder_each(in_one_second):
    started_together(4, in_one_second)


@pytest.mark.slow
def test_twenty_runs_that_start_in_one_second_have_a_folder_each(in_one_second):
    started_together(20, in_one_second)


def test_sweeps_that_start_in_one_second_have_a_folder_each(in_one_second):
    children = [fork(command("-m", *QUICK, f"seed={seed},{seed + 1}")) for seed in (10, 20, 30)]
    assert [end(child) for child in children] == [0, 0, 0]
    sweeps = list((in_one_second / "outputs" / "sweeps" / "default").iterdir())
    assert sorted(folder.name[19:] for folder in sweeps) == ["", "-1", "-2"]
    seeds = sorted([config_seed(folder / job) for job in "01"] for folder in sweeps)
    assert seeds == [[10, 11], [20, 21], [30, 31]]
    assert all(len((folder / "table.csv").read_text().splitlines()) == 3 for folder in sweeps)
    for folder in sweeps:
        configs = [read_config(folder / job) for job in "01"]
        assert [config["title"] for config in configs] == [f"seed={config['seed']}" for config in configs]  # its own word
        assert {config["sweep"] for config in configs} == {folder.name}


def test_a_folder_that_is_asked_for_and_taken_is_refused(in_one_second):
    with owning(in_one_second / "mine"):
        said = in_one_second / "said"
        assert forked(command(*QUICK, f"hydra.run.dir={in_one_second}/mine"), said) == 2
        assert "mine belongs to a run that is still going (process" in said.read_text()
        assert [path.name for path in (in_one_second / "mine").iterdir()] == [LOCK]


def test_a_run_that_goes_on_twice_goes_on_once(tmp_path):
    folder = tmp_path / "run"
    prepared(folder, "test=false", "trainer.max_steps=4")
    with owning(folder):
        before = {path: path.read_bytes() for path in folder.rglob("*")}
        assert forked(lambda: resume(folder), tmp_path / "said") == 2
        assert "belongs to a run that is still going" in (tmp_path / "said").read_text()
        assert {path: path.read_bytes() for path in folder.rglob("*")} == before
    with pytest.raises(Refused, match=r"no checkpoints/last\.ckpt"):  # it is free again
        resume(folder)


def test_a_lock_ends_with_its_process(tmp_path):
    def die() -> None:
        with owning(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(die) == -signal.SIGKILL
    with owning(tmp_path) as folder:
        assert folder == tmp_path


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "target").write_text("precious")
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "target")
    with pytest.raises(Refused, match="cannot be written"), owning(tmp_path / "run"):
        pass
    assert (tmp_path / "target").read_text() == "precious"


# -- signals ---------------------------------------------------------------------------------------------------------


def signalled(name: str, number: int, times: int = 1):
    """Sends this process a signal when a file of that name is opened for writing the so-many-th time."""
    left = [times]

    def watch(event: str, given: tuple) -> None:
        if event == "open" and str(given[0]).endswith(f"{name}.part") and given[2] & os.O_CREAT:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), number)

    return watch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("overrides.yaml", "nothing was begun"),
        ("environment.json", "nothing was trained yet"),
        ("metrics.json", "go on with laminar-train resume="),
    ],
)
def test_a_signal_before_and_after_training_is_one_sentence(in_one_second, number, file, sentence):
    def begin() -> None:
        sys.addaudithook(signalled(file, number))
        command(*QUICK, f"hydra.run.dir={in_one_second}/run")()

    said = in_one_second / "said"
    assert forked(begin, said) == 128 + number
    lines = [line for line in said.read_text().splitlines() if line.startswith("laminar:")]
    assert len(lines) == 1 and f"stopped by {signal.Signals(number).name}: {sentence}" in lines[0]
    assert "Traceback" not in said.read_text()


def test_a_signal_while_the_last_scores_are_computed_loses_nothing(in_one_second):
    words = (*QUICK, "test=true")
    for name in ("alone", "stopped"):
        prepared(in_one_second / name, *words)

    def begin() -> None:
        from laminar.runs import run as module
        from laminar.runs.start import attempt

        whole = module.evaluate

        def evaluate(trainer, flow_module, *rest):
            flow_module.test_step = lambda *batch: os.kill(os.getpid(), signal.SIGTERM)
            return whole(trainer, flow_module, *rest)

        module.evaluate = evaluate
        attempt(prepared(in_one_second / "stopped", *words), in_one_second / "stopped", ())

    def alone() -> None:
        from laminar.runs.start import attempt

        attempt(prepared(in_one_second / "alone", *words), in_one_second / "alone", ())

    assert forked(begin) == 128 + signal.SIGTERM
    assert forked(lambda: resume(in_one_second / "stopped")) == 0
    assert forked(alone) == 0
    rows = [(in_one_second / name / "metrics.csv").read_text() for name in ("alone", "stopped")]
    assert rows[0] == rows[1]
