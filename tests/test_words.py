"""Words: what a command says of itself, and its sentence for whatever cannot be, before anything is imported or made."""

import os
import re
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from signal import SIGINT, alarm
from time import sleep

import pytest
import yaml
from forked import forked
from omegaconf import OmegaConf

from laminar.commands import evaluate, sample, train
from laminar.commands.help import text as help_text
from laminar.commands.menu import text as menu_text
from laminar.config.heads import groups, head, members, options
from laminar.config.jobs import judge_job
from laminar.config.pages import CONF, compose
from laminar.config.schema import SCHEMA
from laminar.refused import Refused

DOORS = {"train": train, "evaluate": evaluate, "sample": sample}
SECONDS = 2.0
TRAINING = ("torch", "pytorch_lightning", "wandb", "matplotlib")


def said(command: str, folder: Path) -> tuple[int, str, float]:
    """Exit status, output and seconds on a core of a command, in a process that has imported nothing that training needs."""
    name, *words = command.split(" ")

    def enter() -> None:
        os.chdir(folder)
        alarm(120)  # a command that is not refused trains
        for module in [module for module in sys.modules if module.partition(".")[0] in TRAINING]:
            del sys.modules[module]
        sys.argv = [f"laminar-{name}", *words]
        try:
            DOORS[name].main()
        finally:
            if found := [module for module in TRAINING if module in sys.modules]:
                print(f"imported {found}")

    output, began = folder.with_suffix(".txt"), cores()
    status = forked(enter, output)
    return status, output.read_text(), cores() - began


def cores() -> float:
    """Seconds that all processes begun here have spent: another program's work does not count."""
    spent = getrusage(RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


@pytest.fixture(scope="module", autouse=True)
def _composed():
    """What each of the processes begins with."""
    judge_job(compose("train"), "train", [])


# -- what a command says of itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOORS)
def test_help_lists_the_commands_own_groups_and_options_with_their_meaning(name):
    text, lines = help_text(name, DOORS[name].__doc__), [*groups(name), *options(CONF / f"{name}.yaml")]
    assert all(any(row.split()[:1] == [line.name] for row in text.splitlines()) for line in lines)
    assert all(line.meaning for line in lines), [line.name for line in lines if not line.meaning]
    assert {*SCHEMA[name]} == {line.name for line in options(CONF / f"{name}.yaml")}
    assert ("coupling" in text) == (name == "train")


def test_every_group_is_listed_and_every_page_has_a_head():
    folders = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}
    assert {line.name for line in groups("train")} == folders
    assert not [page for group in folders for page in members(group).values() if not head(page)]


@pytest.mark.parametrize("name", DOORS)
def test_defaults_are_those_that_hydra_composes(name):
    config = OmegaConf.load(CONF / f"{name}.yaml")
    for line in options(CONF / f"{name}.yaml"):
        node = config
        for part in line.name.split("."):
            node = node._get_node(part)
        assert yaml.safe_load(line.default) == node._value() or (node._is_none() and line.default == "null") or not len(node)
    assert {line.name: line.default for line in groups("train")}["flow"] == "realnvp"


