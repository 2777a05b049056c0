"""Sweeps: the table's order, means over seeds, the best and its command; what failed is last; the picture shows every score."""

import csv
import json
import pickle
import shlex

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image

from laminar.pictures.figure import figure
from laminar.pictures.knobs import Entry, knobs
from laminar.runs import sweep
from laminar.runs.jobs import read, settings
from laminar.runs.standings import markdown, show, standings
from laminar.runs.words import told


def job(folder, words: list[str], numbers: dict | None = None, failure: str = "", config: str = "", source: str = "Digits"):
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    (folder / "config.yaml").write_text(config or "optimized_metric: null\n")
    (folder / "environment.json").write_text(json.dumps({"split": {"source": source}}))
    if numbers is not None:
        (folder / "metrics.json").write_text(json.dumps({"grade": "exact", "num_samples": 1, "parameters": 1200, **numbers}))
    if failure:
        (folder / "failure.txt").write_text(failure + "\n")


def scores(val: float, test: float = 0.0, unit: str = "bpd", seconds: float = 30.0) -> dict:
    return {f"val/{unit}": val, f"val/{unit}_se": 0.01, f"test/{unit}": test, f"test/{unit}_se": 0.02, "seconds": seconds}


@pytest.fixture
def swept(tmp_path):
    """Two laws under three seeds; one job of the better law failed."""
    for number, (law, seed, val) in enumerate(
        [("additive", 0, 3.0), ("additive", 1, 3.2), ("additive", 2, 3.1), ("affine", 0, 2.5), ("affine", 1, 2.7)]
    ):
        job(tmp_path / str(number), ["flow=nice", f"coupling={law}", f"seed={seed}"], scores(val, val + 1))
    job(tmp_path / "5", ["flow=nice", "coupling=affine", "seed=2"], failure="Refused: seed=2 | is <unlucky>")
    return tmp_path


def test_the_best_comes_first_with_means_over_seeds_and_the_failed_last(swept):
    rows, remarks, commands = standings(read(swept))
    assert [row.cells["job"] for row in rows] == ["mean of 2, best", "3", "4", "mean of 3", "0", "2", "1", "5"]
    assert [row.best for row in rows] == [True, *[False] * 7] and [row.failed for row in rows] == [*[False] * 7, True]
    assert list(rows[0].cells) == [
        *("job", "coupling", "seed", "val bits/dim", "test bits/dim", "parameters", "time", "failure")
    ]
    assert rows[0].cells["val bits/dim"] == "2.6000 ± 0.1000"  # half the distance of two values
    assert rows[3].cells["val bits/dim"] == f"3.1000 ± {np.std([3.0, 3.2, 3.1], ddof=1) / 3**0.5:.4f}"
    assert rows[1].cells["val bits/dim"] == "2.5000 ± 0.0100" and rows[1].cells["seed"] == "0"
    assert rows[-1].cells["failure"] == "Refused: seed=2 | is <unlucky>" and rows[0].cells["parameters"] == "1,200"
    assert commands == [["laminar-train", "-m", "flow=nice", "coupling=affine", "seed=0,1"]]
    assert remarks == ["± is the standard error over examples, of a mean over seeds"]


def test_the_tables_are_files_and_what_a_terminal_shows(swept, capsys):
    jobs = sweep.write(swept)
    lines = (swept / "table.md").read_text().splitlines()
    assert lines[1] == "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    assert lines[2].startswith("| **mean of 2, best** | **affine** |  | **2.6000 ± 0.1000** |")
    assert "Refused: seed=2 \\| is &lt;unlucky>" in lines[9] and all(line.count(" | ") == 7 for line in lines[2:10])
    assert "laminar-train -m flow=nice coupling=affine seed=0,1" in lines
    rows = list(csv.DictReader((swept / "table.csv").open()))
    assert [row["job"] for row in rows] == list("012345") and rows[4]["val/bpd"] == "2.7" and rows[5]["val/bpd"] == ""
    assert rows[5]["status"].startswith("failed: Refused: seed=2")
    show(*standings(jobs), swept)
    told = capsys.readouterr().out
    assert "best: laminar-train -m flow=nice" in told and "is <unlucky>" in told


