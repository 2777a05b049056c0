"""Density distillation: KLs against closed forms, who learns and who does not, what is refused, how fast both sample."""

import math

import pytest
import torch
from engine import prepared
from pages import flow
from test_resume import assert_same_run

from laminar.config.recipe import build
from laminar.data.datamodule import FlowDataModule
from laminar.flows import noise
from laminar.flows.initialise import initialising
from laminar.flows.naive import naive
from laminar.flows.space import Space
from laminar.refused import Refused
from laminar.runs.run import build_module, run
from laminar.runs.start import resume
from laminar.training.checkpoint import load, read
from laminar.training.metric import LogWeights
from laminar.training.objective.distillation import Distillation

MOONS = ("data=moons", "data.batch_size=100", "data.train_size=1000", "data.test_size=500", "trainer.val_check_interval=4")
FEW = ("trainer.max_steps=4", "callbacks=[checkpoints]")
DIGITS = ("data=digits", "net.degrees=random", "size.steps=1")
STUDENT = ("flow=iaf", "objective=distillation", "objective.num_samples=2")


@pytest.fixture(scope="module")
def teach(tmp_path_factory):
    folders = {}

    def get(*words):
        if words not in folders:
            folders[words] = tmp_path_factory.mktemp("teacher")
            run(prepared(folders[words], *words, *FEW, "test=false"), folders[words])
        return folders[words]

    return get


def student(teacher, *words):
    """The module of a run that has not begun, and its data."""
    plain = prepared(teacher / "student", *STUDENT, f"objective.teacher={teacher}", *words)
    data = FlowDataModule(build(plain["data"], "data"), build(plain["dequantization"], "flow"), plain["seed"])
    torch.manual_seed(1)
    return build_module(plain, build(plain["flow"], "flow")(data.space)), data


def moments(flow):
    """Mean and covariance of a flow of the plane whose map is affine: x = A z + b."""
    b, *columns = flow.decode(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])).double().detach()
    a = torch.stack([column - b for column in columns], 1)
    return b, a @ a.T


def test_the_kl_of_two_gaussians_is_its_closed_form(teach):
    module, _ = student(teach("flow=gaussian", *MOONS), *MOONS, "flow=gaussian", "objective.num_samples=4")
    flow, objective = module.flow, module.objective
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        (m, s), (n, t) = moments(flow), moments(objective.teacher)
        inverse = torch.linalg.inv(t)
        exact = 0.5 * (torch.trace(inverse @ s) + (n - m) @ inverse @ (n - m) - 2 + torch.logdet(t) - torch.logdet(s)).item()
        rows = torch.zeros(50_000, 2)
        metric = LogWeights(normalised=True)
        metric.update(objective.log_weights(flow, rows, {}, 0))
        values = -objective(flow, rows, {}, 0)
    numbers = metric.compute()
    assert exact > 0.05 and abs(numbers["kl"] - exact) < 4 * numbers["kl_se"] < 0.2 * exact
    assert values.shape == (50_000,) and abs(values.mean() - exact) < 4 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("preprocessing", ["logit", "affine"])
def test_what_both_begin_with_cancels(teach, preprocessing):
    """Behind dequantizer and preprocessing, and only that, the numbers are those of the densities of the reals."""
    words = (*DIGITS, f"preprocessing={preprocessing}")
    module, data = student(teach("flow=maf", *words, "data.batch_size=200"), *words, "objective.num_samples=1")
    flow, objective = module.flow.double(), module.objective
    objective.teacher.double()
    flow.log_prob(data.first_batch()[0])
    flow.eval()
    assert objective.shared == 3
    keys = noise.mix(0, range(6))
    with noise.source(keys):
        found = objective.log_weights(flow, torch.zeros(6, 1, 8, 8), {}, 0)
    with noise.source(keys), noise.copies(0, 1):
        x, log_q = flow.density().sample_with_log_prob(6)
    torch.testing.assert_close(found[0], objective.teacher.density().log_prob(x) - log_q, rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_student_alone(teach):
    module, data = student(teach("flow=maf", *MOONS), *MOONS)
    module.flow.log_prob(data.first_batch()[0])
    before = {name: value.clone() for name, value in module.objective.teacher.state_dict().items()}
    module.objective(module.flow, torch.zeros(50, 2), {}, 0).mean().neg().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in module.flow.parameters())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in module.objective.teacher.parameters())
    assert not any(part.training for part in module.objective.teacher.modules())
    module.train()
    assert not any(part.training for part in module.objective.teacher.modules())
    after = module.objective.teacher.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_teacher_is_saved_nowhere_and_a_resumed_run_equals_an_uninterrupted_one(teach, tmp_path):
    teacher = teach("flow=maf", *MOONS)
    words = (*STUDENT, *MOONS, f"objective.teacher={teacher}", "callbacks=[nonfinite,ema,checkpoints]", "trainer.max_steps=8")
    run(prepared(tmp_path / "whole", *words, "test=false"), tmp_path / "whole")
    run(prepared(tmp_path / "parts", *words, "test=false", "trainer.max_steps=4"), tmp_path / "parts")
    resume(tmp_path / "parts", ["trainer.max_steps=8"])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    flow, _ = load(tmp_path / "whole")
    saved = read(tmp_path / "whole" / "checkpoints" / "last.ckpt")
    assert {name.removeprefix("flow.") for name in saved["state_dict"]} == flow.state_dict().keys()
    assert len(saved["optimizer_states"][0]["state"]) == len(list(flow.parameters()))


