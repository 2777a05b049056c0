"""Changed data: a run goes on, is scored and looked at on the rows that it was trained on, or somebody says so."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
import torch
from engine import prepared, run

from laminar.commands import train
from laminar.config.pages import compose
from laminar.data.datamodule import FlowDataModule
from laminar.data.digits import Digits
from laminar.data.nothing import Nothing
from laminar.data.source import Split
from laminar.refused import Refused
from laminar.runs import evaluate, sample
from laminar.runs.same import accepts, go_on
from laminar.runs.start import resume
from laminar.training.checkpoint import read

NAMES = ("train", "val", "test")


def images(rows=60, side=4, change=0, levels=256):
    values = np.random.default_rng(0).integers(0, levels, (rows, side, side), np.uint8)
    values[:change] ^= 1
    return values


def save(folder, train=None, test=None, labels=None):
    np.savez(
        folder / "train.npz", images=images() if train is None else train, **({} if labels is None else {"labels": labels})
    )
    np.savez(
        folder / "test.npz", images=images(20) if test is None else test, **({} if labels is None else {"labels": labels[:20]})
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of four steps on images of 4x4 pixels, and beside it its data."""
    folder = tmp_path_factory.mktemp("changed")
    save(folder)
    words = ("data=npz", f"data.path={folder}/train.npz", f"data.test_path={folder}/test.npz", "data.batch_size=10")
    run(prepared(folder / "run", *words, "trainer.max_steps=4", "trainer.val_check_interval=2"), folder / "run")
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    """The run and its data, for a test to change."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(trained), str(tmp_path)))
    checkpoints = tmp_path / "run" / "checkpoints"
    for name in ("last", "best"):
        checkpoint = read(checkpoints / f"{name}.ckpt")
        data = checkpoint["laminar"]["config"]["data"]
        data |= {
            key: value.replace(str(trained), str(tmp_path)) for key, value in data.items() if key.endswith("path") and value
        }
        torch.save(checkpoint, checkpoints / f"{name}.ckpt")
    return tmp_path


def longer(folder, *words):
    resume(folder / "run", ["trainer.max_steps=6", *words])


def evaluated(folder, **options):
    words = {"run": folder / "run", "device": "cpu", **options}
    evaluate.start(compose("evaluate", [f"{key}={value}" for key, value in words.items()]))
    return json.loads((folder / "run" / "evaluations" / f"{options.get('split', 'test')}-K64.json").read_text())


# -- the digest -------------------------------------------------------------------------------------------------------


def test_a_digest_is_that_of_all_that_rows_are():
    values = torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2)
    whole = Split.whole(values, torch.tensor([0, 1, 2]), size=torch.ones(3, 1))
    others = [
        Split.whole(values + 1, torch.tensor([0, 1, 2]), size=torch.ones(3, 1)),
        Split.whole(values, torch.tensor([0, 1, 1]), size=torch.ones(3, 1)),
        Split.whole(values, torch.tensor([0, 1, 2]), size=torch.zeros(3, 1)),
        Split.whole(values.view(3, 1, 1, 4), torch.tensor([0, 1, 2]), size=torch.ones(3, 1)),
        Split.whole(values, torch.tensor([0, 1, 2])),
        whole.pick(torch.tensor([0, 2, 1])),
        Split(values, whole.context, whole.ids, chances=values, steps=15),
        Split(values, whole.context, whole.ids, group=torch.tensor([0, 0, 1])),
    ]
    digests = [split.digest() for split in (whole, *others)]
    assert len(set(digests)) == 9 and whole.pick(torch.arange(3)).digest() == digests[0]
    plain = sha256(b"1")
    for name, part in (("ids", torch.arange(3)), ("values", values)):
        plain.update(f"{name} {part.dtype} {tuple(part.shape)}".encode() + part.numpy().tobytes())
    assert Split.whole(values).digest() == plain.hexdigest()


def test_serving_does_not_change_a_digest_and_is_taken_once(monkeypatch):
    one, two = (FlowDataModule(Digits(batch_size=size, shift=0.1 * size % 1)) for size in (8, 16))
    assert one.known() == two.known() and [one.known()[name]["rows"] for name in NAMES] == [1293, 144, 360]
    monkeypatch.setattr(Split, "digest", None)
    assert one.known() == {name: one.split_record()[name] for name in NAMES}


def test_a_checkpoint_knows_its_data(trained):
    environment = json.loads((trained / "run" / "environment.json").read_text())
    for name in ("last", "best"):
        known = read(trained / "run" / "checkpoints" / f"{name}.ckpt")["laminar"]["data"]
        assert known == {split: environment["split"][split] for split in NAMES}
        assert [known[split]["rows"] for split in NAMES] == [54, 6, 20]


# -- resume= ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": images(change=60)}, "train has other values or another order, val has other values or another order"),
        ({"test": images(20, change=1)}, r"resume=.*run has other data than before \(test has other values or another order\)"),
        ({"test": images(21)}, r"\(test has 21 rows instead of 20\): put its own back, or add data.changed=accept"),
        ({"train": images(80)}, r"\(train has 72 rows instead of 54, .*a run counts its steps by batches .* start a new run"),
        ({"train": images(side=8), "test": images(20, side=8)}, r"events of shape \(1, 4, 4\), and its data have \(1, 8, 8\)"),
        ({"labels": np.arange(60) % 3}, r"was trained on context \{\}, and its data have \{'label': \(3,\)\}"),
    ],
)
def test_resuming_on_other_data_is_refused(copy, files, message, monkeypatch):
    monkeypatch.setattr("laminar.runs.run.build_trainer", None)  # so that further ranks are never started
    save(copy, **files)
    before = {file: file.read_bytes() for file in (copy / "run" / "checkpoints").iterdir()}
    with pytest.raises(Refused, match=message):
        longer(copy)
    assert before == {file: file.read_bytes() for file in (copy / "run" / "checkpoints").iterdir()}


def test_other_data_are_accepted_once_and_both_are_recorded(copy):
    known = read(copy / "run" / "checkpoints" / "last.ckpt")["laminar"]["data"]
    save(copy, test=images(20, change=1))
    longer(copy, "data.changed=accept")
    environment = json.loads((copy / "run" / "environment.json").read_text())["split"]
    assert environment["before"] == [known]
    assert environment["train"] == known["train"] and environment["test"] != known["test"]
    last = read(copy / "run" / "checkpoints" / "last.ckpt")
    assert last["laminar"]["data"] == {name: environment[name] for name in (*NAMES, "before")} and last["global_step"] == 6
    resume(copy / "run", ["trainer.max_steps=7"])  # these are its data now
    save(copy)
    with pytest.raises(Refused, match=r"\(test has other values or another order\)"):
        resume(copy / "run", ["trainer.max_steps=8"])
    resume(copy / "run", ["trainer.max_steps=8", "data.changed=accept"])
    environment = json.loads((copy / "run" / "environment.json").read_text())["split"]
    assert len(environment["before"]) == 2 and environment["test"] == known["test"]


@pytest.mark.parametrize("beats", [False, True])
def test_a_score_of_other_rows_is_no_score_to_beat(copy, beats):
    """The first validation on other rows is the best of these; where they are the same, the score before them stands."""
    last = copy / "run" / "checkpoints" / "last.ckpt"
    checkpoint = read(last)
    name, state = next((name, state) for name, state in checkpoint["callbacks"].items() if "best" in state)
    state["best"] = -100.0
    torch.save(checkpoint, last)
    files = {"train": images(change=60)} if beats else {"test": images(20, change=1)}
    save(copy, **files)
    longer(copy, "data.changed=accept")
    assert (read(last)["callbacks"][name]["best"] > 0) is beats
    assert (read(last.with_name("best.ckpt"))["global_step"] == 6) is beats


def test_other_data_are_accepted_beside_resume_alone(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["laminar-train", "data=moons", "data.changed=accept"])
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == 2 and "data.changed= is said beside resume=<run folder>" in capsys.readouterr().err


def test_a_checkpoint_that_does_not_know_its_data_goes_on(copy):
    path = copy / "run" / "checkpoints" / "last.ckpt"
    checkpoint = read(path)
    del checkpoint["laminar"]["data"]
    torch.save(checkpoint, path)
    save(copy, test=images(20, change=1))
    longer(copy)
    assert set(read(path)["laminar"]["data"]) == set(NAMES)


def test_rows_of_no_data_are_not_compared(trained):
    data = FlowDataModule(Nothing(batch_size=10, train_size=60))
    go_on(trained / "run", data, accept=False)
    assert "splits" not in vars(data)


def test_the_word_that_accepts():
    assert accepts(["trainer.max_steps=4", "data.changed=accept"]) and not accepts(["data.changed=refuse"]) and not accepts([])
    with pytest.raises(Refused, match=r"data.changed=yes is neither accept nor refuse"):
        accepts(["data.changed=yes"])


def test_a_finished_run_is_finished_whatever_its_data(copy):
    with pytest.raises(Refused, match="is finished"):
        resume(copy / "run", ["data.changed=accept"])


# -- laminar-evaluate, laminar-sample -----------------------------------------------------------------------------------


def test_scores_of_other_rows_say_so(copy, capsys):
    own = evaluated(copy)
    assert "data" not in own and "other data" not in capsys.readouterr().err
    save(copy, test=images(20, change=20))
    other = evaluated(copy)
    assert f"laminar: the data are not those of run={copy}/run: test has other values" in capsys.readouterr().err
    known = read(copy / "run" / "checkpoints" / "best.ckpt")["laminar"]["data"]["test"]
    assert other["data"]["run"] == known and other["data"]["here"]["rows"] == 20 and other["data"]["here"] != known
    assert other["bpd"] != own["bpd"]
    assert "data" not in evaluated(copy, split="val") and not capsys.readouterr().err


def test_scores_of_other_kinds_of_data_are_refused_before_anything_is_computed(copy, monkeypatch):
    monkeypatch.setattr(evaluate, "evaluate", None)
    save(copy, images(side=8), images(20, side=8))
    with pytest.raises(
        Refused, match=r"run=.*run was trained on events of shape \(1, 4, 4\), and its data have \(1, 8, 8\) now"
    ):
        evaluated(copy)


@pytest.mark.parametrize("mode", ["reconstruct", "interpolate"])
def test_pictures_of_other_rows_say_so(copy, mode, capsys):
    def sampled(name):
        words = [f"run={copy}/run", "device=cpu", f"mode={mode}", "n=2", f"out={copy}/{name}.npz"]
        sample.start(compose("sample", words))

    sampled("own")
    assert not capsys.readouterr().err
    save(copy, test=images(20, change=20))
    sampled("other")
    assert "test has other values" in capsys.readouterr().err
    save(copy, images(side=8), images(20, side=8))
    with pytest.raises(Refused, match=r"events of shape \(1, 4, 4\)"):
        sampled("shape")


def test_drawing_reads_no_rows(copy, capsys):
    (copy / "train.npz").unlink()
    sample.start(compose("sample", [f"run={copy}/run", "device=cpu", "n=2", f"out={copy}/drawn.npz"]))
    assert not capsys.readouterr().err
