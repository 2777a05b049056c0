"""A resumed run equals an uninterrupted one, bit for bit: wherever it stopped, however it stopped."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from engine import callback, prepared, run

from laminar.config.heads import members
from laminar.refused import Refused
from laminar.runs.changes import TAKING_PART, changed
from laminar.runs.folder import read_config
from laminar.runs.latest import resumable
from laminar.runs.owner import owning
from laminar.runs.start import resume
from laminar.runs.sweep import write as write_tables
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


@pytest.mark.parametrize(
    ("mode", "number", "step"), [("steps", 1, 4), ("steps", 3, 12), ("epochs", 2, 12), ("accumulated", 2, 8)]
)
def test_a_validation_that_a_signal_breaks_off_is_done_when_the_run_goes_on(tmp_path, mode, number, step):
    words = (
        *EVERYTHING,
        *MODES[mode],
        "data.eval_batch_size=50",
        "callbacks=[nonfinite,signals,ema,early_stopping,checkpoints]",
    )
    alone, folder = tmp_path / "alone", tmp_path / "run"
    run(prepared(alone, *words), alone)
    signalled = callback("SignalInValidation", validation=number, batch=1, number=int(signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        run(prepared(folder, *words, *signalled), folder)
    assert left.value.code == 128 + signal.SIGTERM
    assert read(folder / "checkpoints" / "last.ckpt")["global_step"] == step
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(f"validation: {number}", "validation: -1"))
    resume(folder, ["allow=[engine]"])
    assert_same_run(alone, folder)


@pytest.mark.parametrize(("mode", "step"), [("steps", 8), ("steps", 12), ("epochs", 6)])
def test_a_longer_budget_goes_on_where_the_shorter_ended(uninterrupted, tmp_path, mode, step):
    run(prepared(tmp_path, *EVERYTHING, *MODES[mode], f"trainer.max_steps={step}"), tmp_path)
    resume(tmp_path, ["trainer.max_steps=20"])
    assert_same_run(uninterrupted(mode), tmp_path)
    assert json.loads((tmp_path / f"metrics-{step}.json").read_text())["steps"] == step


def test_a_run_in_two_sittings_says_how_long_both_took(tmp_path):
    run(prepared(tmp_path, "trainer.max_steps=8", "test=false"), tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    content = read(last)
    trained = json.loads((tmp_path / "metrics.json").read_text())["train_seconds"]
    assert 0 < content["laminar"]["seconds"] < trained + 0.1  # which is rounded, and knows what came after the last save
    content["laminar"]["seconds"] = 3600.0
    torch.save(content, last)
    resume(tmp_path, ["trainer.max_steps=20"])
    assert 3600 < json.loads((tmp_path / "metrics.json").read_text())["train_seconds"] < 3660
    assert 3600 < read(last)["laminar"]["seconds"] < 3660


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


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("optimizer.lr=1", "optimizer.lr=1 cannot change in the middle of a run, for the optimizer goes on from its state"),
        ("scheduler=constant", "one schedule from its first step to its last"),
        ("data.batch_size=100", "batches of the same rows in the same order"),
        ("seed=1", "functions of the seed"),
        ("flow=glow", "flow=glow cannot change"),
        ("trainer.precision=bf16-mixed", "rounded otherwise"),
        ("trainer.accumulate_grad_batches=2", "counted in micro-batches"),
        ("trainer.gradient_clip_val=2", "decides which steps are taken"),
        ("callbacks.ema.decay=0.5", "it takes part in the training"),
        ("callbacks=[default,early_stopping]", "early_stopping takes part in the training"),
        ("~callbacks.ema", "it takes part in the training"),
        ("callbacks.pictures.n=3", "a callback that this run does not have: it has checkpoints, ema, nonfinite, signals"),
        ("trainer=cpus", r"no member cpus \(did you mean trainer=cpu\?\)"),
        ("logger=wand", r"no member wand \(did you mean logger=wandb\?\)"),
        ("data.root=elsewhere", "no option of this run's data"),
        ("--cfg", "is no change that a run can go on with"),
        ("tags=[new]", "is finished: to train it for longer"),
    ],
)
def test_what_may_not_change_in_the_middle_is_refused(uninterrupted, word, sentence):
    folder = uninterrupted("steps")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    with pytest.raises(Refused, match=sentence):
        resume(folder, [word])
    with pytest.raises(Refused, match="does not divide by 3 ranks"):
        resume(folder, ["trainer.devices=3", "test=false", "trainer.max_steps=30"])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"} == before


def test_what_says_what_is_so_is_no_change(uninterrupted):
    plain = read_config(uninterrupted("steps"))
    words = ["trainer.precision=32", "optimizer.lr=1e-3", "trainer.gradient_clip_val=1.0", "callbacks.ema.decay=0.9", "seed=0"]
    assert changed(plain, words) == plain


def test_where_a_run_goes_on_and_who_watches_may_change(uninterrupted, tmp_path):
    """Its numbers stay: those of its last checkpoint are the uninterrupted run's."""
    signalled = callback("SignalAt", step=7, number=int(signal.SIGTERM))
    with pytest.raises(SystemExit):
        run(prepared(tmp_path, *EVERYTHING, *MODES["steps"], *signalled), tmp_path)
    words = ["trainer=cpu_ddp", "trainer.devices=1", "logger=csv", "callbacks=[default,ema]", "~callbacks.progress"]
    resume(tmp_path, ["allow=[engine]", *words, "callbacks.health.n=8", "tags=[moved]", "memory=checkpoint"])
    config = read_config(tmp_path)
    assert config["tags"] == ["moved"] and config["callbacks"]["health"]["n"] == 8 and "progress" not in config["callbacks"]
    assert config["callbacks"]["ema"]["decay"] == 0.9 and "signalat" in config["callbacks"]
    assert config["trainer"]["strategy"]["process_group_backend"] == "gloo" and config["trainer"]["max_steps"] == 20
    one, other = (read(folder / "checkpoints" / "last.ckpt") for folder in (uninterrupted("steps"), tmp_path))
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step"):
        assert_same(one[key], other[key], key)
    assert (tmp_path / "figures" / "curves.png").exists()  # a watcher that was not there before


