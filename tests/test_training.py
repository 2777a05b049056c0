"""Training: scores, averages, schedules, objectives, and what a run leaves behind."""

import csv
import json
import math
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from engine import callback, config, prepared, run
from forked import forked
from test_resume import assert_same_run

from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.data.datamodule import FlowDataModule
from laminar.flows import noise
from laminar.flows.norm.batchnorm import BatchNorm
from laminar.flows.space import rows_of
from laminar.refused import Refused
from laminar.runs import evaluate, sample
from laminar.runs.outcome import WORST, score
from laminar.runs.run import build_module
from laminar.runs.start import resume
from laminar.training import scheduler
from laminar.training.callbacks import progress, throughput
from laminar.training.callbacks.ema import EMA
from laminar.training.callbacks.progress import Progress
from laminar.training.callbacks.throughput import Throughput
from laminar.training.checkpoint import load, read
from laminar.training.metric import MeanScore
from laminar.training.module import FlowModule
from laminar.training.objective.importance_weighted import ImportanceWeighted
from laminar.training.objective.likelihood import Likelihood
from laminar.training.objective.renyi import Renyi


def test_a_mean_score_is_numpys_in_float64():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)) + 100
    metric = MeanScore()
    for part in values.split([1, 399, 600]):
        metric.update(part)
    mean, standard_error = metric.compute()
    exact = values.double().numpy()
    assert mean.item() == pytest.approx(exact.mean(), rel=1e-12)
    assert standard_error.item() == pytest.approx(exact.std(ddof=1) / math.sqrt(1000), rel=1e-8)


