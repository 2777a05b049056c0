"""Grades at work: one trained flow, scored by several traces and solvers, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine import prepared

from laminar.config.pages import compose
from laminar.config.settings import found, in_force, name_of, replaced
from laminar.flows import noise
from laminar.flows.draw import draw
from laminar.flows.solver.dopri5 import Dopri5
from laminar.flows.solver.rk4 import RK4
from laminar.refused import Refused
from laminar.runs import evaluate
from laminar.runs.open import open_data
from laminar.runs.run import run
from laminar.training.checkpoint import load


@pytest.fixture(scope="module")
def moons(tmp_path_factory) -> Path:
    """A FFJORD that was trained and tested by Hutchinson's estimate."""
    folder = tmp_path_factory.mktemp("grades")
    words = ("flow=ffjord", "trace=hutchinson", "data=moons", "size.width=16", "size.depth=2", "optimizer.lr=2e-2")
    few = ("data.train_size=1000", "data.validation=100", "data.test_size=600", "data.batch_size=128")
    run(prepared(folder, *words, *few, "trainer.max_steps=30", "trainer.val_check_interval=7"), folder)
    return folder


def evaluated(folder: Path, name: str, *words: str) -> dict:
    evaluate.start(compose("evaluate", [f"run={folder}", "device=cpu", *words]))
    return json.loads((folder / "evaluations" / f"{name}.json").read_text())


def numbers_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_a_test_and_an_evaluation_tell_the_estimators_error_alike(moons):
    tested, again = numbers_of(moons), evaluated(moons, "test-K1")
    assert again["grade"] == tested["grade"] == "estimate" and again["repeats"] == 2
    for name in ("nll", "nll_se", "nll_estimator_se", "excess", "excess_se"):
        assert again[name] == pytest.approx(tested[f"test/{name}"], rel=1e-3)
    assert 0 < again["nll_estimator_se"] < again["nll_se"]
    assert "val/nll_se" in tested and "val/nll_estimator_se" not in tested
    assert again["trace"] == {"member": "hutchinson", "num_probes": 1}
    assert again["solver"]["member"] == "dopri5" and again["solver"]["rtol"] == 1e-5


def test_traces_of_the_same_weights_side_by_side(moons):
    rough, exact = evaluated(moons, "test-K1"), evaluated(moons, "test-K1-exact", "trace=exact")
    fine = evaluated(moons, "test-K1-R8-num_probes4", "num_probes=4", "repeats=8")
    assert exact["grade"] == "exact" and "repeats" not in exact and "nll_estimator_se" not in exact
    assert exact["trace"]["member"] == "exact" and fine["trace"] == {"member": "hutchinson", "num_probes": 4}
    for estimate in (rough, fine):
        assert abs(estimate["nll"] - exact["nll"]) < 3 * estimate["nll_estimator_se"]
    assert rough["nll_estimator_se"] / fine["nll_estimator_se"] == pytest.approx(4, rel=0.25)  # 16 times as many probes
    assert exact["nll_se"] < rough["nll_se"]
    anew = evaluated(moons, "test-K1-hutchinson-probesgaussian", "trace=hutchinson_gaussian")
    assert anew["nll"] != rough["nll"] and anew["nll_estimator_se"] > rough["nll_estimator_se"]
    dotted = evaluated(moons, "test-K1-num_probes4", "trace.num_probes=4")
    assert dotted["trace"]["num_probes"] == 4


@pytest.mark.parametrize("words", [(), ("trace=exact",)])
def test_an_evaluation_is_the_same_in_any_batch(moons, words):
    name = "test-K1-exact" if words else "test-K1"
    small, large = (evaluated(moons, name, *words, f"batch_size={size}") for size in (64, 512))
    for number in ("nll", "nll_se", "excess"):
        assert small[number] == pytest.approx(large[number], rel=1e-5, abs=1e-5)
    flow, trained = load(moons, settings={"trace": {"_target_": "laminar.flows.trace.exact.Exact"}} if words else {})
    split = open_data(trained).splits.test
    split = replace(split, values=split.values.double())
    keys = noise.mix(0, range(len(split)))
    small, large = (evaluate.evaluate(flow.double(), split, keys, size, 1)["nll"] for size in (64, 512))
    assert small == pytest.approx(large, rel=1e-12, abs=1e-12)


