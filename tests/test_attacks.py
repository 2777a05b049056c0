"""Attacks: what a stranger's checkpoint, run folder or pages try to run, read or write. Each ends in a sentence alone."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
import yaml
from engine import prepared, run
from pytorch_lightning.profilers import SimpleProfiler

from laminar.commands import evaluate, sample, train
from laminar.config.allow import packages
from laminar.config.pages import CONF
from laminar.config.recipe import build, find, targets
from laminar.config.slots import SLOTS, Slot
from laminar.config.whole import whole, write_text
from laminar.refused import Refused, say
from laminar.runs import open as opening
from laminar.runs.start import resume
from laminar.training.checkpoint import load, read
from laminar.training.ddp import command

SHELL = "torch.nn.modules.module.torch.utils.collect_env.run"
HOSTILE = [
    *f"""
    {SHELL} torch.nn.modules.activation.torch.hub.load torch.nn.utils.rnn.torch.load laminar.flows.flow.torch.load
    laminar.checkpoint.torch.load laminar.training.checkpoint.torch.load laminar.checkpoint.torch.hub.load
    laminar.data.npz.np.load laminar.data.npz.np.lib.npyio.np.load laminar.training.ddp.subprocess.Popen
    laminar.folder.Path.write_text laminar.runs.folder.Path.unlink laminar.data.table.Path laminar.flows.net.mlp.nn
    laminar.folder.write_json laminar.runs.folder.write_json laminar.config.whole.write_text laminar.runs.worker.main
    laminar.config.recipe.build laminar.training.scheduler.LambdaLR laminar.training.ddp.DDPStrategy
    laminar.training.profiler.SimpleProfiler laminar.data.source.Split.whole torch.nn.Module.load_state_dict
    laminar.flows.flow.Flow.__init__ laminar.flows.flow.__builtins__ laminar.training.scheduler._rise
    functools.partial builtins.eval os.system subprocess.Popen pickle.loads hydra.utils.instantiate
    pytorch_lightning.callbacks.ModelCheckpoint pytorch_lightning.loggers.CSVLogger pytorch_lightning.Trainer.fit
    pytorch_lightning.profilers.SimpleProfiler torchmetrics.text.BERTScore torch.optim.LBFGS torch.nn.Linear
    laminar.flows.flow laminar os . laminar..x ../x.y laminar.flows.coupling./etc.x laminar.flows.none.None
    """.split(),
    *("", "os.system\0", None, 3, True, ["os.system"], {"_target_": "os.system"}),
]


def slot_of(page: Path) -> str:
    groups = {"debug": "trainer", "path": "objective", "target": "objective"}
    return groups.get(page.parent.name, page.parent.name if page.parent.name in SLOTS else "flow")


def test_all_that_conf_orders_may_stand_where_it_stands():
    found = 0
    for page in CONF.rglob("*.yaml"):
        for target in targets(yaml.safe_load(page.read_text()) or {}):
            if page.parent.name != "hydra":  # built by Hydra, of our own pages alone
                find(target, Slot(slot_of(page), ()))
                found += 1
    assert found > 280


@pytest.mark.parametrize("target", HOSTILE, ids=repr)
def test_what_no_slot_holds(target):
    for slot in SLOTS:
        with pytest.raises(Refused) as no:
            find(target, Slot(slot, ()))
        assert "\n" not in str(no.value) and len(str(no.value)) < 400


def test_a_slot_holds_its_own_alone():
    """What one place may order is refused in the others: a callback is no part of a flow."""
    pages = {slot_of(page): page for page in CONF.rglob("*.yaml") if page.parent.name in SLOTS}
    for slot, page in pages.items():
        target = next(iter(targets(yaml.safe_load(page.read_text()))), None)
        for other in {*SLOTS} - {slot} if target else ():
            with pytest.raises(Refused, match="is outside the packages"):
                find(target, Slot(other, ()))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that leaves a marker when it is imported, and shows what is not its own."""
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nimport os\n")
    (tmp_path / "stranger" / "law.py").write_text("from os import system\nimport os\nfrom torch import load\nclass Law: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "imported"
    for name in [name for name in sys.modules if name.split(".")[0] == "stranger"]:
        del sys.modules[name]


def test_nothing_is_imported_before_it_is_trusted(package):
    for target in ("stranger.law.Law", "laminar.stranger.Law", "laminar.flows.coupling.stranger.Law", "stranger.Law"):
        with pytest.raises(Refused):
            build({"_target_": target}, "flow")
    assert not package.exists()


def test_a_trusted_package_gives_its_own_and_no_more(package):
    assert type(build({"_target_": "stranger.law.Law"}, "flow", ["stranger"])).__name__ == "Law"
    for target in (
        "stranger.os.system",
        "stranger.law.os.system",
        "stranger.law.system",
        "stranger.law.load",
        "strangers.x.Law",
    ):
        with pytest.raises(Refused):
            build({"_target_": target, "command": "true"}, "flow", ["stranger"])


def test_the_words_alone_say_who_is_trusted():
    assert packages(["allow=[a,b.c]", "seed=1"]) == ["a", "b.c"]
    assert packages(["allow=a", "+allow=[b]"]) == ["b"] and packages(["seed=1"]) == packages(["allow=null"]) == []
    for word in ("allow=[1]", "allow={a: b}", "allow=[../x]", 'allow=["${oc.env:HOME}"]', "allow=[a.]"):
        with pytest.raises(Refused, match="is not the name of a package"):
            packages([word])


def test_a_recipe_knows_two_words():
    for word, value in (("_args_", ["x"]), ("_recursive_", False), ("_convert_", "all"), ("__class__", "x"), ("_mode_", "r")):
        with pytest.raises(Refused, match="which no recipe reads"):
            build({"_target_": "laminar.flows.mask.halves.Halves", word: value}, "flow")


def test_strings_are_not_resolved_a_second_time():
    node = {"_target_": "laminar.training.target.function.Function", "name": "${oc.env:HOME}"}
    with pytest.raises(Refused, match=r"'\$\{oc\.env:HOME\}' is outside"):
        build(node, "objective")


# -- run folders and checkpoints ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    words = ("callbacks=[nonfinite,ema,checkpoints]", "trainer.max_steps=4", "trainer.val_check_interval=2", "test=false")
    run(prepared(folder, *words), folder)
    return folder


@pytest.fixture
def stranger(trained, tmp_path):
    """``stranger(change)``: a run folder of whose config, in its files and checkpoints, something was changed."""

    def make(change) -> Path:
        folder = copytree(trained, tmp_path / "stranger")
        config = yaml.safe_load((folder / "config.yaml").read_text())
        change(config)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        for path in folder.glob("checkpoints/*.ckpt"):
            content = torch.load(path, weights_only=True)
            change(content["laminar"]["config"])
            torch.save(content, path)
        return folder

    return make


def shell(marker: Path) -> dict:
    return {"_target_": SHELL, "command": f"touch {marker}"}


IN_A_FLOW = {
    "the flow itself": lambda config, node: config.update(flow=node),
    "its prior": lambda config, node: config["flow"].update(prior=node),
    "one of its parts": lambda config, node: config["flow"]["transform"]["parts"].append(node),
    "deep in lists": lambda config, node: config["flow"]["transform"]["parts"].append([[{"x": [node]}]]),
    "an option that nobody reads": lambda config, node: config["flow"].update(more={"of": {"it": node}}),
    "built at once": lambda config, node: config["flow"].update(_partial_=False, context=node),
    "an old format's name": lambda config, node: config["flow"].update(
        prior={"_target_": "laminar.flow.torch.utils.collect_env.run", "command": node["command"]}
    ),
    "create": lambda config, node: config["flow"].update(prior="${oc.create:'{_target_: " + SHELL + ", command: x}'}"),
    "an environment variable": lambda config, node: config["flow"].update(note="${oc.env:HOME}"),
    "a key to be resolved": lambda config, node: config["flow"].update({"${oc.env:HOME}": 1}),
    "its own allow": lambda config, node: config.update(allow=["torch"], flow=node),
}
IN_A_RUN = {
    "the data": lambda config, node: config.update(data=node),
    "beside the data": lambda config, node: config["data"].update(note=node),
    "the objective": lambda config, node: config.update(objective=node),
    "a target that allows itself": lambda config, node: config.update(
        objective={
            "_target_": "laminar.training.objective.reverse_kl.ReverseKL",
            "target": {"_target_": "laminar.training.target.function.Function", "name": SHELL, "allow": ["torch"]},
        }
    ),
    "a target by its name": lambda config, node: config.update(
        objective={
            "_target_": "laminar.training.objective.reverse_kl.ReverseKL",
            "target": {"_target_": "laminar.training.target.function.Function", "name": "os.getcwd"},
        },
        allow=["os"],
    ),
    "the optimizer": lambda config, node: config.update(optimizer=node),
    "another optimizer's option": lambda config, node: config["optimizer"].update(lr=node),
    "the schedule": lambda config, node: config["scheduler"].update(recipe=node),
    "the trainer": lambda config, node: config.update(trainer=node),
    "its strategy": lambda config, node: config["trainer"].update(strategy=node),
    "its profiler": lambda config, node: config["trainer"].update(
        profiler={"_target_": "pytorch_lightning.profilers.SimpleProfiler", "dirpath": "/tmp", "filename": "x"}
    ),
    "a callback": lambda config, node: config["callbacks"].update(x=node),
    "Lightning's checkpoints": lambda config, node: config["callbacks"].update(
        x={"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": "/tmp"}
    ),
    "the logger": lambda config, node: config.update(logger=node),
    "a transform for a data set": lambda config, node: config["data"].update(_target_="laminar.flows.flow.Flow"),
    "a flow that is none": lambda config, node: config["flow"].update(_target_="laminar.flows.prior.gaussian.Gaussian"),
    "a callback that is none": lambda config, node: config["callbacks"].update(
        x={"_target_": "laminar.training.callbacks.throughput.defaultdict"}
    ),
}


@pytest.mark.parametrize("place", IN_A_FLOW)
def test_a_checkpoint_runs_nothing(stranger, tmp_path, place):
    folder, marker = stranger(lambda config: IN_A_FLOW[place](config, shell(tmp_path / "marker"))), tmp_path / "marker"
    for run_it in (lambda: load(folder), lambda: resume(folder, ["trainer.max_steps=6"])):
        with pytest.raises(Refused) as no:
            run_it()
        assert "\n" not in str(no.value) and len(str(no.value)) < 500
    assert not marker.exists()


@pytest.mark.parametrize("place", IN_A_RUN)
def test_a_run_folder_runs_nothing(stranger, tmp_path, place):
    folder, marker = stranger(lambda config: IN_A_RUN[place](config, shell(tmp_path / "marker"))), tmp_path / "marker"
    with pytest.raises(Refused) as no:
        resume(folder, ["trainer.max_steps=6"])
    assert "\n" not in str(no.value) and len(str(no.value)) < 500
    assert not marker.exists() and not list(Path("/tmp").glob("fit-x*"))


@pytest.mark.parametrize("name", ["sample", "evaluate", "train"])
def test_the_commands_say_it_in_one_sentence(stranger, tmp_path, monkeypatch, capsys, name):
    folder = stranger(lambda config: config["flow"].update(prior=shell(tmp_path / "marker")))
    door, word = {"sample": (sample, "run"), "evaluate": (evaluate, "run"), "train": (train, "resume")}[name]
    budget = ["trainer.max_steps=6"] if name == "train" else []
    monkeypatch.setattr(sys, "argv", [f"laminar-{name}", f"{word}={folder}", *budget])
    with pytest.raises(SystemExit) as left:
        door.main()
    lines = capsys.readouterr().err.strip().splitlines()
    assert left.value.code == 2 and len(lines) == 1 and "is outside the packages that flow may be built from" in lines[0]
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "flow: !!python/object/apply:subprocess.check_output [['touch', '{marker}']]",
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)),
        "a: &a [*a]",
        "- a list",
        "seed: 0",
        "{{",
        "seed: 2001-01-01",
        "",
        "\0",
    ],
    ids=range(10),
)
def test_a_config_that_is_none(trained, tmp_path, text):
    folder = copytree(trained, tmp_path / "run")
    (folder / "config.yaml").write_text(text.replace("{marker}", str(tmp_path / "marker")))
    with pytest.raises(Refused) as no:
        resume(folder, ["trainer.max_steps=6"])
    assert "config.yaml" in str(no.value) and not (tmp_path / "marker").exists()