class Shuffled(pl.LightningModule):
    """Weights, running statistics, a permutation and a counter."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(5))
        self.register_buffer("running", torch.zeros(3))
        self.register_buffer("permutation", torch.randperm(3072))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))


@pytest.mark.parametrize("decay", [0.9, 0.99, 0.999, 0.9999])
def test_an_average_is_of_floats_alone(decay):
    torch.manual_seed(0)
    module, ema = Shuffled(), EMA(decay)
    ema.setup(None, module, "fit")
    permutation, expected = module.permutation.clone(), None
    for step in range(1, 201):
        with torch.no_grad():
            module.weight += 0.1 * torch.randn(5)
            module.running += 1
            module.seen += 1
        now = torch.cat([module.weight.detach(), module.running]).double()
        d = min(decay, step / (9 + step))  # t = step - 1 updates stand behind the average
        expected = now if expected is None else d * expected + (1 - d) * now
        ema.on_train_batch_end(SimpleNamespace(global_step=step), module, None, None, step)
    average = ema._average_model.module
    assert torch.equal(average.permutation, permutation)
    assert average.seen.item() == 200
    torch.testing.assert_close(torch.cat([average.weight, average.running]).double(), expected, rtol=1e-5, atol=1e-5)


def test_networks_in_bfloat16_learn_with_clipped_gradients(tmp_path):
    """trainer.precision=bf16-mixed is one word, and what it learns is scored within 0.01 bits of what float32 learns."""
    words = ("coupling=rational_quadratic", "trainer.gradient_clip_val=1", "trainer.max_steps=40", "size.width=32")
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        folder = tmp_path / precision
        run(prepared(folder, *words, f"trainer.precision={precision}"), folder)
        found[precision] = json.loads((folder / "metrics.json").read_text())["test/bpd"]
    assert found["bf16-mixed"] == pytest.approx(found["32-true"], abs=0.01) and found["bf16-mixed"] != found["32-true"]


@pytest.mark.slow  # for a minute or two, in which it compiles
def test_a_compiled_flow_learns_scores_and_draws_the_same(tmp_path):
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler")
    words, said = ("coupling=rational_quadratic", "trainer.val_check_interval=10"), tmp_path / "said"

    def task():
        for compiled in ("false", "true"):
            folder = tmp_path / compiled
            run(prepared(folder, *words, f"compile={compiled}", "trainer.max_steps=10"), folder)
            run(prepared(folder, *words, f"compile={compiled}"), folder)  # which goes on
        for compiled in ("false", "true"):
            asked = [f"run={folder}", f"compile={compiled}", "device=cpu"]
            evaluate.start(compose("evaluate", [*asked, f"num_samples={2 + (compiled == 'true')}"]))
            sample.start(compose("sample", [*asked, "n=20", f"out={tmp_path / compiled}.npz"]))

    assert forked(task, said) == 0, said.read_text()  # in a process of its own, for compilers leave some behind
    assert said.read_text().count("compile=true: batches of a new size compile first") == 4
    eager, compiled = (json.loads((tmp_path / name / "metrics.json").read_text())["test/bpd"] for name in ("false", "true"))
    assert compiled == pytest.approx(eager, abs=1e-4)
    for samples in (2, 3):
        scored = json.loads((tmp_path / "true" / "evaluations" / f"test-K{samples}.json").read_text())["bpd"]
        assert scored == pytest.approx(compiled, abs=0.05)
    one, other = (np.load(tmp_path / f"{name}.npz")["images"] for name in ("false", "true"))
    assert (one == other).mean() > 0.99  # a value on the edge of two levels may fall to either


def test_the_way_back_of_an_autoregressive_flow_is_not_compiled(tmp_path):
    run(prepared(tmp_path, "flow=maf", "size.steps=1", "size.width=64", "trainer.max_steps=1", "test=false"), tmp_path)
    with pytest.raises(Refused, match="each step of an autoregressive flow's way back"):
        sample.start(compose("sample", [f"run={tmp_path}", "compile=true", "device=cpu"]))


def test_a_machine_that_compiles_nothing_is_told_what_it_lacks(tmp_path, monkeypatch):
    def fails(function):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand a page of hints")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(Refused, match=r"^compile=true needs a compiler.*\(InvalidCxxCompiler: .* found\): install a C\+\+"):
        run(prepared(tmp_path, "compile=true"), tmp_path)
    assert not (tmp_path / "metrics.json").exists() and not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(("compiled", "rate"), [(False, 220 / 32), (True, 100 / 1)])
def test_what_is_scored_a_second_leaves_out_what_compiled(compiled, rate, monkeypatch):
    now, watch = SimpleNamespace(time=0.0), Throughput()
    monkeypatch.setattr(throughput, "now", lambda device: now.time)
    trainer, module = SimpleNamespace(world_size=1), SimpleNamespace(config={"compile": compiled}, device=None)
    watch.on_test_epoch_start(trainer, module)
    for rows, seconds in ((100, 30.0), (100, 1.0), (20, 1.0)):
        watch.on_test_batch_start(trainer, module, None)
        now.time += seconds
        watch.on_test_batch_end(trainer, module, None, [torch.zeros(rows)], 0)
    assert watch.scored / watch.scoring == rate


def test_what_is_left_is_reckoned_from_steps_that_take_as_long_as_they_will(monkeypatch):
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(progress, "monotonic", lambda: now.time)
    watch, trainer = Progress(), SimpleNamespace(global_step=0, world_size=1, estimated_stepping_batches=11, callbacks=[])
    watch.on_train_start(trainer, None)
    watch.said = math.inf
    left = []
    for seconds in (60.0, 2.0, 2.0):  # the first step compiles
        now.time, trainer.global_step = now.time + seconds, trainer.global_step + 1
        watch.on_train_batch_end(trainer, None, None, [torch.zeros(4)], 0)
        left.append(watch.left(trainer, 11))
    assert left == [None, 18.0, 16.0]


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged")
    spoil = callback("NaNAt", step=15, name="transform.parts.3.bodies.0.parts.0.coupling.net.head.weight", value=9.0)
    average = ["callbacks=[nonfinite,signals,ema,checkpoints]", "callbacks.ema.decay=0.8", "optimizer.lr=0.01"]
    plain = prepared(folder, *average, *spoil)  # so the best weights are not the last ones
    return folder, plain, run(plain, folder)


def test_an_average_is_validated_saved_and_reported(averaged):
    folder, plain, numbers = averaged
    best = read(folder / "checkpoints" / "best.ckpt")
    head = next(name for name in best["state_dict"] if name.endswith("head.weight"))
    assert not torch.equal(best["state_dict"][head], best["current_model_state"][head])
    assert best["callbacks"]["Checkpoints"]["best"] == pytest.approx(numbers["val/bpd"], rel=1e-6)

    flow, _ = load(folder)
    data = FlowDataModule(build(plain["data"], "data"), build(plain["dequantization"], "flow"), plain["seed"])
    with torch.no_grad(), noise.source(noise.mix(0, 2, 0, np.arange(360))):
        nats = flow.log_prob(data.splits.test.values)
    assert (-nats / (64 * math.log(2))).mean().item() == pytest.approx(numbers["test/bpd"], rel=1e-6)


def test_a_run_folder_holds_what_a_run_was(averaged):
    folder, _, numbers = averaged
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "environment.json", "metrics.csv", "metrics.json", "train.log", "checkpoints")
    }
    assert json.loads((folder / "metrics.json").read_text()) == numbers
    assert {
        "val/bpd",
        "val/bpd_se",
        "test/bpd",
        "test/bpd_se",
        "grade",
        "num_samples",
        "parameters",
        "seconds",
    } <= numbers.keys()
    assert numbers["grade"] == "bound" and numbers["num_samples"] == 1
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["seed"] == 0 and environment["split"]["test"]["rows"] == 360
    assert environment["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    with (folder / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/bpd"]]
    assert steps == list(range(20))


def test_a_checkpoint_holds_tensors_and_plain_containers_only(averaged):
    def walk(node):
        if isinstance(node, dict):
            for key, value in node.items():
                assert type(key) in (str, int), key
                walk(value)
        elif isinstance(node, list | tuple):
            for value in node:
                walk(value)
        else:
            assert node is None or type(node) in (str, int, float, bool, torch.Tensor), type(node)

    for name in ("last", "best"):
        content = torch.load(averaged[0] / "checkpoints" / f"{name}.ckpt", weights_only=True)
        walk({key: value for key, value in content.items() if key != "state_dict"} | {"weights": dict(content["state_dict"])})
        assert content["laminar"]["config"] == averaged[1]


def rates(schedule, steps, lr=2.0, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=lr)
    lrs, schedule = [], schedule(optimizer, **options)
    for _ in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return lrs


def test_schedules_are_their_formulas():
    assert rates(scheduler.warmup, 6, warmup=4) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])
    fall = [1 + math.cos(math.pi * t / 8) for t in range(9)]
    assert rates(scheduler.cosine, 12, warmup=2, total=10) == pytest.approx([1.0, 2.0, *fall, 0.0])
    assert rates(scheduler.cosine, 10, warmup=0, total=5, floor=0.1)[-1] == pytest.approx(0.2)
    assert rates(scheduler.exponential, 4, decay=0.5, warmup=1) == pytest.approx([2.0, 2.0, 1.0, 0.5])
    assert rates(scheduler.exponential, 4, decay=0.5, floor=0.3)[-1] == pytest.approx(0.6)


class Weighed:
    """A flow of given log importance weights."""

    noisy = False

    def __init__(self, log_weights):
        self.weights = log_weights

    def log_weights(self, x, context, num_samples):
        return self.weights[:num_samples]

    def log_prob(self, x, context=None, num_samples=1):
        return self.weights[:num_samples].logsumexp(0) - math.log(num_samples)


def test_objectives_are_their_formulas():
    weights = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flow = Weighed(weights)
    assert torch.equal(Likelihood()(flow, None, None, 0), weights[0])
    bound = ImportanceWeighted(5)(flow, None, None, 0)
    torch.testing.assert_close(bound, weights.exp().mean(0).log())
    torch.testing.assert_close(Renyi(0.0, 5)(flow, None, None, 0), bound)
    torch.testing.assert_close(Renyi(1.0, 5)(flow, None, None, 0), weights.mean(0))
    torch.testing.assert_close(Renyi(1 - 1e-6, 5)(flow, None, None, 0), weights.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(Renyi(0.5, 5)(flow, None, None, 0), 2 * weights.exp().sqrt().mean(0).log())
    torch.testing.assert_close(Renyi(-2000.0, 5)(flow, None, None, 0), weights.max(0).values, rtol=0, atol=1e-2)
    for alpha, higher in ((-1, 0), (0, 0.5), (0.5, 1), (1, 2)):
        assert (Renyi(alpha, 5)(flow, None, None, 0) >= Renyi(higher, 5)(flow, None, None, 0)).all()


@pytest.mark.parametrize(
    "choice",
    ["objective=importance_weighted", "objective=renyi", "optimizer=adamw", "optimizer=adamax", "scheduler=exponential"],
)
def test_every_choice_trains(tmp_path, choice):
    numbers = run(prepared(tmp_path, choice, "trainer.max_steps=2", "trainer.val_check_interval=2", "num_samples=3"), tmp_path)
    assert math.isfinite(numbers["test/bpd"])


def test_real_data_are_scored_in_nats(tmp_path):
    plain = prepared(tmp_path, "data=moons", "data.batch_size=512", "trainer.max_steps=2", "trainer.val_check_interval=2")
    numbers = run(plain, tmp_path)
    assert numbers["grade"] == "exact" and math.isfinite(numbers["test/nll"]) and "test/bpd" not in numbers
    assert score(plain, numbers) == numbers["val/nll"]


def test_a_sweep_is_never_told_a_nan():
    plain = {"optimized_metric": None}
    assert score(plain, {}) == score(plain, {"val/bpd": math.nan}) == score(plain, {"val/bpd": math.inf}) == WORST
    assert score({"optimized_metric": "test/bpd"}, {"val/bpd": 1.0, "test/bpd": 2.0}) == 2.0


@pytest.fixture(scope="module")
def module():
    plain = config()
    data = FlowDataModule(build(plain["data"], "data"), build(plain["dequantization"], "flow"))
    module = build_module(plain, build(plain["flow"], "flow")(data.space))
    return module, data.splits.train


def scores(module, rows, index, stage, epoch):
    index = torch.tensor(index)
    batch = rows.values[index], rows_of(rows.context, index), index, epoch
    with torch.no_grad():
        return FlowModule.ask(module, Likelihood(), batch, stage, 0)


def test_an_examples_noise_knows_neither_batch_nor_evaluation_epoch(module):
    module, rows = module
    whole = scores(module, rows, [3, 1, 4, 5], "train", 2)
    torch.testing.assert_close(scores(module, rows, [4, 3], "train", 2), whole[[2, 0]])
    assert not torch.allclose(scores(module, rows, [3, 1, 4, 5], "train", 3), whole)
    validation = scores(module, rows, [3, 1], "val", 2)
    torch.testing.assert_close(scores(module, rows, [3, 1], "val", 7), validation)
    assert not torch.allclose(validation, whole[:2])


def test_early_stopping_stops(tmp_path):
    stopping = ["callbacks=[early_stopping,checkpoints]", "callbacks.early_stopping.patience=2", "optimizer.lr=0.0"]
    assert run(prepared(tmp_path, *stopping, "test=false"), tmp_path)["steps"] == 12


def test_an_average_cannot_be_taken_of_an_estimate():
    noisy = SimpleNamespace(noisy=True, grade="estimate", units=("nll",), space=SimpleNamespace(unit="nll"))
    with pytest.raises(Refused, match="graded estimate"):
        FlowModule(noisy, None, None, num_samples=2)


def test_help_is_quick_and_imports_no_torch():
    code = (
        "import sys; sys.argv[1:] = ['--help']; from laminar.commands.train import main; main(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert "laminar-train -m coupling=" in done.stdout and "realnvp" in done.stdout


def test_a_pipe_gets_a_line_for_each_validation(tmp_path, capsys):
    run(prepared(tmp_path, "callbacks=[progress,checkpoints]", "test=false"), tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [int(line.split()[1]) for line in lines] == [4, 8, 12, 16, 20]
    assert all("val/bpd" in line and "train/bpd" in line for line in lines)


MAF = ("flow=maf", "data=moons", "data.batch_size=500", "data.train_size=3000", "data.test_size=500", "norm.rows=2000")
MAF += ("trainer.max_steps=10", "trainer.val_check_interval=5", "callbacks=[ema,checkpoints]", "callbacks.ema.decay=0.5")


def test_batch_norms_are_evaluated_by_the_training_split(tmp_path):
    """In ``best.ckpt`` each norm has the moments of what the parts before it make of the rows: one full-batch pass."""
    plain = prepared(tmp_path / "whole", *MAF)
    run(plain, tmp_path / "whole")
    flow, _ = load(tmp_path / "whole")
    data = FlowDataModule(build(plain["data"], "data"), None, plain["seed"])
    x = data.some_rows(2000)[0]
    assert len(x) == 2000 and len(data.some_rows(10**6)[0]) == len(data.splits.train)
    norms = 0
    with torch.no_grad():
        for part in flow.double().transform.parts[:-1]:
            x = part(x)[0]
        for part in flow.transform.parts[-1].parts:
            if isinstance(part, BatchNorm):
                norms += 1
                torch.testing.assert_close(part.running_mean, x.mean(0), rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(part.running_var, x.var(0, correction=0), rtol=1e-4, atol=1e-5)
            x = part(x)[0]
    assert norms == plain["size"]["steps"] == 2

    run(prepared(tmp_path / "parts", *MAF, "trainer.max_steps=5"), tmp_path / "parts")
    resume(tmp_path / "parts", ["trainer.max_steps=10"])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