def test_every_callback_takes_part_or_watches():
    watching = {"calibration", "checkpoints", "curves", "densities", "health", "latents", "masks", "nonfinite", "pictures"}
    watching |= {"progress", "signals", "tables", "teacher", "throughput"}
    assert members("callbacks").keys() - {"default"} == watching | {*TAKING_PART}


def test_another_logger_knows_the_run():
    plain = {"tags": ["a"], "logger": None, "choices": {"logger": "csv"}, "callbacks": None, "data": {"_target_": "x"}}
    config = changed(plain, ["logger=wandb", "tags=[b]", "logger.project=mine"])
    assert (
        config["logger"]["tags"] == ["b"] and config["logger"]["project"] == "mine" and config["choices"]["logger"] == "wandb"
    )
    with pytest.raises(Refused, match="this run has none: say logger=wandb"):
        changed(plain, ["logger.project=mine"])


def test_the_latest_run_is_the_unfinished_one_that_was_saved_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="finds no unfinished run with a checkpoint below outputs/"):
        resumable("latest", longer=False)
    folders = [Path("outputs") / name for name in ("train/a/1", "sweeps/b/2/0", "train/a/3", "train/a/4")]
    for age, folder in enumerate(folders):
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.yaml").touch()
        (folder / "checkpoints" / "last.ckpt").touch()
        os.utime(folder / "checkpoints" / "last.ckpt", (1000 + age, 1000 + age))
    (folders[2] / "metrics.json").write_text('{"steps": 3}')
    with owning(folders[3]):  # somebody is at work there
        assert resumable("latest", longer=False) == folders[1]
        assert resumable("latest", longer=True) == folders[2]
    assert resumable("latest", longer=False) == folders[3]
    with pytest.raises(Refused, match=r"is a sweep: name a job of it, as outputs/sweeps/b/2/0 \(unfinished are 0\)"):
        resumable("outputs/sweeps/b/2", longer=False)


def test_a_job_of_a_sweep_goes_on_and_the_table_knows(tmp_path):
    job = tmp_path / "0"
    with pytest.raises(RuntimeError, match="power cut"):
        run(prepared(job, *EVERYTHING, *MODES["steps"], *callback("StopAt", step=7)), job)
    (job / ".hydra").mkdir()
    (job / ".hydra" / "overrides.yaml").write_text("- seed=0\n")
    (job / "config.yaml").write_text((job / "config.yaml").read_text().replace("step: 7", "step: -1"))
    write_tables(tmp_path)
    assert "no result" in (tmp_path / "table.csv").read_text()
    resume(job, ["allow=[engine]"])
    assert ",done," in (tmp_path / "table.csv").read_text()


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(Refused, match="not a run folder"):
        resume(tmp_path)
    prepared(tmp_path)
    with pytest.raises(Refused, match=r"has no checkpoints/last\.ckpt"):
        resume(tmp_path)
