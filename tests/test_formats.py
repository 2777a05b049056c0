"""Runs of older versions still open: ``format1`` holds one, and what its version said of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf

from laminar.config.formats import FORMAT, MOVED, translate
from laminar.config.pages import compose
from laminar.runs import evaluate, sample
from laminar.runs.start import resume
from laminar.training.checkpoint import read
from laminar.training.logger.csv import read as read_rows

OLD = Path(__file__).parent / "format1"
TARGETS = (OLD / "targets.txt").read_text().split()


@pytest.fixture
def old(tmp_path) -> Path:
    """A class-conditional Glow on digits, averaged weights, 12 steps, as version 1 left it."""
    return Path(shutil.copytree(OLD / "run", tmp_path / "run"))


def words(**options) -> list[str]:
    return [f"{name}={value}" for name, value in options.items()]


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_of_format_1_is_found_today(target):
    (today,) = translate([{"_target_": target}])
    assert get_object(today["_target_"]).__name__ == target.rpartition(".")[2]


def test_translating_twice_changes_nothing():
    once = translate([{"_target_": target} for target in TARGETS])
    assert translate(once) == once
    assert not [new for new in MOVED.values() if any(new.startswith(old) for old in MOVED)]


def test_today_s_config_needs_no_translation():
    config = OmegaConf.to_container(compose("train", ["flow=flowpp"]))
    assert translate(config) == config


def test_a_run_of_format_1_is_evaluated(old):
    assert torch.load(old / "checkpoints" / "best.ckpt", weights_only=True)["laminar"]["format"] == 1
    evaluate.start(compose("evaluate", words(run=old, num_samples=4, device="cpu")))
    found = json.loads((old / "evaluations" / "test-K4.json").read_text())
    assert found["bpd"] == pytest.approx(3.88453275774135, abs=1e-5)
    assert found["bpd_K1"] == pytest.approx(3.893342729984743, abs=1e-5)
    assert found["accuracy"] == pytest.approx(0.6527777777777778, abs=1e-6)


def test_a_run_of_format_1_is_sampled_from(old):
    out = old / "samples.npz"
    sample.start(compose("sample", words(run=old, n=4, seed=3, out=out, device="cpu")))
    with np.load(out) as drawn, np.load(OLD / "samples.npz") as expected:
        assert np.abs(drawn["images"].astype(int) - expected["images"].astype(int)).max() <= 1  # a level's edge may round
        assert (drawn["images"] == expected["images"]).mean() > 0.99


def test_a_run_of_format_1_is_resumed(old):
    score = resume(old, ["trainer.max_steps=20"])
    numbers = json.loads((old / "metrics.json").read_text())
    assert numbers["steps"] == 20 and score == numbers["val/bpd"]
    assert score == pytest.approx(3.78694224357605, abs=1e-4)
    assert numbers["test/bpd"] == pytest.approx(3.8211565017700195, abs=1e-4)
    assert [int(row["step"]) for row in read_rows(old / "metrics.csv") if row["val/bpd"]] == [3, 7, 11, 15, 19, 20]
    checkpoint = read(old / "checkpoints" / "last.ckpt")
    assert checkpoint["laminar"]["format"] == FORMAT and checkpoint["global_step"] == 20
    assert "laminar.flows.flow.Flow" in (old / "config.yaml").read_text()