def test_words_of_a_job_are_shown_as_they_are(tmp_path, capsys):
    """Rich would read [red] as a colour; a shell, what is not quoted."""
    job(tmp_path / "0", ["callbacks=[red,ema]", "tags=[a b]"], scores(1.0))
    job(tmp_path / "1", ["callbacks=[red]", "~norm"], scores(2.0))
    found = standings(read(tmp_path))
    show(*found, tmp_path)
    assert "[red,ema]" in capsys.readouterr().out
    (words,) = found[2]
    assert shlex.split(shlex.join(words)) == ["laminar-train", "callbacks=[red,ema]", "tags=[a b]"]


def test_only_scores_of_the_same_kind_on_the_same_data_compete(tmp_path):
    for number, (data, law, val) in enumerate(
        [("moons", "a", 1.0), ("digits", "a", 2.0), ("moons", "b", 0.9), ("digits", "b", 2.5)]
    ):
        unit = "nll" if data == "moons" else "bpd"
        job(tmp_path / str(number), [f"data={data}", f"coupling={law}"], scores(val, unit=unit), source=data)
    rows, _, commands = standings(read(tmp_path))
    assert [row.cells["job"] for row in rows] == ["2, best", "0", "1, best", "3"]
    assert [words[1:] for words in commands] == [["data=moons", "coupling=b"], ["data=digits", "coupling=a"]]
    sweep.draw(read(tmp_path), tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"table-moons_nll.png", "table-digits_bpd.png"}


def test_tables_of_ones_own_do_not_compete(tmp_path):
    for number, path in enumerate(["a.csv", "b.csv"]):
        job(tmp_path / str(number), ["data=table", f"data.path=/x/{path}"], scores(1.0 + number, unit="nll"), source="Table")
    rows, _, commands = standings(read(tmp_path))
    assert not commands and not any(row.best for row in rows)


def test_a_sweep_is_sorted_by_what_it_minimises(tmp_path):
    for number, (val, test) in enumerate([(1.0, 4.0), (2.0, 3.0)]):
        job(tmp_path / str(number), [f"size.width={number}"], scores(val, test), config="optimized_metric: test/bpd\n")
    assert [found.jobs[0].name for found in settings(read(tmp_path))] == ["1", "0"]


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
    for number, val in enumerate([float("nan"), 2.0, float("inf")]):
        job(tmp_path / str(number), [f"size.width={number}"], scores(val))
    rows, _, ((*_, word),) = standings(read(tmp_path))
    assert rows[0].cells["job"] == "1, best" and word == "size.width=1"


def test_a_table_says_what_its_errors_are_over(tmp_path):
    for number in range(2):
        job(tmp_path / str(number), [f"layer={number}"], scores(1.0) | {"groups": 100})
    assert standings(read(tmp_path))[1] == ["± is the standard error over groups of rows"]


def test_a_table_says_how_its_scores_are_graded(tmp_path):
    for number, grade in enumerate(["bound", "exact"]):
        job(tmp_path / str(number), [f"layer={number}"], {**scores(1.0), "grade": grade})
    rows, remarks, _ = standings(read(tmp_path))
    assert [row.cells["grade"] for row in rows] == ["bound", "exact"]
    (tmp_path / "1" / "metrics.json").unlink()
    rows, remarks, _ = standings(read(tmp_path))
    assert "grade" not in rows[0].cells and "scores are graded bound, K = 1" in remarks
    assert markdown(rows, remarks, []).count("no result") == 1


