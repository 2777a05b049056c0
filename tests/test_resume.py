"""A resumed run equals an uninterrupted one, bit for bit: wherever it stopped, however it stopped."""

import json
import signal

import pytest
import torch
from engine import callback, prepared, run

from laminar.refused import Refused
from laminar.runs.start import resume
from laminar.training.checkpoint import read
from laminar.training.logger.csv import read as csv_rows

EVERYTHING = (
    "callbacks=[nonfinite,signals,ema,checkpoints]",
    "callbacks.ema.decay=0.9",
    "trainer.gradient_clip_val=1.0",
    "test=false",
)


def contents(folder) -> dict:
    return {name: read(folder / "checkpoints" / f"{name}.ckpt") for name in ("last", "best")}


def assert_same(a, b, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{i}")
    else:
        assert a == b, f"{where}: {a} != {b}"


def assert_same_run(one, other) -> None:
    """Weights, average, optimizer, schedule, best score: all that a run knows, but for its config's own changes."""
    for name, whole in contents(one).items():
        resumed = contents(other)[name]
        assert whole.keys() == resumed.keys()
        for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
            if key in whole:  # those of an average, where there is one
                assert_same(whole[key], resumed[key], f"{name}/{key}")
        assert whole["global_step"] == resumed["global_step"], name
        for key in whole["callbacks"]:
            assert_same(whole["callbacks"][key], resumed["callbacks"][key], f"{name}/{key}")
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()


# 6 steps an epoch. By steps, validation comes every 4 and falls on an epoch's end every 12.
MODES = {
    "steps": ["scheduler=cosine", "scheduler.recipe.warmup=3", "scheduler.recipe.total=20"],
    "epochs": [
        "trainer.check_val_every_n_epoch=1",
        "trainer.val_check_interval=null",
        "scheduler=exponential",
        "scheduler.interval=epoch",
        "scheduler.recipe.decay=0.5",
        "callbacks=[nonfinite,signals,ema,early_stopping,checkpoints]",
    ],
    "accumulated": ["trainer.accumulate_grad_batches=2", "trainer.val_check_interval=8", "scheduler=warmup"],
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folders = {}

    def get(mode):
        if mode not in folders:
            folders[mode] = tmp_path_factory.mktemp(mode)
            run(prepared(folders[mode], *EVERYTHING, *MODES[mode]), folders[mode])
        return folders[mode]

    return get


@pytest.mark.parametrize(
    ("mode", "step"),
    [("steps", k) for k in (1, 3, 4, 6, 7, 12, 13)]
    + [("epochs", k) for k in (3, 6, 7)]
    + [("accumulated", k) for k in (3, 4, 6)],
)
def test_a_signal_and_a_resume_change_nothing(uninterrupted, tmp_path, mode, step):
    folder = tmp_path / "run"
    signalled = callback("SignalAt", step=step, number=int(signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        run(prepared(folder, *EVERYTHING, *MODES[mode], *signalled), folder)
    assert left.value.code == 128 + signal.SIGTERM
    assert read(folder / "checkpoints" / "last.ckpt")["global_step"] == step
    renamed = folder.rename(tmp_path / "renamed")
    resume(renamed, ["allow=[engine]"])
    assert_same_run(uninterrupted(mode), renamed)


@pytest.mark.parametrize(("mode", "step"), [("steps", 8), ("steps", 12), ("epochs", 6)])
def test_a_longer_budget_goes_on_where_the_shorter_ended(uninterrupted, tmp_path, mode, step):
    run(prepared(tmp_path, *EVERYTHING, *MODES[mode], f"trainer.max_steps={step}"), tmp_path)
    resume(tmp_path, ["trainer.max_steps=20"])
    assert_same_run(uninterrupted(mode), tmp_path)
    assert json.loads((tmp_path / f"metrics-{step}.json").read_text())["steps"] == step


@pytest.mark.parametrize(("mode", "step"), [("steps", 5), ("steps", 6), ("epochs", 8), ("accumulated", 5)])
def test_the_validation_that_ends_a_shorter_budget_is_all_that_a_longer_one_has_more(uninterrupted, tmp_path, mode, step):
    run(prepared(tmp_path, *EVERYTHING, *MODES[mode], f"trainer.max_steps={step}"), tmp_path)
    ended = read(tmp_path / "checkpoints" / "last.ckpt")
    assert ended["global_step"] == step
    resume(tmp_path, ["trainer.max_steps=20"])
    one, other = (read(folder / "checkpoints" / "last.ckpt") for folder in (uninterrupted(mode), tmp_path))
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        assert_same(one[key], other[key], key)
    assert other["validations"] == one["validations"] + 1
    rows, known = (
        [tuple(row.items()) for row in csv_rows(folder / "metrics.csv")] for folder in (tmp_path, uninterrupted(mode))
    )
    (more,) = [row for row in rows if row not in known]
    assert dict(more)["step"] == str(step - 1) and dict(more)["val/bpd"] and not [row for row in known if row not in rows]


@pytest.mark.parametrize(("mode", "step"), [("steps", 5), ("steps", 7), ("steps", 13), ("epochs", 8)])
def test_after_a_crash_a_run_goes_on_from_its_last_validation(uninterrupted, tmp_path, mode, step):
    with pytest.raises(RuntimeError, match="power cut"):
        run(prepared(tmp_path, *EVERYTHING, *MODES[mode], *callback("StopAt", step=step)), tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace(f"step: {step}", "step: -1"))
    resume(tmp_path, ["allow=[engine]"])
    assert_same_run(uninterrupted(mode), tmp_path)


def test_the_comparison_would_notice(uninterrupted, tmp_path):
    run(prepared(tmp_path, *EVERYTHING, *MODES["steps"], "seed=1"), tmp_path)
    with pytest.raises(AssertionError):
        assert_same_run(uninterrupted("steps"), tmp_path)


def test_what_may_not_change_in_the_middle_is_refused(uninterrupted):
    folder = uninterrupted("steps")
    with pytest.raises(Refused, match=r"optimizer\.lr=1 cannot change in the middle"):
        resume(folder, ["optimizer.lr=1"])
    with pytest.raises(Refused, match="is finished: to train it for longer"):
        resume(folder)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(Refused, match="not a run folder"):
        resume(tmp_path)
    prepared(tmp_path)
    with pytest.raises(Refused, match=r"has no checkpoints/last\.ckpt"):
        resume(tmp_path)