def test_a_student_is_tested_beside_its_teacher(teach, tmp_path, capsys):
    teacher = teach("flow=maf", *MOONS)
    words = (*STUDENT, *MOONS, f"objective.teacher={teacher}", "trainer.max_steps=4")
    numbers = run(prepared(tmp_path, *words, "callbacks=[throughput,teacher,checkpoints]"), tmp_path)
    expected = {"test/nll", "test/kl", "test/kl_se", "test/log_z", "test/ess", "teacher/nll", "teacher/nll_se"}
    expected |= {"samples_per_second", "teacher/samples_per_second", "teacher/naive_samples_per_second", "test/excess"}
    assert expected <= numbers.keys() and "train/nll" not in numbers
    shown = capsys.readouterr().out
    assert "teacher, same rows" in shown and "nats of KL" in shown and "a pass for each value" in shown
    flow, config = load(teacher)
    rows = FlowDataModule(build(config["data"], "data"), None, config["seed"]).splits.test.values
    assert numbers["teacher/nll"] == pytest.approx(-flow.log_prob(rows).mean().item(), abs=1e-5)
    assert (tmp_path / "figures" / "teacher.png").exists()


SEQUENTIAL = {
    "made": ("flow=maf", *DIGITS),
    "made in another order": ("flow=maf", "order=random", *DIGITS),
    "pixelcnn": ("flow=pixel_maf", "data=digits", "size.depth=1"),
}


@pytest.mark.parametrize("words", SEQUENTIAL.values(), ids=SEQUENTIAL)
def test_naive_samples_are_the_same(words):
    torch.manual_seed(0)
    plain = flow(Space((1, 8, 8), levels=17), "size.width=8", *words).double()
    with initialising():
        plain.log_prob(torch.randint(17, (64, 1, 8, 8), dtype=torch.uint8))
    plain.eval()
    z = torch.randn(3, 64, dtype=torch.float64)
    with torch.no_grad():
        quick = plain.density().decode(z)
        with naive(plain):
            torch.testing.assert_close(plain.density().decode(z), quick, rtol=1e-9, atol=1e-9)
        assert torch.equal(plain.density().decode(z), quick)


REFUSED = {
    "other data": (("flow=maf", *MOONS), (*DIGITS,), r"events of shape \(2,\).*\(1, 8, 8\).*the teacher's own data"),
    "another dequantization": (
        ("flow=maf", *DIGITS),
        (*DIGITS, "dequantization=variational_small"),
        "makes reals of integers by Uniform, and this flow by Variational",
    ),
    "noise for dequantization": (
        ("flow=maf", *DIGITS, "preprocessing=affine"),
        (*DIGITS, "preprocessing=affine", "dequantization=gaussian"),
        "by Uniform, and this flow by GaussianNoise",
    ),
    "other noise": (
        ("flow=maf", *DIGITS, "preprocessing=affine", "dequantization=gaussian"),
        (*DIGITS, "preprocessing=affine", "dequantization=gaussian", "dequantization.sigma=0.2"),
        "by GaussianNoise, and this flow by GaussianNoise",
    ),
    "a smaller support": (("flow=maf", *DIGITS), (*DIGITS, "preprocessing=affine"), "no density outside a box"),
    "a cube": (
        ("flow=nis", "data=digits", "size.depth=1"),
        (*DIGITS, "preprocessing=unit"),
        "no density outside a box.*prior=gaussian",
    ),
    "labels": (("flow=maf", "context=label", *DIGITS), (*DIGITS,), "must see the same context"),
    "a learned prior": (("flow=maf", *MOONS), (*MOONS, "prior=mixture"), "prior=gaussian"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_teacher_that_does_not_fit_is_refused(teach, case):
    teacher, words, sentence = REFUSED[case]
    with pytest.raises(Refused, match=sentence) as refusal:
        student(teach(*teacher), *words)
    assert "\n" not in str(refusal.value)


def test_a_wider_teacher_is_none_to_refuse(teach):
    module, data = student(teach("flow=maf", *DIGITS, "preprocessing=affine"), *DIGITS, "preprocessing=logit")
    module.flow.log_prob(data.first_batch()[0])
    assert module.objective.shared == 1 and math.isfinite(
        module.objective(module.flow, torch.zeros(4, 1, 8, 8), {}, 0).mean().item()
    )


def test_no_teacher_and_no_best_checkpoint_are_refused(teach, tmp_path):
    with pytest.raises(Refused, match=r"give its folder, objective\.teacher="):
        Distillation()
    with pytest.raises(Refused, match=r"nowhere has no checkpoints/best.ckpt"):
        Distillation("nowhere")
    last = teach("flow=maf", *MOONS) / "checkpoints" / "last.ckpt"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(last.read_bytes())
    with pytest.raises(Refused, match=r"has no checkpoints/best.ckpt"):
        Distillation(str(tmp_path))
    with pytest.raises(Refused, match=r"objective.num_samples=0"):
        Distillation(str(tmp_path), num_samples=0)