def test_lists_of_groups_members_and_options(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert "coupling" in menu_text("train", []) and "coupling" not in menu_text("evaluate", [])
    assert "RealNVP" in next(row for row in menu_text("train", ["flow"]).splitlines() if row.split()[0] == "realnvp")
    row = next(row for row in menu_text("train", ["experiment"]).splitlines() if "realnvp_cifar10" in row)
    assert "3.49 bits/dim" in row and "RealNVP on CIFAR-10" in row
    assert "https" not in menu_text("train", ["flow"])
    assert "bound" in menu_text("train", ["coupling=affine"]) and "max_steps" in menu_text("train", ["trainer", "ddp"])
    with pytest.raises(Refused, match=r"no group fow \(did you mean list flow\?\)"):
        menu_text("train", ["fow"])
    with pytest.raises(Refused, match="no member afine"):
        menu_text("train", ["coupling=afine"])


def test_a_list_whose_reader_has_read_enough_says_nothing_more():
    piped = f"set -o pipefail; {sys.executable} -m laminar.commands.train list flow | head -1"
    read = subprocess.run(["bash", "-c", piped], capture_output=True, text=True)
    assert (read.returncode, read.stdout, read.stderr) == (0, "flow=\n", "")


def shown_commands() -> list[tuple[str, str]]:
    """The commands that README and help show of a trained flow."""
    texts = [(Path(__file__).parents[1] / "README.md").read_text(), *(door.__doc__ for door in DOORS.values())]
    lines = [line for text in texts for line in text.splitlines() if line.startswith(("laminar-evaluate", "laminar-sample"))]
    commands = [re.split(r"  +|\s#", line)[0].split() for line in lines if ":" not in line.split()[0]]
    others = [f"{group}={name}" for group in ("trace", "solver") for name in members(group)]
    told = [(command.removeprefix("laminar-"), " ".join(words)) for command, *words in commands]
    return sorted({*told, *(("evaluate", f"run=... {word}") for word in others)})


@pytest.mark.parametrize(("command", "words"), shown_commands())
def test_what_is_shown_is_not_refused(tmp_path, command, words):
    (tmp_path / "rows.csv").touch()
    words = [re.sub(r"^(run|against)=.*", rf"\1={tmp_path}", word) for word in words.split() if not word.startswith("-")]
    words = [word.replace("context=rows.csv", f"given={tmp_path}/rows.csv").partition(",")[0] for word in words]
    judge_job(compose(command, words), command, words)


def test_ones_own_pages_are_listed(tmp_path):
    (tmp_path / "coupling").mkdir()
    (tmp_path / "coupling" / "mine.yaml").write_text("# A law of mine\n_target_: mylaws.Mine\n")
    assert "A law of mine" in menu_text("train", ["coupling"], str(tmp_path))


@pytest.mark.parametrize("words", ["--version", "list", "list flow", "--help", "-h flow=glow"])
def test_looking_needs_no_training(words, tmp_path):
    status, output, took = said(f"train {words}", tmp_path)
    assert status == 0 and output and took < SECONDS / 2
    assert words != "--version" or output == "laminar 0.1.0\n"


# -- what cannot be --------------------------------------------------------------------------------------------------

WRONG = {
    # other programs' words
    "train model=glow": "say flow=glow",
    "train datamodule=mnist": "say data=mnist",
    "train lr=0.1": "say optimizer.lr=0.1",
    "train batch_size=32": "say data.batch_size=32",
    "train epochs=3": "say trainer.max_epochs=3",
    "train max_epochs=3": "say trainer.max_epochs=3",
    "train trainer.gpus=2": "say trainer=gpu trainer.devices=2",
    "train data.num_workers=4": "without workers",
    "train +data.num_workers=4": "without workers",
    "train paths.data_dir=x": "say data.root=x",
    "train checkpoint=x": "say ckpt_path=x",
    "train precision=bf16-mixed": "say trainer.precision=bf16-mixed",
    "train seed_everything=1": "say seed=1",
    "train wandb.project=x": "say logger.project=x",
    "evaluate ckpt_path=x": "say run=x",
    "sample run=. num_samples=3": "say n=3",
    "evaluate run=. flow=glow": "as the run was trained",
    # groups and members
    "train flow=glwo": "did you mean flow=glow?",
    "train flow=rational_quadratic": "did you mean coupling=rational_quadratic?",
    "train logger=many_loggers": "it has csv, tensorboard, wandb",
    "train logger=null logger=csv": "logger is chosen twice",
    "train logger=[csv,tensorboard]": "chooses several",
    "train callbacks=[default,emma]": "did you mean callbacks=ema?",
    "train coupling=affine,additive": "-m runs one after another",
    "train -m flow=glow,glwo": "did you mean flow=glow?",
    "train data=null": "laminar-train list data",
    "train ~optimizer": "laminar-train list optimizer",
    "train order=random": "order=random would change nothing",
    "train +order=random": "order would change nothing",
    "train +experiment=realnvp_digits": "say experiment=realnvp_digits",
    # keys
    "train modl=x": "did you mean flow=x?",
    "train sed=1": "did you mean seed?",
    "train +foo=1": "foo would change nothing",
    "train optimizer.lrr=3": "did you mean optimizer.lr?",
    "train size.widht=3": "did you mean size.width?",
    "train +optimizer.lr=3": "say optimizer.lr=3",
    "train +trainer.foo=1": "trainer.foo is no option of Trainer",
    "train +coupling.scael=1": "coupling.scael is no option of Affine (did you mean coupling.scale?)",
    "train optimizer.momentum=1": "optimizer.momentum is no option",
    "train optimizer.eps=1e-8": "say +optimizer.eps=1e-8",
    "evaluate run=. splt=val": "did you mean split?",
    # kinds and bounds
    "train seed=abc": "seed=abc is not what the option holds: it takes a whole number from 0 on",
    "train seed=-1": "a whole number from 0 on",
    "train seed=99999999999999999999": "a whole number from 0 on",
    "train train=perhaps": "it takes true or false",
    "train memory=stor": "did you mean memory=store?",
    "train name=../x": "leads to no other folder",
    "train optimizer.lr=fast": "it takes a number from 0 on",
    "train optimizer.lr=-1": "it takes a number from 0 on",
    "train optimizer.betas=[0.9]": "a list of 2",
    "train optimizer.betas=[0.9,1.5]": "from 0 up to 1",
    "train optimizer._target_=torch.optim.SGD": "optimizer.betas is no option of SGD",
    "train optimizer._target_=os.system": "outside the packages",
    "train trainer.max_time=1": "days:hours:minutes:seconds",
    "train trainer.max_steps=1e3": "a whole number",
    "train trainer.devices=0": "a whole number from 1 on",
    "train trainer.precision=bf8": "bf16-mixed",
    "train trainer.accumulate_grad_batches=0": "a whole number from 1 on",
    "train data.batch_size=0": "a whole number from 1 on",
    "train data.batch_size=null": "a whole number from 1 on",
    "train data.batch_size=127 trainer=cpu_ddp": "take a multiple of 2",
    "train size.width=1.5": "a whole number from 1 on",
    "train flow=glow coupling.scale.shift={a:1}": "coupling.scale.shift={'a': 1}",
    "train scheduler=warmup scheduler.recipe.warmup=-1": "a whole number from 0 on",
    "train callbacks.health.n=0": "a whole number from 1 on",
    "train callbacks=none optimizer.lr=x": "it takes a number from 0 on",
    "train -m optimizer.lr=1e-3,fast": "optimizer.lr=fast",
    "train -m seed=1,b": "seed=b",
    "train -m data=image_folder data.path=.,. data.size=8,x": "data.size=x",
    "evaluate -m run=.,nowhere": "run=nowhere is not there",
    "evaluate run=. split=training": "did you mean split=train?",
    "evaluate run=. num_samples=0": "a whole number from 1 on or null",
    "sample run=. n=0": "a whole number from 1 on",
    "sample run=. temperature=0": "a number above 0",
    "sample run=. mode=dream": "it takes sample, reconstruct or interpolate",
    "train size=3": "size.width=...",
    "train trainer.logger=false": "choose logger=",
    "train trainer.accelerator=foo": "cpu, gpu, cuda",
    "train tags={a:1}": "is not what stands there",
    "train hydra.mode=often": "is not what stands there",
    # what is not there
    "train data=npz data.path=nowhere.npz": "data.path=nowhere.npz is not there",
    "train data=image_folder data.path=.": "data.size has no value",
    "train ckpt_path=nowhere.ckpt": "ckpt_path=nowhere.ckpt is not there",
    "train ckpt_path=.": "resume=. goes on with a run",
    "sample": "run has no value",
    "evaluate run=nowhere": "run=nowhere is not there",
    # flags and grammar
    "train --multrun": "did you mean --multirun?",
    "train -sc": "--shell-completion install=bash",
    "train --config-dir nowhere": "--config-dir nowhere is not there",
    "train foo": "'foo' is no word of a command",
    "train tags=[a": "tags=[a is no word of a command",
    "train allow=[a-b]": "not the name of a package",
    "train list afine": "has no group afine",
}


@pytest.mark.parametrize(("command", "sentence"), WRONG.items(), ids=WRONG)
def test_a_wrong_command_gets_a_sentence_at_once_and_leaves_nothing(command, sentence, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    status, output, took = said(command, folder)
    assert status == 2 and sentence in output, output
    assert output.startswith("laminar: ") and output.count("\n") == 1
    assert took < SECONDS and not any(folder.iterdir())


# -- as they are started by hand ---------------------------------------------------------------------------------------


def started(name: str, *words: str, cwd: Path) -> subprocess.Popen:
    line = [sys.executable, "-m", f"laminar.commands.{name}", *words]
    return subprocess.Popen(line, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["lr=1", "flow=glwo", "optimizer.lr=fast", "optimizer.lrr=3", "data=image_folder data.path=."]
)
def test_a_sentence_comes_within_seconds_of_a_cold_start(words, tmp_path):
    began = cores()
    said, _ = started("train", *words.split(), cwd=tmp_path).communicate(timeout=60)
    assert said.startswith("laminar: ") and cores() - began < SECONDS and not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 1, 1.4, 1.7, 2, 2.3, 3, 4, 6])
