"""What a flow of latent variables is scored by: nats beside bits/dim, one sample beside many, distortion and KL."""

import csv
import json
from math import log

import pytest
import torch
from engine import prepared
from pages import flow as flow_of

from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.data.datamodule import FlowDataModule
from laminar.flows import noise
from laminar.flows.layer.variational import Variational
from laminar.flows.space import Space
from laminar.pictures.codes import codes
from laminar.refused import Refused
from laminar.runs import evaluate, sweep, table
from laminar.runs.run import run
from laminar.runs.standings import standings
from laminar.training.checkpoint import load

VAE = ("flow=vae_mlp", "data=digits_binary", "size.latent=3", "~size.steps", "num_samples=4", "trainer.max_steps=12")
ENGINE = ("callbacks=[throughput,latents,checkpoints]", "callbacks.latents.draws=16", "optimizer.lr=0.01")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    run(prepared(folder, *VAE, *ENGINE), folder)
    flow, config = load(folder)
    data = FlowDataModule(build(config["data"], "data"), None, config["seed"])
    return folder, json.loads((folder / "metrics.json").read_text()), flow.eval(), data.splits.test.values


def mean_and_error(values):
    return values.mean().item(), values.std().item() / len(values) ** 0.5


def test_nats_stand_beside_bits_and_one_sample_beside_many(scored):
    folder, numbers, flow, x = scored
    with torch.no_grad(), noise.source(noise.mix(0, 2, 0, range(len(x)))):
        log_weights = flow.log_weights(x, num_samples=4).double()
    for name, log_prob in (("", log_weights.logsumexp(0) - log(4)), ("_K1", log_weights.mean(0))):
        for unit, scale in (("nll", 1.0), ("bpd", 64 * log(2))):
            found = numbers[f"test/{unit}{name}"], numbers[f"test/{unit}{name}_se"]
            assert found == pytest.approx(mean_and_error(-log_prob / scale), rel=1e-5)
    assert numbers["test/bpd"] < numbers["test/bpd_K1"] and numbers["grade"] == "bound" and numbers["num_samples"] == 4
    assert not any(name.startswith("val/") and "K1" in name for name in numbers)
    assert numbers["val/nll"] == pytest.approx(numbers["val/bpd"] * 64 * log(2))
    again = evaluate.start(compose("evaluate", [f"run={folder}", "device=cpu", "num_samples=4"]))
    written = json.loads((folder / "evaluations" / "test-K4.json").read_text())
    assert again == written["bpd"]
    for name in ("bpd", "nll", "bpd_K1", "nll_K1", "bpd_se", "nll_K1_se"):
        assert written[name] == pytest.approx(numbers[f"test/{name}"], rel=1e-5)


def test_distortion_and_kl_are_those_of_the_parts(scored):
    _, numbers, flow, x = scored
    before, stop, after = flow.locate(Variational)
    distortions, kls = [], []
    for copy in range(4):
        with torch.no_grad(), noise.source(noise.mix(0, 2, 0, range(len(x)))), noise.copies(copy, 1):
            z, log_p, log_q = stop.terms(before(x)[0])
        end, contribution = after(z)
        distortions.append(-log_p)
        kls.append(log_q - flow.prior.log_prob(end) - contribution)
    for name, drawn in (("distortion", distortions), ("kl", kls)):
        values = torch.stack(drawn).mean(0).double()
        assert (numbers[f"test/{name}"], numbers[f"test/{name}_se"]) == pytest.approx(mean_and_error(values), rel=1e-4)
    assert numbers["test/distortion"] + numbers["test/kl"] == pytest.approx(numbers["test/nll_K1"], rel=1e-6)
    assert numbers["val/distortion"] + numbers["val/kl"] == pytest.approx(numbers["val/nll"], rel=1e-6)