def test_a_finer_solve_says_how_far_a_score_can_be_trusted(moons, capsys):
    usual = evaluated(moons, "test-K1")
    assert abs(usual["finer"]["moved"]) < 1e-3 and usual["finer"]["rows"] == 128
    assert "finer solve moves" not in capsys.readouterr().err
    euler = ("trace=exact", "solver=euler", "batch_size=100")
    coarse = evaluated(moons, "test-K1-exact-euler-steps1", *euler, "solver.steps=1", "finer_rows=600")
    assert "a finer solve moves the score by" in capsys.readouterr().err
    assert coarse["solver"] == {"member": "euler", "steps": 1, "gradients": "checkpoint"}
    four = evaluated(moons, "test-K1-exact-euler-steps4", *euler, "solver.steps=4", "finer_rows=0")
    assert coarse["finer"]["moved"] == pytest.approx(four["nll"] - coarse["nll"], abs=1e-5) and "finer" not in four
    assert coarse["finer"]["moved_most"] >= abs(coarse["finer"]["moved"]) > 0.01


def test_a_finer_solve_that_does_not_arrive_is_told(moons, capsys, monkeypatch):
    monkeypatch.setattr(Dopri5, "finer", lambda solver: Dopri5(1e-9, 1e-9, max_steps=2))
    lost = evaluated(moons, "test-K1")
    assert lost["finer"]["moved"] is None and lost["nll"] == pytest.approx(numbers_of(moons)["test/nll"], rel=1e-3)
    assert "a finer solve did not arrive" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["num_samples=64"], "num_samples > 1 would inflate .* take trace=exact, or num_samples=1"),
        (["trace=exact", "num_probes=4"], "trace.num_probes=4 would change nothing: trace=exact knows"),
        (["solver.steps=4"], "solver.steps=4 would change nothing: solver=dopri5 knows rtol"),
        (["trace=exact", "repeats=4"], "repeats=4 would change nothing"),
        (["repeats=0"], "repeats=0"),
        (["finer_rows=-1"], "finer_rows=-1"),
        (["solver.rtol=0"], "solver.rtol=0"),
        (["num_probes=0"], "num_probes=0"),
        (["trace=exact", "trace._target_=os.system"], "outside the packages"),
    ],
)
def test_evaluations_that_cannot_work_are_refused(moons, words, message):
    with pytest.raises(Refused, match=message) as no:
        evaluate.start(compose("evaluate", [f"run={moons}", "device=cpu", *words]))
    assert "\n" not in str(no.value)


def test_pages_are_found_and_replaced_wherever_they_stand():
    page = {"_target_": "laminar.flows.trace.hutchinson.Hutchinson", "_partial_": True, "num_probes": 1}
    config = {"parts": [{"layer": {"trace": page, "net": {"depth": 2}}}, {"trace": page}], "trace": "not a page"}
    assert found(config, "trace") == [page, page]
    changed = replaced(config, {"trace": {"num_probes": 3}})
    assert [part["num_probes"] for part in found(changed, "trace")] == [3, 3] and found(config, "trace") == [page, page]
    other = {"_target_": "laminar.flows.trace.exact.Exact", "chunk": 8}
    assert found(replaced(config, {"trace": other}), "trace") == [{**other, "_partial_": True}] * 2
    assert in_force(changed, ["trace", "solver"]) == {"trace": {"member": "hutchinson", "num_probes": 3}}
    assert name_of({"trace": other, "solver": {"rtol": 1e-7}}) == "exact-chunk8-rtol1e-07"
    with pytest.raises(Refused, match="solver=rk4 would change nothing: this flow has no solver"):
        replaced(config, {"solver": {"_target_": "laminar.flows.solver.rk4.RK4"}})
    with pytest.raises(Refused, match=r"solver\.rtol=0\.1 would change nothing"):
        replaced(config, {"solver": {"rtol": 0.1}})


def test_a_flow_that_is_loaded_with_settings_has_its_weights(moons):
    usual, other = load(moons)[0], load(moons, settings={"solver": {"_target_": "laminar.flows.solver.rk4.RK4", "steps": 9}})[0]
    assert {type(part.solver) for part in other.modules() if hasattr(part, "solver")} == {RK4}
    with torch.no_grad():
        torch.testing.assert_close(draw(other, 20), draw(usual, 20), rtol=1e-3, atol=1e-3)


def test_a_trained_density_integrates_to_one(moons):
    flow, _ = load(moons, settings={"trace": {"_target_": "laminar.flows.trace.exact.Exact"}})
    side = torch.linspace(-7, 7, 107)
    with torch.no_grad():
        density = flow.log_prob(torch.cartesian_prod(side, side)).exp()
    assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=0.01)
