"""The benchmark's workloads are built, and run, at sizes that take no time: ours alone."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
benchmark = pytest.importorskip("benchmark")
from bench import measure, peers  # noqa: E402
from bench.workloads import WORKLOADS, Setting  # noqa: E402

ALONE = Setting(peers=False)


@pytest.mark.parametrize("name", [name for name in WORKLOADS if name != "W10"])
def test_a_workload_runs(name):
    workload = WORKLOADS[name]
    for model in workload.models(ALONE, **workload.tiny):
        assert model.operations and not model.peer
        for operation in model.operations.values():
            operation()


def test_a_loop_is_compared_with_its_bare_step():
    run, bare = WORKLOADS["W10"].models(ALONE, steps=1)
    assert run.operations.keys() == bare.operations.keys()
    assert all(operation() > 0 for operation in bare.operations.values())


@pytest.mark.parametrize("library, name", [(name.split("_")[0], name) for name in dir(peers) if name.endswith("_coupling")])
def test_peers_have_as_many_parameters(library, name):
    pytest.importorskip("FrEIA" if library == "freia" else library)
    ours, *_ = WORKLOADS["W1"].models(ALONE, **WORKLOADS["W1"].sizes)
    density = getattr(peers, name)(63, 8, 256)
    assert sum(p.numel() for p in density.module.parameters()) == pytest.approx(ours.parameters, rel=0.01)


def test_a_peer_that_is_not_installed_is_a_line(monkeypatch):
    def absent(*sizes):
        raise ModuleNotFoundError("No module named 'zuko'", name="zuko")

    monkeypatch.setattr(peers, "zuko_spline", absent)
    models = [*WORKLOADS["W4"].models(Setting(), **WORKLOADS["W4"].tiny)]
    text = benchmark.table("W4", measure.measure("W4", models, 1, "cpu"))
    assert "zuko is not installed: pip install laminar[bench]" in text


def test_ratios_are_to_the_best_peer_and_limits_to_the_work():
    x = torch.randn(8, 8)
    product = measure.Model("laminar", {"train": lambda: x @ x})
    took = {"ours": 2.0, "a": 6.0, "b": 4.0}
    timers = [measure.Model(name, {"train": lambda ms=ms: ms}, peer=name != "ours") for name, ms in took.items()]
    rows = measure.measure("timers", timers, 3, "cpu")
    assert [row.ratio for row in rows] == [2.0, pytest.approx(2 / 3), 1.0]
    works = benchmark.works_of([product])
    assert works == {"train": {"matrix": 2 * 8**3, "convolution": 0}}
    measure.limits(rows, works, {"matrix": 1024.0, "convolution": 1.0})
    assert [row.limit for row in rows] == [2.0, 6.0, 4.0]


def test_the_shares_of_kernels_are_of_the_whole_time():
    x, w = torch.randn(300, 300), torch.randn(8, 1, 3, 3)
    product = measure.shares(lambda: x @ x)
    assert product["matrix"] > 0.8 and sum(product.values()) == pytest.approx(1, abs=0.02)
    assert measure.shares(lambda: x.tanh())["elementwise"] > 0.8
    assert measure.shares(lambda: torch.nn.functional.conv2d(x[None, None], w))["convolution"] > 0.5


def test_flows_of_the_pages_are_timed_too(tmp_path):
    words = ["flow=maf", "data=digits", "size.width=64", "size.depth=1", "size.steps=1", "data.batch_size=4", "rounds=1"]
    rows = benchmark.main([*words, "shares=true", f"json={tmp_path / 'rows.json'}", f"markdown={tmp_path / 'rows.md'}"])
    assert {row.model for row in rows} == {"eager", "all steps at once", "a pass for each step"}
    text = (tmp_path / "rows.md").read_text()
    assert "a pass for each step" in text and "eager: % of | matrix | convolution" in text and (tmp_path / "rows.json").exists()