def test_what_a_folder_says_of_hydra_is_not_read(trained, tmp_path):
    folder = copytree(trained, tmp_path / "run")
    (folder / ".hydra").mkdir(exist_ok=True)
    for name in ("config", "hydra", "overrides"):
        (folder / ".hydra" / f"{name}.yaml").write_text(f"!!python/object/apply:os.system ['touch {tmp_path}/marker']")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["hydra"] = {"callbacks": {"x": shell(tmp_path / "marker")}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    resume(folder, ["trainer.max_steps=6"])
    assert not (tmp_path / "marker").exists()


# -- where a checkpoint would like to write, or to fetch from ----------------------------------------------------------


def test_paths_of_a_run_folder_do_not_lead_out_of_it(stranger, tmp_path):
    def elsewhere(config):
        config["trainer"].update(default_root_dir=str(tmp_path / "root"))
        config["logger"].update(run_dir=str(tmp_path / "logger"))

    folder = stranger(elsewhere)
    resume(folder, ["trainer.max_steps=6"])
    assert not (tmp_path / "root").exists() and not (tmp_path / "logger").exists()
    assert read(folder / "checkpoints" / "last.ckpt")["global_step"] == 6


def test_our_profiler_writes_into_the_run_folder(tmp_path):
    run(prepared(tmp_path / "run", "debug=profiler", "trainer.max_steps=2", "trainer.val_check_interval=2"), tmp_path / "run")
    assert "run_training_batch" in (tmp_path / "run" / "fit-profile.txt").read_text()
    with pytest.raises(Refused, match="cannot be built from these options"):
        build({"_target_": "laminar.training.profiler.Profiler", "dirpath": str(tmp_path)}, "trainer", kind=SimpleProfiler)


def test_a_source_that_a_checkpoint_names_neither_fetches_nor_writes(monkeypatch):
    from torchvision import datasets

    asked = []
    monkeypatch.setattr(datasets, "MNIST", lambda root, download, train: asked.append(download) or 1 / 0)
    page = {"_target_": "laminar.data.torchvision_set.TorchvisionSet", "dataset": "MNIST", "root": "x", "batch_size": 8}
    with pytest.raises(Refused, match=r"cannot be read from data\.root=x "):
        _ = opening.open_data({"data": {**page, "download": True}, "seed": 0}).splits
    assert asked == [False]
    assert opening.still({"cache": "/elsewhere", "x": 1}) == {"cache": None, "x": 1}


def test_arrays_of_objects_are_not_unpickled(stranger, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/marker",)

    np.savez(tmp_path / "bomb.npz", train=np.array([Bomb()], dtype=object))
    page = {"_target_": "laminar.data.npz.Npz", "path": str(tmp_path / "bomb.npz"), "batch_size": 8}
    with pytest.raises(Refused):
        _ = opening.open_data({"data": page, "seed": 0}).splits
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "/dev/zero", "/proc/self/environ", "/"])
def test_a_checkpoint_that_names_a_file_of_the_machine(path):
    for target, more in (("npz.Npz", {}), ("table.Table", {"separator": ","})):
        page = {"_target_": f"laminar.data.{target}", "path": path, "batch_size": 8, **more}
        with pytest.raises(Refused) as no:
            _ = opening.open_data({"data": page, "seed": 0}).splits
        assert "root:x" not in str(no.value)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "checkpoints", "train.log", "samples/deep/x.png"])
