"""Checkpoint files: bit rot, malformed structures and numbers that are none. All are refused, or change nothing."""

import random
from pathlib import Path
from shutil import copytree
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest
import torch
from engine import prepared, run

from laminar.refused import Refused
from laminar.runs.start import resume
from laminar.training.checkpoint import load, read

WORDS = (
    "callbacks=[nonfinite,ema,early_stopping,checkpoints]",
    "scheduler=warmup",
    "flow=glow",
    "size.levels=1",
    "size.steps=1",
    "trainer.max_steps=2",
    "trainer.val_check_interval=2",
    "test=false",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(prepared(folder, *WORDS), folder)
    return folder


@pytest.fixture
def content(trained):
    return torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)


def equal(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def test_a_flipped_bit_is_refused_or_changes_nothing(trained, tmp_path):
    """Anywhere, and with them the zip's directory at the end, whose bits other readers take for the last word."""
    whole = (trained / "checkpoints" / "best.ckpt").read_bytes()
    true, file, draw = read(trained / "checkpoints" / "best.ckpt"), tmp_path / "flipped.ckpt", random.Random(0)
    places = [draw.randrange(8 * len(whole)) for _ in range(100)]
    places += [draw.randrange(8 * len(whole) - 16_000, 8 * len(whole)) for _ in range(50)]
    refused = 0
    for place in places:
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        try:
            assert equal(read(file), true), place
        except Refused as no:
            assert "\n" not in str(no)
            refused += 1
    assert 60 < refused < 150


def repacked(source: Path, target: Path, compression: int) -> Path:
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        for entry in old.infolist():
            info = ZipInfo(entry.filename)
            info.compress_type = compression
            new.writestr(info, old.read(entry))
    return target


def test_what_unpacks_to_more_than_it_weighs(trained, tmp_path):
    packed = repacked(trained / "checkpoints" / "best.ckpt", tmp_path / "bomb.ckpt", ZIP_DEFLATED)
    with pytest.raises(Refused, match="parts of it are compressed"):
        read(packed)


def test_a_directory_entry_in_the_zip_gives_no_numbers_of_nobody(trained, tmp_path):
    """PyTorch's reader takes an entry marked as a folder for one without content, and hands out whatever memory holds."""
    whole = bytearray((trained / "checkpoints" / "best.ckpt").read_bytes())
    place = whole.rindex(b"PK\x01\x02", 0, whole.rindex(b"/data/3"))
    whole[place + 38] |= 0x10
    (tmp_path / "folder.ckpt").write_bytes(whole)
    with pytest.raises(Refused, match="have attributes"):
        read(tmp_path / "folder.ckpt")


def own(name, value):
    return lambda content: content["laminar"].update({name: value})


def space(**options):
    return lambda content: content["laminar"]["space"].update(options)


def config(**options):
    return lambda content: content["laminar"]["config"].update(options)


def first(content, change):
    """Changes the first weight by a function."""
    name = next(name for name, value in content["state_dict"].items() if value.is_floating_point() and value.dim() > 1)
    content["state_dict"][name] = change(content["state_dict"][name])


def itself(content):
    content["laminar"]["config"]["itself"] = content["laminar"]["config"]


def ever_more(content):
    node = ["x"]
    for _ in range(40):
        node = [node, node]
    content["laminar"]["config"]["more"] = node


def deep(content):
    node = content["laminar"]["config"]["deep"] = []
    for _ in range(100):
        node.append([])
        node = node[0]


EVERYWHERE = {
    "a list": lambda content: ["laminar"],
    "Laminar's own is a list": lambda content: content.update(laminar=["format", "config"]),
    "no format": lambda content: content["laminar"].pop("format"),
    "a format in words": own("format", "2"),
    "a format that is true": own("format", True),
    "a format below 1": own("format", -1),
    "no config": lambda content: content["laminar"].pop("config"),
    "a config that is a string": own("config", "flow"),
    "no space": lambda content: content["laminar"].pop("space"),
    "a space that is a list": own("space", [1, 8, 8]),
    "a time before it began": own("seconds", -1.0),
    "a time without end": own("seconds", float("inf")),
    "a time in words": own("seconds", "an hour"),
    "data without digests": own("data", {"train": 5}),
    "data of another kind": own("data", [1]),
    "no event": lambda content: content["laminar"]["space"].pop("event"),
    "a negative event": space(event=[1, -8, 8]),
    "an empty event": space(event=[]),
    "an event of a million million": space(event=[1, 10**6, 10**6]),
    "an event of words": space(event=["1", "8", "8"]),
    "an event that is a number": space(event=64),
    "negative levels": space(levels=-17),
    "levels that are none": space(levels=float("nan")),
    "levels in words": space(levels="17"),
    "too few levels": space(levels=[17, 17]),
    "upper that is infinite": space(upper=float("inf")),
    "a context without a shape": space(context={"label": 10}),
    "a huge context": space(context={"label": [10**12]}),
    "a space with more": space(more=1),
    "a flow that is a list": config(flow=[1]),
    "no flow": lambda content: content["laminar"]["config"].pop("flow"),
    "no trainer": lambda content: content["laminar"]["config"].pop("trainer"),
    "a seed in words": config(seed="0"),
    "a seed of a thousand digits": config(seed=10**1000),
    "a number of a thousand digits": config(note=10**1000),
    "a config that holds itself": itself,
    "a config that holds ever more": ever_more,
    "a config without an end": deep,
    "a config of bytes": config(note=b"x"),
    "a key that is a number of bytes": lambda content: content["laminar"]["config"].update({b"x": 1}),
    "a tensor in the config": config(note=torch.zeros(3)),
    "no weights": lambda content: content.pop("state_dict"),
    "weights in a list": lambda content: content.update(state_dict=[*content["state_dict"].values()]),
    "weights without names": lambda content: content.update(state_dict=dict(enumerate(content["state_dict"].values()))),
    "a weight that is a number": lambda content: first(content, lambda w: 1.0),
    "a weight that is a list": lambda content: first(content, lambda w: w.tolist()),
    "a weight that is missing": lambda content: content["state_dict"].popitem(),
    "a weight of another shape": lambda content: first(content, lambda w: w[:1]),
    "a weight that is not a number": lambda content: first(content, lambda w: w.fill_(float("nan"))),
    "a weight that is infinite": lambda content: first(content, lambda w: w.fill_(float("inf"))),
    "a weight of a trillion numbers": lambda content: first(content, lambda w: w.new_zeros(1).expand(10**12)),
    "a weight of holes": lambda content: first(content, lambda w: w.to_sparse()),
    "a weight that is nowhere": lambda content: first(content, lambda w: w.to("meta")),
}
OF_THE_FLOW = {  # which a run that goes on builds from config.yaml
    "a wider net": lambda content: widen(content["laminar"]["config"]["flow"]),
    "a part with another option": lambda content: content["laminar"]["config"]["flow"]["prior"].update(widht=3),
    "a part that is a number": lambda content: content["laminar"]["config"]["flow"].update(prior=3),
    "a flow of no parts": lambda content: content["laminar"]["config"]["flow"]["transform"].update(parts=None),
    "a flow without a value": lambda content: content["laminar"]["config"]["flow"].update(prior="???"),
    "a part named by nothing": lambda content: content["laminar"]["config"]["flow"]["prior"].update(_target_=None),
}
AT_RESUME = {
    "no loops": lambda content: content.pop("loops"),
    "loops that are a list": lambda content: content.update(loops=[]),
    "loops without the fit's": lambda content: content["loops"].pop("fit_loop"),
    "progress of words": lambda content: content["loops"]["fit_loop"]["epoch_progress"]["current"].update(ready="1"),
    "progress below 0": lambda content: content["loops"]["fit_loop"]["epoch_progress"]["current"].update(ready=-1),
    "progress that is missing": lambda content: content["loops"]["fit_loop"].pop("epoch_loop.batch_progress"),
    "no step": lambda content: content.pop("global_step"),
    "a step below 0": lambda content: content.update(global_step=-3),
    "an epoch in words": lambda content: content.update(epoch="one"),
    "no optimizer": lambda content: content.pop("optimizer_states"),
    "no optimizer in the list": lambda content: content.update(optimizer_states=[]),
    "two optimizers": lambda content: content["optimizer_states"].append(content["optimizer_states"][0]),
    "an optimizer that is a list": lambda content: content.update(optimizer_states=[[]]),
    "an optimizer without groups": lambda content: content["optimizer_states"][0].pop("param_groups"),
    "a rate in words": lambda content: content["optimizer_states"][0]["param_groups"][0].update(lr="fast"),
    "no betas": lambda content: content["optimizer_states"][0]["param_groups"][0].pop("betas"),
    "parameters that are not there": lambda content: content["optimizer_states"][0]["param_groups"][0]["params"].append(10**9),
    "a mean that is missing": lambda content: content["optimizer_states"][0]["state"][0].pop("exp_avg"),
    "a mean of another shape": lambda content: content["optimizer_states"][0]["state"][0].update(exp_avg=torch.zeros(7)),
    "a state of nobody": lambda content: content["optimizer_states"][0]["state"].update({"x": {}}),
    "no callbacks": lambda content: content.pop("callbacks"),
    "callbacks in a list": lambda content: content.update(callbacks=[]),
    "a best score in words": lambda content: content["callbacks"]["Checkpoints"].update(best="low"),
    "no best score": lambda content: content["callbacks"]["Checkpoints"].pop("best"),
    "a callback's state in words": lambda content: content["callbacks"].update(Checkpoints="best"),
    "a schedule in words": lambda content: content.update(lr_schedulers=["warmup"]),
    "no schedule's step": lambda content: content["lr_schedulers"][0].pop("last_epoch"),
    "no version": lambda content: content.pop("pytorch-lightning_version"),
    "an average of others": lambda content: content["current_model_state"].popitem(),
}


def widen(node) -> None:
    """A width at which the weights would take some terabytes."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "width":
                node[key] = 10**6
            widen(value)
    for child in node if isinstance(node, list) else ():
        widen(child)


def written(content, change, path) -> None:
    changed = change(content)
    torch.save(changed if isinstance(changed, list) else content, path)


@pytest.mark.parametrize("what", [*EVERYWHERE, *OF_THE_FLOW])
def test_a_malformed_checkpoint_is_refused_whoever_reads_it(trained, content, tmp_path, what):
    folder = copytree(trained, tmp_path / "run")
    written(content, (EVERYWHERE | OF_THE_FLOW)[what], folder / "checkpoints" / "last.ckpt")
    (folder / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(Refused) as no:
        load(folder)
    assert "\n" not in str(no.value) and len(str(no.value)) < 600
    if what in OF_THE_FLOW:
        return
    with pytest.raises(Refused) as no:
        resume(folder, ["trainer.max_steps=3"])
    assert "\n" not in str(no.value) and len(str(no.value)) < 600


@pytest.mark.parametrize("what", AT_RESUME)
def test_a_state_that_training_cannot_go_on_from(trained, content, tmp_path, what):
    folder = copytree(trained, tmp_path / "run")
    written(content, AT_RESUME[what], folder / "checkpoints" / "last.ckpt")
    with pytest.raises(Refused) as no:
        resume(folder, ["trainer.max_steps=3"])
    assert "\n" not in str(no.value) and "last.ckpt" in str(no.value)


def test_what_was_not_malformed_goes_on(trained, content, tmp_path):
    folder = copytree(trained, tmp_path / "run")
    written(content, lambda content: None, folder / "checkpoints" / "last.ckpt")
    resume(folder, ["trainer.max_steps=3"])
    assert read(folder / "checkpoints" / "last.ckpt")["global_step"] == 3
