"""What cannot work ends in one sentence, a non-zero exit status and an untouched disk."""

import errno
import json
import os
import signal
import sys

import pytest
import torch
from engine import SMALL, callback, prepared, run

from laminar.commands.train import main
from laminar.refused import Refused
from laminar.runs.owner import LOCK
from laminar.training import checkpoint
from laminar.training.callbacks.nonfinite import Diverged
from laminar.training.checkpoint import AtomicIO, load, read


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """``laminar-train`` with the given words: its exit status, and the line that it left on stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["laminar-train", *SMALL, "trainer.max_steps=1", *words])
        with pytest.raises(SystemExit) as left:
            main()
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        return left.value.code, lines[0]

    return call


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["prior=gausian"], "prior has no member gausian (did you mean prior=gaussian?)"),
        (["trainer.max_stps=3"], "max_stps"),
        (["size.widht=3"], "widht"),
        (["+mask_sheme=channel"], "mask_sheme would change nothing: this flow reads"),
        (["+mix=conv1x1"], "mix would change nothing: this flow reads"),
        (["multiscale=residual"], "this multiscale reads trace, which nothing here chooses: add +trace="),
        (["+callbacks.ema.decay=0.9"], "callbacks.ema has options and was not chosen: take callbacks=[default,ema]"),
        (["data.batch_size=0"], "batch_size"),
        (["data.batch_size=201", "trainer.accumulate_grad_batches=2"], "does not divide"),
        (["data.batch_size=5000"], "exceeds the"),
        (["num_samples=0"], "num_samples"),
        (["scheduler=cosine", "scheduler.recipe.total=-1"], "set trainer.max_steps"),
        (["optimizer._target_=os.system"], "_target_ 'os.system' is outside the packages"),
        (["objective=renyi", "objective.num_samples=0"], "objective.num_samples=0"),
        (["optimized_metric=val/accuracy"], "optimized_metric=val/accuracy"),
        (["ckpt_path=nowhere.ckpt"], "ckpt_path=nowhere.ckpt is not there"),
        (["resume=nowhere"], "nowhere is not a run folder"),
    ],
)
def test_a_request_that_cannot_work_is_one_sentence(command, tmp_path, words, sentence):
    status, line = command(*words)
    assert status == 2
    assert sentence in line
    assert not any(tmp_path.iterdir())


def test_a_refusal_in_the_first_step_leaves_nothing_and_a_later_one_what_was_trained(command, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    status, line = command("logger._target_=laminar.training.logger.wandb.WandB", *callback("RefuseAt", step=1))
    assert status == 2 and line == "laminar: step 1 is refused" and not any(tmp_path.iterdir())
    status, line = command("trainer.max_steps=4", *callback("RefuseAt", step=3))
    assert status == 2 and line == "laminar: step 3 is refused"
    (numbers,) = tmp_path.glob("outputs/train/default/*/metrics.csv")
    assert len(numbers.read_text().splitlines()) == 3


def test_a_refused_run_leaves_other_runs_and_an_asked_for_folder_alone(command, tmp_path):
    (tmp_path / "outputs" / "train" / "default" / "other").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    assert command("data.batch_size=5000")[0] == 2
    assert command("data.batch_size=5000", f"hydra.run.dir={tmp_path}/mine")[0] == 2
    assert command("data.batch_size=5000", f"hydra.run.dir={tmp_path}/outputs/train/default/new/er")[0] == 2
    assert [path.name for path in (tmp_path / "outputs" / "train" / "default").iterdir()] == ["other"]
    assert (tmp_path / "mine" / "notes.txt").read_text() == "precious"


def test_a_finished_run_is_never_overwritten(command, tmp_path):
    prepared(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, line = command(f"hydra.run.dir={tmp_path}")
    assert status == 2 and "holds a finished run" in line
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after.pop(tmp_path / LOCK) and after == before


def test_an_output_folder_that_cannot_be_made(command, tmp_path):
    (tmp_path / "file").write_text("")
    status, line = command(f"hydra.run.dir={tmp_path}/file/run")
    assert status == 2 and "Not a directory" in line


def test_a_full_disk_leaves_the_last_good_checkpoint(monkeypatch, tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicIO().save_checkpoint({"laminar": {"format": 1}, "x": torch.zeros(3)}, path)
    before = path.read_bytes()

    def full(content, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(Refused, match=r"No space left on device.*is the disk full"):
        AtomicIO().save_checkpoint({}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run(prepared(folder, "trainer.max_steps=4", "test=false"), folder)
    return folder


def test_a_truncated_checkpoint(trained, tmp_path):
    whole = (trained / "checkpoints" / "best.ckpt").read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.ckpt").write_bytes(whole[:size])
        with pytest.raises(Refused, match=r"cut\.ckpt is not a readable checkpoint"):
            load(tmp_path / "cut.ckpt")


def test_a_checkpoint_of_another_architecture(trained, tmp_path):
    content = read(trained / "checkpoints" / "best.ckpt")
    content["laminar"]["config"]["flow"]["transform"]["parts"].pop(1)
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(Refused, match="another architecture"):
        load(tmp_path / "other.ckpt")


def test_a_checkpoint_of_another_program(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(Refused, match="was not written by Laminar"):
        load(tmp_path / "foreign.ckpt")


def test_a_checkpoint_from_a_stranger_runs_no_code(trained, tmp_path):
    content = read(trained / "checkpoints" / "best.ckpt")
    content["laminar"]["config"]["flow"]["prior"] = {"_target_": "os.system", "command": f"touch {tmp_path}/ran"}
    torch.save(content, tmp_path / "stranger.ckpt")
    with pytest.raises(Refused, match=r"'os\.system' is outside"):
        load(tmp_path / "stranger.ckpt")

    class Bomb:
        def __reduce__(self):
            return print, ("boom",)

    torch.save({"laminar": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(Refused, match="not a readable checkpoint"):
        load(tmp_path / "bomb.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_flow_comes_back_without_its_data(trained):
    flow, config = load(trained)
    assert config["seed"] == 0 and not flow.training
    weights = read(trained / "checkpoints" / "best.ckpt")["state_dict"]
    for name, value in flow.state_dict().items():
        assert torch.equal(value, weights[f"flow.{name}"])


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (float("nan"), r"first a weight of transform\..*head \(Linear\)"),
        (1e38, r"every layer is finite, the prior \(Gaussian\) is not"),
    ],
)
def test_a_loss_that_is_not_finite_names_its_layer(tmp_path, value, fault):
    """A NaN in the head of a coupling's net is the head's fault; a shift whose square overflows shows in the prior."""
    setting = "trainer.val_check_interval=3"
    name = [name for name in weights_of(prepared(tmp_path)) if name.endswith("head.bias")][-1]
    with pytest.raises(Diverged, match="not finite at step 4: " + fault):
        run(prepared(tmp_path, setting, *callback("NaNAt", step=5, name=name, value=value)), tmp_path)
    last = read(tmp_path / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 3
    assert all(weight.isfinite().all() for weight in last["state_dict"].values())


def weights_of(plain: dict) -> list[str]:
    from laminar.config.recipe import build
    from laminar.data.datamodule import FlowDataModule

    flow = build(plain["flow"], "flow")(
        FlowDataModule(build(plain["data"], "data"), build(plain["dequantization"], "flow")).space
    )
    return [name for name, _ in flow.named_parameters()]


def test_a_run_that_diverges_exits_with_one_sentence(command, tmp_path):
    status, line = command("optimizer.lr=1e18", "trainer.max_steps=9", "trainer.val_check_interval=1")
    assert status == 1 and "the loss is not finite at step" in line
    assert not list(tmp_path.rglob("metrics.json"))
    for path in tmp_path.rglob("*.ckpt"):
        assert all(weight.isfinite().all() for weight in read(path)["state_dict"].values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_first_signal_saves_and_leaves(tmp_path, number):
    with pytest.raises(SystemExit) as left:
        run(prepared(tmp_path, *callback("SignalAt", step=2, number=int(number))), tmp_path)
    assert left.value.code == 128 + number
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert not (tmp_path / "metrics.json").exists()


def test_a_second_signal_leaves_at_once(tmp_path, monkeypatch):
    class AtOnce(BaseException):
        pass

    def leave(status):
        raise AtOnce(status)

    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(AtOnce) as left:
        run(prepared(tmp_path, *callback("SignalAt", step=6, number=int(signal.SIGINT), times=2)), tmp_path)
    assert left.value.args == (128 + signal.SIGINT,)
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4  # the validation's


def test_numbers_are_json(trained):
    assert json.loads((trained / "metrics.json").read_text())["parameters"] > 0
    assert checkpoint.find(trained) == trained / "checkpoints" / "best.ckpt"