def test_a_scale_before_the_latents_counts_as_distortion(tmp_path):
    """Of stored values: the KL is that of q(z | x), whatever stretches x on its way to the encoder."""
    words = ("flow=vae_mlp", "data=moons", "observation=gaussian", "size.latent=2", "~size.steps", "norm=actnorm_element")
    words = [f"+{word}" if word.startswith("norm") else word for word in words]
    small = (
        "data.train_size=1000",
        "data.test_size=300",
        "data.batch_size=100",
        "trainer.max_steps=10",
        "parts=[${norm},${layer}]",
    )
    numbers = run(prepared(tmp_path, *words, *small, *ENGINE), tmp_path)
    flow, config = load(tmp_path)
    x = FlowDataModule(build(config["data"], "data"), None, config["seed"]).splits.test.values
    before, stop, _ = flow.locate(Variational)
    with torch.no_grad(), noise.source(noise.mix(0, 2, 0, range(len(x)))):
        y, given = before(x)
        z, log_p, log_q = stop.terms(y)
    assert given[0].abs() > 0.1
    assert numbers["test/kl"] == pytest.approx((log_q - flow.prior.log_prob(z)).mean().item(), rel=1e-4)
    assert numbers["test/distortion"] == pytest.approx((-log_p - given).mean().item(), rel=1e-4)
    assert "test/bpd" not in numbers and numbers["test/nll"] == pytest.approx(numbers["test/kl"] + numbers["test/distortion"])


def test_what_the_latents_hold_is_drawn_and_counted(scored, tmp_path):
    folder, numbers, flow, x = scored
    pictures = {path.name for path in (folder / "figures").glob("*.png") if path.stat().st_size > 3000}
    assert pictures == {f"{name}.png" for name in ("reconstructions", "traversals", "latents", "aggregate", "latent_map")}
    assert (
        numbers["test/active_units"] == codes(flow, x, draws=16).active
        and "could not" not in (folder / "train.log").read_text()
    )
    plain = (
        "data=moons",
        "data.train_size=500",
        "data.test_size=100",
        "trainer.max_steps=2",
        "trainer.val_check_interval=2",
        "callbacks=[latents,checkpoints]",
    )
    others = run(prepared(tmp_path, *plain), tmp_path)
    assert "test/active_units" not in others and not (tmp_path / "figures").exists()


def test_only_binary_values_and_latents_are_told_in_nats_as_well():
    grey, binary = Space((1, 8, 8), levels=17), Space((1, 8, 8), levels=2)
    small = ("size.width=64", "size.steps=1")
    assert flow_of(grey, "flow=maf", *small).units == ("bpd",)
    assert flow_of(binary, "flow=maf", *small).units == ("bpd", "nll")
    assert flow_of(grey, "flow=vae_mlp", "size.width=8").units == ("bpd", "nll")
    assert flow_of(Space((2,)), "flow=maf", "data=moons", *small).units == ("nll",)
    assert flow_of(grey, "flow=maf", "dequantization=as_reals", "preprocessing=affine", *small).units == ("not_a_likelihood",)


def test_a_sweep_may_minimise_nats_and_nothing_unknown(tmp_path):
    words = ("optimized_metric=val/nll", "train=false", "test=false")
    numbers = run(prepared(tmp_path / "nats", *VAE, *ENGINE, *words), tmp_path / "nats")
    assert numbers["train_seconds"] == 0 and numbers["val/nll"] > 0
    with pytest.raises(Refused, match="val/bpd, test/bpd, val/nll and test/nll are"):
        run(prepared(tmp_path / "kl", *VAE, "optimized_metric=test/kl"), tmp_path / "kl")


def test_the_tables_tell_them(scored, capsys):
    folder, numbers, *_ = scored
    table.show(numbers, {}, folder)
    shown = capsys.readouterr().out
    for words in ("bound, K = 4", "K = 1, mean of 4", "test nats", "of q(z | x) from p(z)", "test distortion", "scored/s"):
        assert words in shown
    assert "draws of the flow" not in shown
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("- seed=0\n")
    (row,), remarks, _ = standings(sweep.write(folder))
    assert row.cells["test bits/dim"] == f"{numbers['test/bpd']:.4f} ± {numbers['test/bpd_se']:.4f}"
    assert "scores are graded bound, K = 4" in remarks
    (row,) = csv.DictReader((folder / "table.csv").open())
    assert row["grade"] == "bound" and row["num_samples"] == "4" and float(row["train_seconds"]) > 0
    assert {"test/bpd_K1", "test/kl", "test/distortion", "scored_per_second", "samples_per_second"} <= row.keys()