def test_a_run_does_not_go_on_through_links(trained, tmp_path, name):
    folder, outside = copytree(trained, tmp_path / "run"), tmp_path / "outside"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.rename(outside) if path.exists() else outside.write_text("mine")
    path.symlink_to(outside)
    before = {file: file.read_bytes() for file in [outside, *outside.rglob("*")] if file.is_file()}
    with pytest.raises(Refused, match="is a link, and a run's files are written into its own folder"):
        resume(folder, ["trainer.max_steps=6"])
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize(("door", "name"), [(sample, "samples"), (evaluate, "evaluations")])
def test_nothing_is_written_through_a_linked_folder(trained, tmp_path, monkeypatch, capsys, door, name):
    folder = copytree(trained, tmp_path / "run")
    (tmp_path / "outside").mkdir()
    (folder / name).symlink_to(tmp_path / "outside")
    monkeypatch.setattr(sys, "argv", ["x", f"run={folder}"])
    with pytest.raises(SystemExit):
        door.main()
    assert "is a link" in capsys.readouterr().err and not list((tmp_path / "outside").iterdir())


def test_a_part_or_a_target_that_is_a_link_is_replaced(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "last.ckpt"
    victim.write_text("mine")
    for link in (tmp_path / "last.ckpt.part", path):
        path.unlink(missing_ok=True)
        link.symlink_to(victim)
        write_text(path, "new")
        assert victim.read_text() == "mine" and path.read_text() == "new" and not path.is_symlink()
    with pytest.raises(KeyboardInterrupt), whole(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "new" and {*tmp_path.iterdir()} == {victim, path}


def test_a_further_rank_does_not_import_from_the_working_directory(monkeypatch):
    monkeypatch.setattr(sys, "path", ["/somewhere/else"])
    assert command(("laminar.runs.worker", "folder", "mylaws"))[1:] == ["-P", "-m", "laminar.runs.worker", "folder", "mylaws"]
    monkeypatch.setattr(sys, "path", [os.getcwd()])
    assert command(("laminar.runs.worker", "folder"))[1:] == ["-m", "laminar.runs.worker", "folder"]


@pytest.mark.slow
def test_a_module_in_the_working_directory_is_no_part_of_a_rank(tmp_path):
    """``python -m`` puts the working directory first on the path: a run folder that holds torch.py would be imported from."""
    folder = tmp_path / "run"
    prepared(folder, "trainer=cpu_ddp", "trainer.max_steps=2", "trainer.val_check_interval=2", "test=false")
    for name in ("torch", "typing", "omegaconf"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n")
    start = "from laminar.runs.folder import read_config; from laminar.runs.start import attempt; from pathlib import Path\n"
    start = "import sys; sys.path.remove('')\n" + start + "attempt(read_config(Path('.')), Path('.'), [])"
    done = subprocess.run([sys.executable, "-c", start], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "marker").exists() and (folder / "metrics.json").exists()


def test_a_file_does_not_steer_the_terminal(capsys):
    say(Refused("a name \x1b]0;owned\x07 and \ud800 of a file"))
    assert capsys.readouterr().err == "laminar: a name \\x1b]0;owned\\x07 and \\ud800 of a file\n"


# -- pages of a stranger's --config-dir --------------------------------------------------------------------------------

PAGES = {
    "a callback": "hydra: {callbacks: {x: {_target_: TARGET, command: touch MARKER}}}",
    "a launcher": "hydra: {launcher: {_target_: TARGET, command: touch MARKER}}",
    "a sweeper": "hydra: {mode: MULTIRUN, sweeper: {_target_: TARGET, command: touch MARKER}}",
    "a log's factory": "hydra: {job_logging: {version: 1, handlers: {x: {(): subprocess.Popen, args: [touch, MARKER]}}}}",
    "Hydra's own log": "hydra: {hydra_logging: {version: 1, formatters: {x: {(): os.system, command: touch MARKER}}}}",
    "an external object": "hydra: {job_logging: {version: 1, handlers: {x: {class: logging.StreamHandler, stream: ext://os.system}}}}",
    "the jobs' environment": "hydra: {job: {env_set: {PATH: MARKER}}}",
    "a folder of pages": "hydra: {searchpath: [file:///tmp]}",
    "words of a sweep": 'hydra: {mode: MULTIRUN, sweeper: {params: {"+hydra.job_logging.version": "1"}}}',
    "trust by a sweep": "hydra: {mode: MULTIRUN, sweeper: {params: {allow: '[os]'}}}",
    "another's space": "hydra: {sweeper: {custom_search_space: os.system}}",
    "trust": "allow: [os]\nflow: {prior: {_target_: os.system, command: touch MARKER}}",
    "a page built from text": "flow: {prior: \"${oc.create:'{_target_: os.system, command: touch MARKER}'}\"}",
    "text that is decoded": "flow: {prior: \"${oc.decode:'{_target_: os.system, command: touch MARKER}'}\"}",
    "a tag": "flow: !!python/object/apply:os.system ['touch MARKER']",
}  # fmt: skip


@pytest.fixture
def pages(tmp_path, monkeypatch, capsys):
    """``pages(text, *words)``: what laminar-train says of a page in somebody's folder, and with which status it ends."""
    marker = tmp_path / "marker"
    (tmp_path / "pages" / "evil").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")

    def call(text: str, *words: str, header: str = "# @package _global_\n") -> tuple[int, str]:
        text = text.replace("TARGET", SHELL).replace("MARKER", str(marker))
        (tmp_path / "pages" / "evil" / "page.yaml").write_text(header + text)
        small = ("flow=realnvp_flat", "size.width=8", "size.steps=2", "logger=null", "trainer.max_steps=1", "test=false")
        monkeypatch.setattr(sys, "argv", ["laminar-train", "--config-dir", str(tmp_path / "pages"), *small, *words])
        with pytest.raises(SystemExit) as left:
            train.main()
        assert not marker.exists()
        return left.value.code, capsys.readouterr().err.strip()

    return call


@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs_nothing(pages, name):
    status, said = pages(PAGES[name], "+evil=page")
    assert status == 2 and len(said.splitlines()) == 1 and said.startswith("laminar: ")


def test_a_page_is_judged_where_it_is_put(pages):
    status, said = pages("{version: 1, root: {level: INFO}}", "+evil@hydra.job_logging=page", header="")
    assert status == 2 and "sets hydra.job_logging.version" in said
    status, said = pages("{x: {_target_: TARGET}}", "+evil@hydra.callbacks=page", header="")
    assert status == 2 and "sets hydra.callbacks.x._target_" in said


def test_a_page_of_one_job_is_judged_as_well(pages, tmp_path):
    status, said = pages(PAGES["a log's factory"], "hydra.mode=MULTIRUN", "+evil=page")
    assert status == 2 and "sets hydra.job_logging" in said


def test_a_page_may_say_where_runs_lie_and_what_is_swept(pages, tmp_path):
    text = "hydra: {mode: MULTIRUN, sweep: {dir: ../swept}, sweeper: {params: {seed: '3,4', data.batch_size: '0'}}}"
    status, said = pages(text, "+evil=page")
    assert status == 1 and "data.batch_size=0 is not what" in said  # both jobs began, and were refused by our own code
    assert {path.name for path in (tmp_path / "swept").iterdir()} >= {"0", "1", "table.csv"}


def test_a_pickled_job_is_not_run_again(monkeypatch, capsys, tmp_path):
    for flag in ("--experimental-rerun=job.pickle", "--exp=job.pickle"):
        monkeypatch.setattr(sys, "argv", ["laminar-train", flag])
        with pytest.raises(SystemExit) as left:
            train.main()
        assert left.value.code == 2 and "loads a pickle" in capsys.readouterr().err
