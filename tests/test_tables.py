"""Tables: what is read is what stands in the file, one honest number for mixed columns, and a sentence for what has none."""

import gzip
import json
import os
import sys
from functools import partial
from math import log
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from scipy.stats import kstest
from sklearn.mixture import GaussianMixture

from laminar.commands import train
from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.data.baselines import mean_and_error
from laminar.data.bsds300 import BSDS300
from laminar.data.datamodule import FlowDataModule
from laminar.data.files import open_table
from laminar.data.simulator import TwoMoonsSimulator, centre
from laminar.data.source import Split, Splits
from laminar.data.table import Table
from laminar.data.table_baselines import kernel_estimate, table_baselines
from laminar.data.uci import Gas, Hepmass, Miniboone, Power
from laminar.flows.compose.chain import Chain
from laminar.flows.context.columns import Columns
from laminar.flows.dequantization.declared import declared
from laminar.flows.dequantization.none import Reals
from laminar.flows.dequantization.uniform import Uniform
from laminar.flows.flow import Flow
from laminar.flows.initialise import initialising
from laminar.flows.mix.triangular import Triangular
from laminar.flows.preprocessing.standardise import Standardise
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.space import Space
from laminar.pictures.calibration import calibration, ranks
from laminar.pictures.pairs import marginals, pairs
from laminar.refused import Refused
from laminar.runs import evaluate, sample
from laminar.runs.against import check
from laminar.runs.folder import read_config
from laminar.runs.prepare import initialise
from laminar.runs.run import run
from laminar.runs.untuned import untold, words_for
from laminar.training.metric import MeanScore

ROWS = 400


