"""Loggers: one run folder, one run, one exit code; nobody is ever asked anything."""

import json
import os
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import pytest

from laminar.config.checkout import commit, diff
from laminar.refused import Refused
from laminar.training.logger.csv import CSV, read
from laminar.training.logger.open import log_picture, open_loggers, summarise
from laminar.training.logger.wandb import mode

WANDB = {"_target_": "laminar.training.logger.wandb.WandB", "project": "tests"}


@pytest.fixture(autouse=True)
def no_login(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_csv_grows_columns_and_keeps_rows(tmp_path):
    logger = CSV(tmp_path)
    logger.log_metrics({"train/bpd": 3.0}, 0)
    logger.log_metrics({"train/bpd": 2.5, "epoch": 0}, 1)
    logger.log_metrics({"val/bpd": 2.75}, 1)
    rows = read(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == ["0", "1", "1"]
    assert [row["val/bpd"] for row in rows] == ["", "", "2.75"]
    assert rows[1]["train/bpd"] == "2.5" and rows[1]["epoch"] == "0.0"


def test_csv_of_a_resumed_run_replaces_what_the_killed_run_wrote_after_its_checkpoint(tmp_path):
    first = CSV(tmp_path)
    for step in range(5):
        first.log_metrics({"train/bpd": 9.0}, step)
    second = CSV(tmp_path)
    second.log_metrics({"train/bpd": 1.0}, 3)
    assert [(row["step"], row["train/bpd"]) for row in read(tmp_path / "metrics.csv")] == [
        ("0", "9.0"), ("1", "9.0"), ("2", "9.0"), ("3", "1.0"),
    ]  # fmt: skip


def test_no_loggers(tmp_path):
    with open_loggers({"logger": None}, tmp_path) as loggers:
        assert loggers == []
    assert not any(tmp_path.iterdir())


def test_mode_is_offline_without_a_login(monkeypatch, tmp_path):
    assert mode() == "offline"
    Path(tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0\n")
    assert mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode() == "disabled"


def test_a_disabled_one_trains_in_a_changed_checkout(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("laminar.training.logger.wandb.diff", lambda: "a change")
    with open_loggers({"logger": {**WANDB, "save_code": True}}, tmp_path) as loggers:
        loggers[0].log_metrics({"val/bpd": 1.0}, 0)
        summarise(loggers, {"test/bpd": 1.0}, [("test bits/dim", "1.0", "exact")])
    assert not list(tmp_path.rglob("diff.patch"))


def test_online_without_a_login_is_refused_rather_than_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(Refused, match="needs a login"), open_loggers({"logger": WANDB}, tmp_path):
        pass
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(Refused, match=r"logger\.offline=false needs a login"):
        mode(offline=False)
    assert mode(offline=True) == "offline"
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(Refused, match="none of online, offline"):
        mode()


def records(file: Path):
    """The records of a .wandb file, as far as it is written: LevelDB's log format, 7 bytes of header, then blocks of 32 KiB."""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            try:
                yield Record.FromString(whole)
            except DecodeError:
                return
            whole = b""


def offline_runs(folder: Path, patience: float = 30.0) -> list[dict]:
    """What each offline run under a folder has stored; wandb's own process may still write for a moment after the end."""
    until = monotonic() + patience
    runs = stored(folder)
    while any("exit_code" not in run for run in runs) and monotonic() < until:
        sleep(0.2)
        runs = stored(folder)
    return runs


def stored(folder: Path) -> list[dict]:
    runs = []
    for file in sorted(folder.rglob("*.wandb")):
        run = {"config": {}, "summary": {}, "logged": {}, "minima": set(), "files": set(), "artifacts": set()}
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run |= {"id": record.run.run_id, "name": record.run.display_name, "group": record.run.run_group}
                run |= {"tags": [*record.run.tags], "commit": record.run.git.commit, "project": record.run.project}
                run["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "config":
                run["config"] |= {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.config.update}
            elif kind == "summary":
                run["summary"] |= {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.summary.update}
            elif kind == "history":
                values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                run["logged"] |= {key: value for key, value in values.items() if "image" in value or "table" in value}
            elif kind == "metric" and record.metric.summary.min:
                run["minima"].add(record.metric.name)
            elif kind == "files":
                run["files"] |= {file.path for file in record.files.files}
            elif kind == "artifact" or (kind == "request" and record.request.HasField("log_artifact")):
                run["artifacts"].add((record.artifact if kind == "artifact" else record.request.log_artifact.artifact).name)
            elif kind == "exit":
                run["exit_code"] = record.exit.exit_code
        runs.append(run)
    return runs


def test_wandb_offline_one_run_a_folder_and_its_exit_code(tmp_path, capfd):
    """Two runs in a row, then a third that fails, then its resumption: real wandb, offline."""
    from PIL import Image

    Image.new("L", (4, 4)).save(tmp_path / "picture.png")

    page = {**WANDB, "name": None, "group": None, "tags": ["tried", "twice"], "save_code": True}
    said = {"title": "coupling=affine seed=3", "sweep": "mine", "choices": {"coupling": "affine", "data": "digits"}}
    numbers = {"test/bpd": 1.5, "grade": "bound", "baselines/histogram": 2.5, "published": 3.49}

    def job(name: str, fails: bool = False):
        config = {"logger": page, "seed": 3, "flow": {"parts": ["a", "b"]}, **said}
        with open_loggers(config, tmp_path / name) as loggers:
            for step, value in enumerate((3.0, 1.0, 2.0)):
                for logger in loggers:
                    logger.log_metrics({"val/bpd": value}, step)
            if fails:
                raise FloatingPointError("the loss is not finite")
            log_picture(loggers, "samples", tmp_path / "picture.png", 2)
            summarise(loggers, numbers, [("test bits/dim", "1.5 ± 0.1", "bound")])

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        job(name)
    (tmp_path / "three").mkdir()
    with pytest.raises(FloatingPointError):
        job("three", fails=True)
    (one,), (two,), (three,) = (offline_runs(tmp_path / name) for name in ("one", "two", "three"))
    assert len({one["id"], two["id"], three["id"]}) == 3
    assert (one["exit_code"], two["exit_code"], three["exit_code"]) == (0, 0, 1)
    assert numbers.items() <= one["summary"].items()
    assert one["config"]["flow"] == {"parts": ["a", "b"]} and one["config"]["seed"] == 3
    assert one["config"]["choices"] == said["choices"]
    assert (one["name"], one["group"], one["tags"]) == ("coupling=affine seed=3", "mine", ["tried", "twice"])
    assert one["commit"] == (commit() or "").rstrip("+") and ("diff.patch" in one["files"]) == bool(diff())
    assert {"source-tests", "pages-tests"} <= one["artifacts"]
    assert "samples/filenames" in one["logged"] and {"val/bpd", "val/nll"} <= one["minima"]
    assert any(name.startswith("final") for name in one["logged"])

    job("three")
    assert {run["id"] for run in offline_runs(tmp_path / "three")} == {three["id"]}
    assert len(read(tmp_path / "three" / "metrics.csv")) == 3

    assert "WANDB_MODE" not in os.environ
    out, err = capfd.readouterr()
    assert out.count("wandb sync") == 4 and len(out.strip().splitlines()) == 4
    assert not err


@pytest.mark.slow
def test_a_server_that_does_not_answer_turns_the_run_offline(tmp_path):
    code = (
        "import sys, laminar.training.logger.wandb as w; w.CONNECTION_SECONDS = 3\n"
        "from laminar.training.logger.open import open_loggers\n"
        f"with open_loggers({{'logger': {WANDB!r}}}, {str(tmp_path)!r}) as loggers:\n"
        "    print(loggers[1].mode)\n"
    )
    env = {**os.environ, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "offline" in done.stdout and "wandb sync" in done.stdout


def test_tensorboard_or_a_sentence(tmp_path):
    told = {"choices": {"coupling": "affine"}, "options": {"size.width": 8}, "seed": 1}
    config = {"logger": {"_target_": "laminar.training.logger.tensorboard.TensorBoard"}, **told}
    if not (find_spec("tensorboard") or find_spec("tensorboardX")):
        with pytest.raises(Refused, match="pip install tensorboard"), open_loggers(config, tmp_path):
            pass
        return
    with open_loggers(config, tmp_path) as loggers:
        for logger in loggers:
            logger.log_metrics({"val/bpd": 2.0}, 1)
        summarise(loggers, {"test/bpd": 2.0})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert set(HParamsPluginData.FromString(content).session_start_info.hparams) == {"coupling", "size.width", "seed"}