def test_ctrl_c_during_the_imports_is_one_sentence(seconds, tmp_path):
    process = started("train", "logger=null", "flow=realnvp_flat", cwd=tmp_path)
    sleep(seconds)
    process.send_signal(SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert sum("SIGINT" in line for line in said.splitlines()) == 1
    assert "nothing was begun" not in said or not any(tmp_path.iterdir())


@pytest.mark.slow
def test_what_hydra_cannot_make_sense_of_is_a_sentence(tmp_path):
    said, _ = started("train", "hydra.verbose=3", cwd=tmp_path).communicate(timeout=120)
    assert said.startswith("laminar: Hydra cannot make sense of these words") and not any(tmp_path.iterdir())


@pytest.mark.slow
def test_of_several_ranks_one_speaks(tmp_path):
    words = ("data.batch_size=127", "trainer=cpu_ddp", 'trainer.devices="2"', "logger=null", "flow=realnvp_flat")
    said, _ = started("train", *words, cwd=tmp_path).communicate(timeout=120)
    assert said.count("take a multiple of 2") == 1 and "rank" not in said.replace("2 ranks x 1", "")


def test_a_gpu_that_is_not_there_is_told_before_anything_is_made(monkeypatch):
    import torch  # not above: the other commands of this file are begun without

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(Refused, match=r"trainer=gpu needs a GPU.*trainer=cpu"):
        judge_job(compose("train", ["trainer=gpu"]), "train", ["trainer=gpu"])