def frame(rows: int = ROWS) -> pandas.DataFrame:
    rng = np.random.default_rng(0)
    length, kind = rng.normal(100, 20, rows), rng.integers(0, 3, rows)
    columns = {"length": length, "weight": 0.5 * length + rng.normal(size=rows), "rate": rng.gamma(2, 1e-3, rows)}
    columns |= {"width": np.round(rng.normal(size=rows), 1), "kind": kind, "colour": np.array(["red", "blue", "grey"])[kind]}
    return pandas.DataFrame(columns | {"patient": np.arange(rows) // 8, "part": np.array(["train", "val", "test"])[kind]})


def written(folder, table: pandas.DataFrame, suffix: str = ".csv") -> str:
    path = folder / f"table{suffix}"
    if suffix == ".npy":
        np.save(path, table.to_numpy(dtype=np.float64))
    elif suffix == ".parquet":
        pytest.importorskip("pyarrow")
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return str(path)


REAL = ["length", "weight", "rate"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_a_file_is_read_as_it_stands(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("laminar.data.files.VALUES", 100)  # many pieces
    table = frame()[REAL]
    source = Table(path=written(tmp_path, table, suffix), batch_size=8)
    splits = source.load(seed=3)
    assert [len(split) for split in splits] == [324, 36, 40]
    for split in splits:
        torch.testing.assert_close(split.values, torch.tensor(table.to_numpy(np.float32))[split.ids], rtol=1e-6, atol=0)
    assert torch.equal(torch.cat([split.ids for split in splits]).sort().values, torch.arange(ROWS))
    assert source.columns == (["x0", "x1", "x2"] if suffix == ".npy" else REAL)
    other = Table(path=source.path, batch_size=8).load(seed=4)
    assert torch.equal(other.test.ids, splits.test.ids) and not torch.equal(other.val.ids, splits.val.ids)


def test_the_training_rows_stand_in_the_tables_own_memory(tmp_path):
    splits = Table(path=written(tmp_path, frame()[REAL]), batch_size=8).load(0)
    assert splits.train.values.untyped_storage().nbytes() == ROWS * 3 * 4


def test_declared_columns_become_integers_rounded_reals_and_codes(tmp_path):
    table = frame()
    declared = {"levels": ["kind"], "resolution": {"width": 0.1}, "categories": ["colour"]}
    source = Table(path=written(tmp_path, table), columns=["width", "kind", "colour", "rate"], batch_size=8, **declared)
    data = FlowDataModule(source)
    assert data.space == Space((4,), levels=(None, 3, 3, None), rounded=(0.1, None, None, None))
    assert source.found() == {"columns": ["width", "kind", "colour", "rate"], "codes": {"colour": ["blue", "grey", "red"]}}
    train = data.splits.train
    names = np.array(["blue", "grey", "red"])[train.values[:, 2].long()]
    assert (names == table["colour"].to_numpy()[train.ids]).all()
    assert source.base == "density per unit of width (rounded to 0.1), rate, probability of kind, colour"
    with pytest.raises(Refused, match="column colour holds 'red', none of this run's categories: blue, grey"):
        Table(
            path=source.path, columns=["colour"], categories=["colour"], codes={"colour": ["blue", "grey"]}, batch_size=8
        ).load(0)


def test_context_columns_come_with_the_rows_and_groups_stay_together(tmp_path):
    table = frame()
    options = {"columns": ["length", "rate"], "context": ["weight", "colour", "kind"], "categories": ["colour"]}
    source = Table(path=written(tmp_path, table), group="patient", batch_size=8, **options)
    data = FlowDataModule(source)
    assert data.space.context == {"weight": (1,), "colour": (3,), "kind": (1,)} and data.groups == 50
    for split in data.splits:
        pairs = torch.stack([split.group, split.ids // 8]).unique(dim=1)
        assert pairs.shape[1] == len(split.group.unique()) and (split.context["colour"].sum(1) == 1).all()
        weight = torch.tensor(table["weight"].to_numpy())[split.ids].float()
        torch.testing.assert_close(split.context["weight"][:, 0], weight)
    train, val, test = (set(split.group.tolist()) for split in data.splits)
    assert not (train & val or train & test or val & test) and [len(val), len(test)] == [4, 5]  # a tenth of the groups each


def test_a_column_may_say_what_each_row_is_for(tmp_path):
    table = frame()
    splits = Table(path=written(tmp_path, table), columns=REAL, split_column="part", batch_size=8).load(0)
    for name in ("train", "val", "test"):
        assert getattr(splits, name).ids.tolist() == np.flatnonzero(table["part"] == name).tolist()


def spoilt(column: str, row: int, value) -> pandas.DataFrame:
    table = frame()[REAL].astype(object)
    table.loc[row - 1, column] = value
    return table


BAD = {
    "a missing value": (spoilt("weight", 17, None), {}, r"column weight has no \(finite\) value in row 17"),
    "infinity": (spoilt("weight", 17, np.inf), {}, r"column weight has no \(finite\) value in row 17"),
    "mixed types": (spoilt("rate", 23, "n/k"), {}, "column rate mixes types: row 23 holds 'n/k' among numbers"),
    "undeclared strings": (frame()[["rate", "colour"]], {}, r"column colour holds strings \('\w+'\): declare data.categories"),
    "a constant": (frame()[REAL].assign(flat=3.5), {}, "column flat is 3.5 in every row"),
    "an offset": (frame()[REAL].assign(time=1e9 + frame()["length"]), {}, "column time lies between .*subtract its mean"),
    "several at once": (
        frame()[["rate", "kind"]].assign(cents=frame()["length"].round(1), other=frame()["kind"]),
        {},
        r"column kind repeats itself .*and so do cents, other: .*levels=\{kind: 3, other: 3\} data.resolution=\{cents: 0.1\}",
    ),
    "undeclared integers": (frame()[["rate", "kind"]], {}, r"column kind repeats itself in 100.0%.*levels=\{kind: 3\}"),
    "undeclared rounding": (frame()[["rate", "width"]], {}, r"column width repeats.*data.resolution=\{width: 0.1\}"),
    "few ties": (
        frame()[REAL].assign(rate=frame()["rate"].where(frame()["length"] < 130, 0.0)),
        {},
        "column rate repeats.*0 st",
    ),
    "levels exceeded": (frame()[["rate", "kind"]], {"levels": {"kind": 2}}, r"column kind holds 2 in row \d+, .*0 to 1"),
    "fractions for levels": (
        frame()[["rate"]],
        {"levels": ["rate"]},
        "column rate holds .* in row 1, and data.levels are integers",
    ),
    "another rounding": (frame()[["width"]], {"resolution": {"width": 0.3}}, "column width holds .*, no multiple of"),
    "no rounding": (frame()[["width"]], {"resolution": {"width": 0}}, "is no rounding step"),
    "too few rows": (frame(20)[REAL], {}, "holds 20 rows, too few.*at least 30"),
    "no rows": (frame()[REAL][:0], {}, "holds no row"),
    "context and target": (
        frame()[REAL],
        {"columns": REAL, "context": ["rate"]},
        "column rate is in data.columns and a context",
    ),
    "two parts": (frame()[REAL], {"context": ["rate"], "group": "rate"}, "column rate has two parts"),
    "an unknown column": (frame()[REAL], {"columns": ["lenght"]}, "has no column lenght: it has length"),
    "nothing left": (frame()[REAL], {"context": REAL}, "no column is left"),
    "declared twice": (
        frame(),
        {"levels": ["kind"], "categories": ["kind"]},
        "kind is declared in data.levels and data.categories",
    ),
    "an unknown part": (
        frame(),
        {"columns": REAL, "split_column": "colour"},
        "column colour holds 'blue': data.split_column knows",
    ),
    "an unnamed index": (frame()[REAL].rename(columns={"rate": ""}), {}, "column 3 of .* has no name"),
    "a name twice": (frame()[REAL].rename(columns={"rate": "length"}), {}, "two columns named length"),
    "another separator": (frame()[REAL].rename(columns={"rate": "a;b"})[["a;b"]], {}, "is \"data.separator=';'\" meant"),
    "no levels": (frame()[["rate", "kind"]], {"levels": {"kind": 0}}, r"data.levels=\{kind: 0\} leaves nothing to tell apart"),
    "beyond float32": (frame()[REAL] * 1e300, {}, "column length holds .* in row 1, more than float32 does: scale"),
    "far from 0": (frame()[["rate"]] + 1e9, {}, "column rate lies between .* closer together than float32 tells apart"),
    "thousands": (
        frame()[REAL].assign(length=(1000 * frame()["length"]).map("{:,.3f}".format)),
        {},
        r"column length holds strings \('102,514.604'\): write numbers with a decimal point and nothing between thousands",
    ),
    "whole rows again": (pandas.concat([frame()[REAL]] * 2), {}, r"\(or drop rows, where whole ones repeat\)"),
    "a column twice": (frame()[REAL], {"columns": ["rate", "rate"]}, "data.columns names rate twice"),
    "a constant context": (frame()[REAL].assign(day=1.5), {"context": ["day"]}, "column day is 1.5 in every row, and tells"),
    "context of that name": (frame()[REAL].rename(columns={"rate": "label"}), {"context": ["label"]}, "rename the column"),
    "one group": (frame()[REAL].assign(patient=1), {"group": "patient"}, r"data.group has too few groups \(1\)"),
    "rows of no group": (
        frame()[REAL].assign(patient=frame()["patient"].where(frame()["kind"] > 0)),
        {"group": "patient"},
        r"column patient has no value in row \d",
    ),
    "one row to validate": (
        frame()[REAL].assign(part=["val", *["train"] * (ROWS - 100), *["test"] * 99]),
        {"split_column": "part"},
        "column part marks 1 rows as val: at least 2",
    ),
    "blanks between": (
        frame()[REAL].map(str).agg(" ".join, axis=1).to_frame("a b c"),
        {},
        "has one column, 'a b c': is \"data.separator=' '\" meant",
    ),
    "two separators": (frame()[REAL], {"separator": "::"}, "data.separator='::' is no single character"),
    "dates": (frame()[REAL].assign(day=pandas.Timestamp("2026-01-01")), {}, "column day holds (dates|strings)"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_has_no_honest_number_is_refused_with_a_sentence(tmp_path, case):
    table, options, sentence = BAD[case]
    with pytest.raises(Refused, match=sentence) as refusal:
        Table(path=written(tmp_path, table), batch_size=8, **options).load(0)
    assert "\n" not in str(refusal.value)


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "bare.csv").write_text("1.5,2\n3,4\n")
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "names.csv").write_text("a,b\n")
    (tmp_path / "packed.csv").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    (tmp_path / "longer.csv").write_text("a,b\n1,2,3\n")
    (tmp_path / "folder.csv").mkdir()
    np.save(tmp_path / "fields.npy", np.zeros(3, dtype=[("a", "f8"), ("b", "f8", 2)]))
    told = {"empty": "it needs a header and rows", "names": "it needs some below the header", "folder": "is a folder, a pipe"}
    told |= {"packed": "unpack it, or write it as UTF-8 text", "longer": "2 names in its header and 3 cells in row 1"}
    told = {f"{name}.csv": sentence for name, sentence in told.items()}
    cases = told | {
        "fields.npy": "records .* of one value a field",
        "bare.csv": "has no header",
        "cube.npy": "needs numbers of shape",
        "no.csv": "does not exist",
        "x.xls": "no kind",
    }
    for name, sentence in {**cases, "torn.parquet": "cannot be read as .parquet|read by pyarrow"}.items():
        with pytest.raises(Refused, match=sentence):
            open_table(tmp_path / name)


def test_a_file_that_goes_wrong_on_the_way_is_one_sentence(tmp_path):
    text = frame()[REAL].to_csv(index=False).splitlines()
    for name, line, sentence in (
        ("long", text[50] + ",7", r"cannot be read as .csv \(.*Expected 3 fields in line 51, saw 4\): repair the file"),
        ("short", "1,2", "column rate has no .* value in row 50"),
        ("odd", "1,2,\xff", "unpack it, or write it as UTF-8 text"),
    ):
        (tmp_path / f"{name}.csv").write_bytes("\n".join([*text[:50], line, *text[51:]]).encode("latin-1"))
        with pytest.raises(Refused, match=sentence) as refusal:
            Table(path=str(tmp_path / f"{name}.csv"), batch_size=8, columns=REAL[:2] if name == "long" else None).load(0)
        assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(("mark", "told"), [(";", ";"), ("\t", "\t"), ("\t", "\\t"), ("|", "|")])
def test_other_marks_between_columns_and_ends_of_lines(tmp_path, mark, told):
    table = frame()[REAL].rename(columns={"rate": "größe", "weight": "2019"})
    text = "\ufeff" + table.to_csv(index=False, sep=mark)
    splits = []
    for place, end in enumerate(("\n", "\r\n", "\r")):
        path = tmp_path / f"{place}.csv"
        path.write_bytes(text.replace("\n", end).encode())
        splits.append(Table(path=str(path), batch_size=8, separator=told, columns=["größe", 2019]).load(0).train)
    assert all(split.values.shape[1] == 2 and split.digest() == splits[0].digest() for split in splits)


def test_rows_on_both_sides_of_the_split_are_said(tmp_path):
    table = frame()[REAL]
    table = pandas.concat([table, table[:2]])  # half a percent of ties
    whole = Table(path=written(tmp_path, table), batch_size=8)
    splits = whole.load(0)
    places = [next(n for n, split in enumerate(splits) if row in split.ids) for row in (0, 1, ROWS, ROWS + 1)]
    apart = sum(first != second and 0 in (first, second) for first, second in zip(places[:2], places[2:], strict=True))
    assert len(whole.remarks) == apart and all("repeat a training row" in remark for remark in whole.remarks)


def test_a_row_on_both_sides_is_found(tmp_path):
    table = frame()[[*REAL, "part"]]
    table.loc[:1, REAL] = table.loc[390:391, REAL].to_numpy()
    table.loc[[0, 1], "part"], table.loc[[390, 391], "part"] = "train", "test"
    source = Table(path=written(tmp_path, table), split_column="part", batch_size=8)
    test = source.load(0).test
    assert list(source.remarks) == [
        f"2 of the {len(test)} test rows repeat a training row in every column: their score is too good"
    ]


# -- numbers -----------------------------------------------------------------------------------------------------------


def gaussian(space: Space, rows: torch.Tensor, *parts) -> Flow:
    """A Gaussian fitted to some rows, in float64."""
    flow = Flow(space, partial(Chain, parts=[*parts, Triangular]), Gaussian).double()
    with initialising():
        flow.log_prob(rows)
    return flow.eval()


def test_standardising_leaves_the_score_in_the_tables_own_units():
    rows = torch.randn(500, 2, dtype=torch.float64) * torch.tensor([20.0, 0.5]) + torch.tensor([100.0, 0.0])
    flow, plain = (gaussian(Space((2,)), rows, *parts) for parts in ([Standardise], []))
    torch.testing.assert_close(flow.log_prob(rows), plain.log_prob(rows))
    scale = flow.transform.parts[0]
    torch.testing.assert_close(scale.mean, rows.mean(0))
    torch.testing.assert_close(scale.scale, rows.std(0, correction=0))
    torch.testing.assert_close(scale.log_det, -torch.log(rows.std(0, correction=0)).sum())


@pytest.mark.parametrize("backwards", [False, True])
def test_standardising_learns_from_every_batch(backwards):
    part, rows = Standardise(Space((3,))).double(), torch.randn(900, 3, dtype=torch.float64) * 5 + 2
    way = part.inverse if backwards else lambda x: part(x)[0]
    with initialising():
        for batch in rows.split(100):
            way(batch)
    out = way(rows)
    torch.testing.assert_close(out.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(out.std(0, correction=0), torch.ones(3, dtype=torch.float64))


def test_a_run_starts_standardised_by_every_training_row(tmp_path):
    source = Table(path=written(tmp_path, frame()[REAL]), batch_size=50)
    data = FlowDataModule(source)
    flow = Flow(data.space, partial(Chain, parts=[Reals, Standardise, Triangular]), Gaussian)
    initialise(flow, data, seed=0)
    rows = data.splits.train.values.double()
    torch.testing.assert_close(flow.transform.parts[1].mean.double(), rows.mean(0), rtol=1e-5, atol=0)
    z = flow.encode(data.splits.train.values).double()
    torch.testing.assert_close(z.T.cov(correction=0), torch.eye(3, dtype=torch.float64), atol=2e-3, rtol=0)


def test_the_default_starts_at_the_best_mixture_by_bic(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1500, 3)) @ rng.normal(size=(3, 3)) + np.where(rng.random((1500, 1)) < 0.4, 1, 0) * [9.0, -5, 3]
    path = written(tmp_path, pandas.DataFrame(rows * [10, 1, 0.1], columns=list("abc")))
    sizes = ["size.width=16", "size.depth=1", "size.steps=2"]
    config = compose("train", ["data=table", f"data.path={path}", "prior=fitted_mixture", *sizes])
    data = FlowDataModule(build(config.data, "data"))
    torch.manual_seed(0)
    flow = build(config.flow, "flow")(data.space)
    initialise(flow, data, seed=0)
    train = data.splits.train.values
    scaled = (train.double() - train.double().mean(0)) / train.double().std(0)
    log_weight, mean, covariance = (torch.from_numpy(part) for part in fitted(scaled.numpy()))
    apart = torch.distributions.MultivariateNormal(mean, covariance).log_prob(scaled[:, None]) + log_weight
    best = (apart.logsumexp(1) - train.double().std(0).log().sum()).mean().item()
    assert flow.log_prob(train).mean().item() == pytest.approx(best, abs=0.02)


def fitted(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = min((GaussianMixture(k, random_state=0).fit(rows) for k in (1, 2, 4)), key=lambda mixture: mixture.bic(rows))
    return np.log(found.weights_), found.means_, found.covariances_


def test_context_is_standardised_by_every_training_row_and_missing_context_refused():
    space = Space((2,), context={"a.b": (1,), "c": (3,)})
    part, told = Columns(space), {"a.b": torch.randn(300, 1) * 7 + 3, "c": torch.eye(3)[torch.arange(300) % 3]}
    with initialising():
        for first in (0, 100, 200):
            part({name: value[first : first + 100] for name, value in told.items()})
    seen = part(told)
    for value in seen.values():
        torch.testing.assert_close(value.mean(0), torch.zeros(value.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(value.std(0, correction=0), torch.ones(value.shape[1]))
    with pytest.raises(Refused, match=r"conditional on a.b, c, and c was not given"):
        part({"a.b": told["a.b"]})
    assert Columns(Space((2,)))({}) is None


def test_a_mixed_table_has_one_number_a_sum_and_an_integral():
    """An integer of known chances, and a value rounded to 1/4: sums over levels and steps, and the mean over a step."""
    space = Space((2,), levels=(3, None), rounded=(None, 0.25))
    rng = np.random.default_rng(1)
    kind = rng.choice(3, 4000, p=[0.2, 0.5, 0.3])
    rows = torch.from_numpy(np.stack([kind, np.round(4 * rng.normal(kind, 0.5)) / 4], 1))
    flow = gaussian(space, rows, declared, Standardise)
    assert isinstance(flow.transform.parts[0], Uniform) and flow.grade == "bound" and flow.unit == "nll"
    grid = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    u = torch.cartesian_prod(grid, 0.25 * (grid - 0.5))
    places = torch.cartesian_prod(torch.arange(-4.0, 8.0), torch.arange(-16.0, 28.0) / 4).double()  # beyond the levels, too
    exact = torch.stack([flow.density().log_prob(place + u).exp().mean() for place in places])
    assert 0.25 * exact.sum().item() == pytest.approx(1, abs=1e-3)  # probability x density per unit, over a step of 1/4
    some = places[exact > 1e-3][::5]
    torch.manual_seed(0)
    weights = flow.log_weights(some, num_samples=2000).exp()
    error = weights.std(0) / len(weights) ** 0.5
    assert ((weights.mean(0) - exact[exact > 1e-3][::5]).abs() < 4.5 * error).all()
    back = flow.decode(flow.encode(rows))
    torch.testing.assert_close(back, rows.double())
    drawn = flow.sample(500)
    assert set(drawn[:, 0].tolist()) <= {0.0, 1.0, 2.0}
    torch.testing.assert_close(4 * drawn[:, 1], torch.round(4 * drawn[:, 1]))


def test_reals_are_exact_and_rounded_ones_need_noise():
    assert isinstance(declared(Space((2,))), Reals)
    with pytest.raises(Refused, match=r"some of these were rounded.*dequantization=uniform"):
        Reals(Space((2,), rounded=(0.1, None)))
    with pytest.raises(Refused, match="dequantize before"):
        Space((2,), rounded=(0.1, None)).reshaped(2)


def test_standard_errors_of_groups_are_those_of_the_groups():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 30, (200,), generator=generator)
    group = torch.arange(200).repeat_interleave(sizes)
    values = (torch.randn(200, generator=generator) * 3)[group] + torch.randn(len(group), generator=generator)
    metric = MeanScore(200)
    for rows in torch.randperm(len(group), generator=generator).split(100):
        metric.update(values[rows], group[rows])
    mean, error = (number.item() for number in metric.compute())
    assert (mean, error) == pytest.approx(mean_and_error(values.double(), group))
    picks = torch.randint(0, 200, (3000, 200), generator=generator)  # the bootstrap of groups
    sums = torch.zeros(200, dtype=torch.float64).index_add_(0, group, values.double())
    draws = sums[picks].sum(1) / sizes[picks].sum(1)
    assert error == pytest.approx(draws.std().item(), rel=0.06) and error > 3 * mean_and_error(values)[1]


def test_baselines_are_the_densities_that_they_say(tmp_path):
    rng = np.random.default_rng(0)
    side = np.where(rng.random(3500) < 0.5, -1, 1)
    x = np.stack([10 * (side * 3 + rng.normal(size=3500)), 0.1 * (side + rng.normal(size=3500))], 1).astype(np.float32)
    parts = [Split.whole(torch.from_numpy(rows)) for rows in (x[:2000], x[2000:2500], x[2500:])]
    scores = table_baselines(Splits(*parts), Space((2,)))
    ours = gaussian(Space((2,)), parts[0].values.double())
    assert scores["gaussian"][0] == pytest.approx(-ours.log_prob(parts[2].values.double()).mean().item(), abs=1e-4)
    scaled = torch.from_numpy(x[2500:]).double() / torch.tensor([10, 0.1])
    apart = torch.stack(
        [torch.distributions.Normal(torch.tensor([3.0 * s, s]), 1.0).log_prob(scaled).sum(1) for s in (-1.0, 1.0)]
    )
    truth = -(apart.logsumexp(0) - log(2)).mean().item()  # 10 x 0.1: no Jacobian
    assert scores["mixture of 2 gaussians (BIC)"][0] == pytest.approx(truth, abs=0.015)
    assert truth < scores["kernel density"][0] < truth + 0.1
    given = [Split.whole(split.values[:, :1], x=split.values[:, 1:]) for split in parts]
    conditional = table_baselines(Splits(*given), Space((1,), context={"x": (1,)}))
    alone = table_baselines(Splits(*(Split.whole(split.values[:, 1:]) for split in parts)), Space((1,)))
    assert conditional["gaussian"][0] == pytest.approx(scores["gaussian"][0] - alone["gaussian"][0], abs=1e-6)


def test_baselines_of_many_rows_are_fitted_piece_by_piece(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3500, 3, generator=generator) @ torch.randn(3, 3, generator=generator) + 5
    splits = Splits(*(Split.whole(rows) for rows in (x[:2900], x[2900:3000], x[3000:])))
    whole = table_baselines(splits, Space((3,)))
    monkeypatch.setattr("laminar.data.table_baselines.ROWS", 800)
    pieces = table_baselines(splits, Space((3,)))
    assert pieces["gaussian"] == pytest.approx(whole["gaussian"], abs=1e-9)
    for name, (found, error) in whole.items():
        assert pieces[name][0] == pytest.approx(found, abs=max(error, 0.1))


def test_a_kernel_estimate_integrates_to_one():
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    axis = torch.linspace(-6, 6, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    assert kernel_estimate(grid, kernels, 0.3, 2).exp().sum().item() * 0.05**2 == pytest.approx(1, abs=1e-3)
    rows = torch.stack([axis, torch.full_like(axis, 0.4)], 1)
    assert kernel_estimate(rows, kernels, 0.3, 1).exp().sum().item() * 0.05 == pytest.approx(1, abs=1e-3)


# -- benchmarks --------------------------------------------------------------------------------------------------------


def photographs(folder, train: int = 20, test: int = 4):
    """Grey images of two shapes whose pixels tell their image: all of one value but for the last row."""
    (folder / "bsds300").mkdir()
    for name, count, first in (("train", train, 0), ("test", test, train)):
        grey = np.arange(first, first + count, dtype=np.uint8)[:, None, None] * np.ones((1, 20, 30), dtype=np.uint8)
        grey[:, -1] = np.arange(30)
        half = count // 2
        np.savez(folder / "bsds300" / f"{name}.npz", landscape=grey[:half], portrait=grey[half:].transpose(0, 2, 1))


def test_patches_follow_the_benchmarks_protocol(tmp_path):
    photographs(tmp_path)
    source = BSDS300(root=str(tmp_path), train_size=4000, val_size=300, test_size=500, batch_size=8)
    splits = source.load(seed=0)
    assert [split.values.shape for split in splits] == [(4000, 63), (300, 63), (500, 63)] and len(source.columns) == 63
    train, val, test = (set(split.group.tolist()) for split in splits)
    assert len(train) == 18 and len(val) == 2 and train | val == set(range(20)) and test == {20, 21, 22, 23}
    for split in splits:
        whole = torch.cat([split.values, -split.values.sum(1, keepdim=True)], 1)  # the last pixel is minus the others' sum
        assert whole.abs().max() < 1 and whole.var(1).min() > 0
        flat = whole[(whole * 256).abs().max(1).values < 1.01]  # of one grey value: noise about its mean
        assert len(flat) > 0.5 * len(whole)
        assert (256 * flat).var().item() == pytest.approx(63 / 64 / 12, rel=0.05)
    again = BSDS300(root=str(tmp_path), train_size=4000, val_size=300, test_size=500, batch_size=8).load(seed=9)
    assert all(torch.equal(a.values, b.values) for a, b in zip(splits, again, strict=True))
    other = BSDS300(root=str(tmp_path), train_size=4000, val_size=300, test_size=500, draw=1, batch_size=8).load(0)
    assert not torch.equal(other.test.values, splits.test.values)


def test_patches_are_kept_and_their_places_are_even(tmp_path):
    photographs(tmp_path)
    options = {"root": str(tmp_path), "train_size": 20_000, "val_size": 300, "test_size": 500, "batch_size": 8}
    cut = BSDS300(cache=str(tmp_path / "cache"), **options).load(0)
    (tmp_path / "bsds300" / "train.npz").unlink()
    kept = BSDS300(cache=str(tmp_path / "cache"), **options).load(0)
    for a, b in zip(cut, kept, strict=True):
        assert torch.equal(a.values, b.values) and torch.equal(a.group, b.group)
    edge = (cut.train.values * 256).abs().amax(1) > 1.01  # one of 13 rows (or columns) of places
    shares = [edge[cut.train.group == image].float().mean().item() for image in cut.train.group.unique().tolist()]
    assert np.mean(shares) == pytest.approx(1 / 13, rel=0.1)
    with pytest.raises(Refused, match=r"train.npz does not exist: put the grey images of BSDS300 there"):
        BSDS300(**options).load(0)


def test_the_gaussian_scores_what_is_published_on_the_real_patches():
    root = Path(os.environ.get("LAMINAR_DATA", "data"))
    if not (root / "bsds300").exists():
        pytest.skip("bsds300 is not in LAMINAR_DATA")
    splits = BSDS300(root=str(root), train_size=60_000, val_size=100, test_size=20_000, batch_size=8).load(0)
    train, test = splits.train.values.double(), splits.test.values.double()
    density = torch.distributions.MultivariateNormal(train.mean(0), train.T.cov())
    score, error = mean_and_error(density.log_prob(test), splits.test.group)
    assert score == pytest.approx(96.67, abs=2 * error) and 2.5 < error < 4  # Papamakarios et al. 2017, table 1
    assert mean_and_error(density.log_prob(test))[1] < 0.6


def uci(folder, name):
    """A small file of each set's form."""
    rng = np.random.default_rng(0)
    place = folder / name
    place.mkdir()
    if name == "power":
        np.save(place / "data.npy", np.round(rng.normal(3, 2, (1000, 8)), 1))
    elif name == "miniboone":
        np.save(place / "data.npy", rng.normal(3, 2, (1000, 43)))
    elif name == "gas":
        x = rng.normal(3, 2, (1000, 8))
        columns = np.hstack([x[:, :1] + 0.01 * rng.normal(size=(1000, 1)), x, x[:, 3:4] + 0.01 * rng.normal(size=(1000, 1))])
        table = pandas.DataFrame(columns, columns=[f"R{n}" for n in range(10)])
        table.assign(Time=0.0, Meth=1.0, Eth=2.0).to_parquet(place / "ethylene_CO.parquet")
    else:
        for part, more in (("train", 0), ("test", 1)):
            x = rng.normal(3, 2, (1000, 22 + more))
            x[:, 4] = x[:, 4].clip(min=2)  # the smallest value again and again
            table = pandas.DataFrame(np.hstack([(np.arange(1000) % 2)[:, None], x]))
            table.to_csv(place / f"1000_{part}.csv", index=False)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [(Power, (810, 90, 100)), (Gas, (810, 90, 100)), (Miniboone, (810, 90, 100)), (Hepmass, (450, 50, 500))],
)
def test_uci_tables_are_preprocessed_as_published(tmp_path, kind, sizes):
    if kind is Gas:
        pytest.importorskip("pyarrow")
    with pytest.raises(Refused, match=r"does not exist.*zenodo.org/records/1161203"):
        kind(root=str(tmp_path), batch_size=8).load(0)
    uci(tmp_path, kind.folder)
    source = kind(root=str(tmp_path), batch_size=8)
    splits = source.load(0)
    assert tuple(map(len, splits)) == sizes and {split.values.shape[1] for split in splits} == {kind.dims}
    known = {Power: splits[:2], Miniboone: splits[:2], Gas: splits, Hepmass: splits[:2]}[kind]
    rows = torch.cat([split.values for split in known]).double()
    torch.testing.assert_close(rows.mean(0), torch.zeros(kind.dims).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(rows.std(0), torch.ones(kind.dims).double(), atol=2e-3, rtol=0)
    if kind is Gas:  # of two columns alike, the first goes
        assert torch.corrcoef(rows.T).fill_diagonal_(0).max() < 0.9
    (tmp_path / kind.folder / ("data.npy" if kind in (Power, Miniboone) else "spare")).write_bytes(b"no array")
    if kind in (Power, Miniboone):
        with pytest.raises(Refused, match="cannot be read"):
            source.load(0)


# -- what is drawn, and what follows from a table ------------------------------------------------------------------------


def test_pictures_of_columns_are_drawn(tmp_path):
    rows = torch.randn(300, 30)
    rows[:, 2] = rows[:, 2].round()
    widths = [1.0 if place == 2 else None for place in range(30)]
    names = [f"a rather long name of column {place}" for place in range(30)]
    for count in (1, 3, 30):
        for draw in (pairs, marginals):
            path = tmp_path / f"{draw.__name__}{count}.png"
            draw(rows[:, :count], rows[:, :count] + 0.1, names, path, widths)
            with Image.open(path) as picture:
                assert np.asarray(picture.convert("L")).std() > 5


def test_what_nobody_tuned_knows_the_pages_of_a_folder(tmp_path, monkeypatch):
    (tmp_path / "pages" / "optimizer").mkdir(parents=True)
    (tmp_path / "pages" / "optimizer" / "mine.yaml").write_text("_target_: torch.optim.SGD\n_partial_: true\nlr: 0.001\n")
    np.savetxt(tmp_path / "t.csv", np.random.default_rng(0).normal(size=(100, 2)), delimiter=",", header="a,b", comments="")
    words = ["data=table", f"data.path={tmp_path}/t.csv", f"hydra.searchpath=[file://{tmp_path}/pages]", "optimizer=mine"]
    words += ["trainer.max_steps=1", "test=false", "logger=null", f"hydra.run.dir={tmp_path}/run"]
    monkeypatch.setattr(sys, "argv", ["laminar-train", *words])
    train.main()
    assert read_config(tmp_path / "run")["optimizer"]["_target_"] == "torch.optim.SGD"


def test_sizes_follow_from_rows_and_columns_and_every_word_counts_more(tmp_path):
    path = written(tmp_path, frame()[REAL])
    small, large = words_for(400, 3), words_for(1_000_000, 50)
    for key in ("size.width", "size.steps", "size.depth", "data.batch_size"):
        assert int(small[key]) < int(large[key])
    config = compose("train", ["data=table", f"data.path={path}"])
    added = untold(config, [])
    assert added[0] == "flow=table" and "data.batch_size=16" in added
    assert untold(config, ["flow=maf", "data.batch_size=32"]) == [
        word for word in added if not word.startswith(("flow=", "prior=", "size.", "data.batch_size="))
    ]
    assert untold(config, ["experiment=maf_power"]) == [] and untold(compose("train", ["data=moons"]), []) == []
    assert compose("train", ["data=table", f"data.path={path}", *added]).size.width == 32


def test_a_table_is_trained_scored_compared_and_drawn_from(tmp_path, monkeypatch):
    """One's own table from file to samples: codes are kept, context comes from a file, two runs are compared by groups."""
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, frame())
    words = ["data=table", f"data.path={path}", "data.columns=[length,colour,width]", "data.context=[weight,kind]"]
    words += ["data.categories=[colour]", "data.resolution={width: 0.1}", "data.group=patient", "data.batch_size=32"]
    words += ["logger=csv", "trainer.max_steps=2", "trainer.val_check_interval=2", "callbacks=[checkpoints,tables]"]
    folders = []
    for name, more in (("a", ["size.width=8", "size.steps=1"]), ("b", ["flow=gaussian"])):
        folder = tmp_path / name
        folder.mkdir()
        config = OmegaConf.to_container(compose("train", [*words, *more]), resolve=True)
        numbers = run(config, folder)
        assert {"test/nll", "test/nll_se", "groups"} <= numbers.keys() and "test/bpd" not in numbers
        assert (
            numbers["base"] == "density per unit of length, width (rounded to 0.1), probability of colour, given weight, kind"
        )
        assert OmegaConf.load(folder / "config.yaml").data.codes.colour == ["blue", "grey", "red"]
        assert (folder / "figures" / "pairs.png").exists() and (folder / "figures" / "marginals.png").exists()
        assert "baselines/gaussian" in json.loads((folder / "metrics.json").read_text())
        folders.append(folder)
    chosen = compose("evaluate", [f"run={folders[0]}", f"against={folders[1]}", "num_samples=2", "device=cpu"])
    evaluate.start(chosen)
    found = json.loads((folders[0] / "evaluations" / "test-K2.json").read_text())
    scores = []
    for folder in folders:
        evaluate.start(compose("evaluate", [f"run={folder}", "num_samples=2", "device=cpu"]))
        scores.append(json.loads((folder / "evaluations" / "test-K2.json").read_text())["nll"])
    assert found["difference"] == pytest.approx(scores[0] - scores[1], abs=1e-6) and found["groups"] == 5
    pandas.DataFrame({"kind": [0, 2], "weight": [50.0, 40.0]}).to_csv("given.csv", index=False)
    sample.start(compose("sample", [f"run={folders[0]}", "given=given.csv", "n=3", "out=drawn.csv", "device=cpu"]))
    drawn = pandas.read_csv("drawn.csv")
    assert (
        list(drawn.columns) == ["weight", "kind", "length", "colour", "width"] and drawn["kind"].tolist() == [0] * 3 + [2] * 3
    )
    assert set(drawn["colour"]) <= {"red", "blue", "grey"}
    np.testing.assert_allclose(drawn["width"] * 10, (drawn["width"] * 10).round(), atol=1e-9)
    pandas.DataFrame({"kind": [0]}).to_csv("given.csv", index=False)
    with pytest.raises(Refused, match=r"given.csv has no column weight, on which this flow is conditional"):
        sample.start(compose("sample", [f"run={folders[0]}", "given=given.csv", "out=more.csv", "device=cpu"]))


def test_runs_of_other_rows_are_not_compared():
    flow = Flow(Space((2,)), partial(Chain, parts=[Triangular]), Gaussian)
    ours = {"seed": 0, "data": {"_target_": "a", "path": "x.csv", "batch_size": 8, "validation": 0.1}}
    check(ours, {"seed": 1, "data": {**ours["data"], "batch_size": 9, "validation": 0.2}}, flow, flow, "b", "test")
    with pytest.raises(Refused, match="differ in seed"):
        check(ours, {**ours, "seed": 1}, flow, flow, "b", "val")
    with pytest.raises(Refused, match=r"against=b has other rows \(its data differ in path\)"):
        check(ours, {"seed": 0, "data": {**ours["data"], "path": "y.csv"}}, flow, flow, "b", "test")


# -- simulation-based inference ------------------------------------------------------------------------------------------


def test_the_simulator_draws_from_its_likelihood():
    simulator = TwoMoonsSimulator(batch_size=8, train_size=4000, test_size=100)
    train = simulator.load(0).train
    assert train.values.shape[1] == 2 and FlowDataModule(simulator).space.context == {"x": (2,)}
    theta = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    axis = torch.linspace(-0.2, 0.4, 601, dtype=torch.float64) + 0.0005  # cells end where the arc does
    grid = torch.cartesian_prod(axis, axis - 0.1) + torch.from_numpy(centre(theta.numpy().T))
    density = simulator.log_likelihood(theta.expand(len(grid), 2), grid).exp()
    assert density.sum().item() * 1e-6 == pytest.approx(1, abs=2e-3)
    moved = simulator.draw(20_000, np.random.default_rng(0))
    arc = moved[:, 2:] - centre(moved[:, :2].T)
    mean = (density[:, None] * (grid - torch.from_numpy(centre(theta.numpy().T)))).sum(0) / density.sum()
    np.testing.assert_allclose(arc.mean(0), mean.numpy(), atol=3e-3)
    entropy = (density * density.clamp(min=1e-300).log()).sum().item() * 1e-6
    score = simulator.log_likelihood(train.values, train.context["x"])
    assert score.isfinite().all() and score.mean().item() == pytest.approx(entropy, abs=0.05)


def test_ranks_are_uniform_for_the_true_posterior_and_not_for_a_narrower_one(tmp_path):
    """x = theta + noise with theta and noise standard normal: the posterior is N(x / 2, 1 / 2)."""

    class Posterior(torch.nn.Module):
        space = Space((1,), context={"x": (1,)})
        device = torch.device("cpu")

        def __init__(self, deviation):
            super().__init__()
            self.deviation = deviation

        def sample(self, n, context, temperature):
            return context["x"] / 2 + self.deviation * torch.randn(n, 1)

    torch.manual_seed(0)
    theta = torch.randn(2000, 1)
    context = {"x": theta + torch.randn(2000, 1)}
    values = []
    for deviation in (0.5**0.5, 0.5):
        found = ranks(Posterior(deviation), theta, context, draws=31)
        assert found.min() >= 0 and found.max() <= 31
        values.append(kstest((found[:, 0].numpy() + np.random.default_rng(0).uniform(size=2000)) / 32, "uniform").pvalue)
        calibration(found, 31, ["theta"], tmp_path / f"{deviation}.png")
    assert values[0] > 0.01 and values[1] < 1e-6