def test_a_launcher_may_send_the_table_to_its_processes(tmp_path):
    page = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path / "sweep")}, "overrides": {"hydra": [], "task": []}}})
    table = sweep.SweepTable()
    table.on_multirun_start(page)
    sent = pickle.loads(pickle.dumps(table))
    assert table.folder == tmp_path / "sweep" and sent.folder is None and sent.owned is None


def drawn(monkeypatch, tmp_path, entries, names):
    """The panels of the picture, as they stand when it is saved."""
    kept = []

    def keep(*args, **kwargs):
        class Block:
            def __enter__(self):
                self.figure = figure(*args, **kwargs)
                kept.extend(self.figure.__enter__())
                return kept

            def __exit__(self, *error):
                return self.figure.__exit__(*error)

        return Block()

    monkeypatch.setattr("laminar.pictures.knobs.figure", keep)
    knobs(entries, names, "val bits/dim", tmp_path / "table.png")
    assert min(Image.open(tmp_path / "table.png").size) > 300
    return kept


def points(axes) -> list[tuple[float, float]]:
    return [(x, y) for line in axes.lines if line.get_marker() == "o" for x, y in zip(*line.get_data(), strict=True)]


def test_every_seed_is_a_point_and_rates_stand_on_an_axis_of_decades(monkeypatch, tmp_path):
    entries = [Entry({"optimizer.lr": rate}, [k + 2.0, k + 2.1]) for k, rate in enumerate(["1e-4", "0.001", "1e-2"])]
    (axes,) = drawn(monkeypatch, tmp_path, entries, ["optimizer.lr"])
    assert sorted({round(x, 6) for x, _ in points(axes)}) == [-4, -3, -2] and len(points(axes)) == 6
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.0001", "0.001", "0.01"]
    (means,) = axes.containers
    assert list(means[0].get_ydata()) == pytest.approx([2.05, 3.05, 4.05])


def test_words_stand_beside_each_other_and_a_second_knob_has_colours(monkeypatch, tmp_path):
    entries = [Entry({"a": law, "b": str(b)}, [1.0 + b]) for law in ("affine", "additive") for b in (1, 2)]
    panels = drawn(monkeypatch, tmp_path, entries, ["a", "b"])
    assert [text.get_text() for text in panels[0].get_xticklabels()] == ["additive", "affine"]
    assert [text.get_text() for text in panels[0].get_legend().get_texts()] == ["1", "2"]
    assert [axes.get_xlabel() for axes in panels] == ["a", "b"] and all(len(points(axes)) == 4 for axes in panels)


def test_a_score_that_dwarfs_the_others_does_not_flatten_them(monkeypatch, tmp_path):
    entries = [Entry({"a": str(k)}, [2.0 + k / 10 if k < 5 else 1e6]) for k in range(6)]
    (axes,) = drawn(monkeypatch, tmp_path, entries, ["a"])
    assert axes.get_ylim()[1] < 10 and "1e+06" in [text.get_text() for text in axes.texts]


def test_a_run_knows_its_choices():
    """Hydra's, without its own groups; what the run added to its command line counts."""
    choices = {"flow": "realnvp", "data": "table", "experiment": None, "hydra/launcher": "basic"}
    found = told({"name": "default"}, choices, ["data=table", "flow=table", "+size.width=8", "tags=[a]", "hydra.run.dir=x"])
    assert found["choices"] == {"flow": "table", "data": "table"} and found["options"] == {"size.width": 8}
    assert found["title"] == "data=table flow=table +size.width=8"
    assert told({"name": "mine"}, {**choices, "experiment": "nice"}, ["experiment=nice"])["title"] == "mine nice"
    assert told({"name": "nice"}, {**choices, "experiment": "nice"}, ["experiment=nice", "seed=1"])["title"] == "nice seed=1"
    assert told({"name": "default"}, choices, [])["title"] == "realnvp on table"
    assert told({"name": "default"}, choices, ["seed=1", "data=table"], own="seed=1")["title"] == "seed=1"
