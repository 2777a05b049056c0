"""Two processes do what one does: the same numbers, the same start, one run folder. Real processes, by gloo."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engine import SMALL, callback, prepared

from laminar.training.checkpoint import read
from laminar.training.ddp import mean_where_logged

# actnorm sets itself from data, so ranks that saw different batches would differ
GLOW = (
    "flow=glow",
    "size.levels=1",
    "trainer.max_steps=6",
    "trainer.val_check_interval=3",
    "num_samples=2",
    "trainer.log_every_n_steps=2",
    "allow=[engine]",
    "objective._target_=engine.Telling",
)
RANK_0 = """
import sys
from pathlib import Path
from laminar.runs.folder import read_config
from laminar.runs.start import attempt

attempt(read_config(Path(sys.argv[1])), Path(sys.argv[1]), sys.argv[2:])
"""


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def numbers(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same run by one process and by two."""
    folders = {}
    for trainer in ("cpu", "cpu_ddp"):
        folder = tmp_path_factory.mktemp(trainer)
        prepared(folder, *GLOW, f"trainer={trainer}")
        done = python("-c", RANK_0, str(folder), "allow=[engine]", cwd=folder)
        assert done.returncode == 0, done.stderr
        folders[trainer] = folder
    return folders["cpu"], folders["cpu_ddp"]


def test_two_ranks_score_as_one_process(pair):
    one, two = map(numbers, pair)
    for name in ("val/bpd", "val/bpd_se", "test/bpd", "test/bpd_se"):
        assert two[name] == pytest.approx(one[name], abs=1e-6), name
    assert one["steps"] == two["steps"] == 6
    assert (one["ranks"], two["ranks"]) == (1, 2)


def test_every_validation_agrees(pair):
    curves = []
    for folder in pair:
        with (folder / "metrics.csv").open() as file:
            curves.append([float(row["val/bpd"]) for row in csv.DictReader(file) if row["val/bpd"]])
    assert len(curves[0]) == 3 and curves[1] == pytest.approx(curves[0], abs=1e-6)


def test_what_training_logs_is_the_mean_over_the_ranks(pair):
    """The ranks' rows differ, and so do their losses and what they note."""
    logged = []
    for folder in pair:
        with (folder / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["train/bpd"]]
        logged.append({name: [float(row[name]) for row in rows] for name in ("step", "train/bpd", "train/shade")})
    one, two = logged
    assert one["step"] == two["step"] == [1, 3, 5]
    assert two["train/shade"] == pytest.approx(one["train/shade"], abs=1e-6)
    assert two["train/bpd"][0] == pytest.approx(one["train/bpd"][0], abs=1e-6)
    assert two["train/bpd"] == pytest.approx(one["train/bpd"], abs=1e-4)  # weights are summed up in another order


def test_ranks_wait_for_each_other_only_where_it_is_logged():
    calls = []

    def reduce(values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        calls.append(reduce_op)
        return values + 1

    for logs, expected in ((False, 2.0), (True, 3.0)):
        connector = SimpleNamespace(should_update_logs=logs)
        trainer = SimpleNamespace(world_size=2, _logger_connector=connector, strategy=SimpleNamespace(reduce=reduce))
        assert mean_where_logged(trainer, {"train/bpd": torch.tensor(2.0)})["train/bpd"] == expected
    assert calls == ["mean"]


def test_two_ranks_learn_the_same_weights(pair):
    one, two = (read(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in pair)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)


def test_one_run_folder(pair):
    names = [sorted(path.name for path in folder.iterdir()) for folder in pair]
    assert names[0] == names[1]


@pytest.mark.slow
def test_each_job_of_a_sweep_has_its_own_ranks_and_folder(tmp_path):
    overrides = [*SMALL, "trainer=cpu_ddp", "trainer.max_steps=2", "trainer.val_check_interval=2", "test=false"]
    done = python(
        "-m", "laminar.commands.train", "-m", *overrides, "seed=3,4", f"hydra.sweep.dir={tmp_path}/sweep", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / "sweep" / job for job in "01"]
    assert [numbers(folder)["ranks"] for folder in folders] == [2, 2]
    assert [json.loads((folder / "environment.json").read_text())["seed"] for folder in folders] == [3, 4]
    assert {path.name for path in tmp_path.iterdir()} == {"sweep"}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_ends_both_at_the_same_step(tmp_path, rank):
    signalled = callback("SignalAt", step=2, number=int(signal.SIGTERM), rank=rank)
    prepared(tmp_path, "trainer=cpu_ddp", *signalled, "callbacks.signals.agree_every=3")
    done = python("-c", RANK_0, str(tmp_path), "allow=[engine]", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_is_named_and_ends_all(tmp_path, rank):
    prepared(tmp_path, "trainer=cpu_ddp", *callback("SignalAt", step=6, number=int(signal.SIGKILL), rank=rank))
    done = python("-c", RANK_0, str(tmp_path), "allow=[engine]", cwd=tmp_path)
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("laminar:")]
    if rank == 0:
        assert done.returncode == -signal.SIGKILL and not lines
    else:
        assert done.returncode == 1 and len(lines) == 1 and "rank 1 was killed by SIGKILL" in lines[0]
        assert "RankLost" in (tmp_path / "failure.txt").read_text()
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4
