"""Numbers against something that nobody in the house has computed: what a mistake would change in silence."""

from functools import partial
from itertools import permutations
from math import log, pi
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine import callback, prepared, run
from pytorch_lightning.callbacks import Callback
from recipes import TRANSFORMS, batch, context_of, disturb, mlp
from test_bidirectional import COLOURED, ladder, rows
from test_variational import TINY, gaussian, made, posterior, vae
from torch import Tensor, nn

from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.data.datamodule import FlowDataModule
from laminar.data.source import Split
from laminar.flows import ledger, noise
from laminar.flows.compose.chain import Chain
from laminar.flows.compose.multiscale import Multiscale
from laminar.flows.context.label import Label
from laminar.flows.coupling.affine import Affine, Exp
from laminar.flows.dequantization.gaussian import GaussianNoise
from laminar.flows.dequantization.none import Reals
from laminar.flows.dequantization.uniform import Uniform as UniformNoise
from laminar.flows.draw import draw
from laminar.flows.flow import Flow
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.layer.continuous import Continuous
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.layer.variational import Variational
from laminar.flows.mask.scheme import Scheme
from laminar.flows.net.concat import Concat
from laminar.flows.observation.gaussian import Gaussian as GaussianObservation
from laminar.flows.order.sequential import Sequential
from laminar.flows.preprocessing.logit import Logit
from laminar.flows.preprocessing.sigmoid import Sigmoid
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.prior.uniform import Uniform
from laminar.flows.reshape.squeeze import Squeeze
from laminar.flows.solver.dopri5 import Dopri5
from laminar.flows.space import Space
from laminar.flows.trace.exact import Exact
from laminar.runs.evaluate import start as evaluate_start
from laminar.runs.scoring import accuracy, paired
from laminar.training.checkpoint import read
from laminar.training.logger.csv import read as rows_of_csv
from laminar.training.logger.wandb import WandB
from laminar.training.metric import LogWeights
from laminar.training.objective.annealed import Annealed
from laminar.training.objective.flow_matching import FlowMatching
from laminar.training.objective.flow_matching import paired as pairs
from laminar.training.objective.likelihood import Likelihood
from laminar.training.path.straight import Straight


def colours(folder, rows=120):
    """uint8 images of three channels, each value uniform over the 256 levels: 8 bits/dim, and no model knows better."""
    folder.mkdir(exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (rows, 4, 2, 3), dtype=np.uint8)
    np.savez(folder / "colours.npz", images=images)
    return "data=npz", f"data.path={folder / 'colours.npz'}", "data.batch_size=40"


def test_uniform_colours_take_eight_bits_a_dimension_wherever_they_are_told(tmp_path):
    """Of images with three channels, by a flow that is uniform but for its start."""
    folder, words = tmp_path / "run", ("flow=nis", "size.depth=1", "trainer.max_steps=1", "trainer.val_check_interval=1")
    numbers = run(prepared(folder, *words, "optimizer.lr=0.0", *colours(tmp_path)), folder)
    told = [numbers["val/bpd"], numbers["test/bpd"]]
    told += [float(row["train/bpd"]) for row in rows_of_csv(folder / "metrics.csv") if row["train/bpd"]]
    told += [evaluate_start(compose("evaluate", [f"run={folder}", "num_samples=3"]))]
    assert told == pytest.approx([8] * 4, abs=0.1)


class Listening:
    """A law or an observation, and in which precision it was told what."""

    def __init__(self, heard: nn.Module):
        self.heard, self.types = heard, []

    def __getattr__(self, name: str):
        return getattr(self.heard, name)

    def _listened(name: str):
        def told(self, *tensors: Tensor):
            self.types += [tensor.dtype for tensor in tensors]
            return getattr(self.heard, name)(*tensors)

        return told

    __call__, inverse, log_prob, sample, quantile = map(_listened, ("__call__", "inverse", "log_prob", "sample", "quantile"))


READERS = ("step_conditional", "autoregressive_conditional", "autoregressive_pixelcnn", "autoregressive_jacobi_made")
READERS += ("elementwise_conditional", "elementwise_net")


@pytest.mark.parametrize("name", [*READERS, "variational", "variational_local", "bidirectional"])
def test_laws_and_observations_are_told_in_float32_what_nets_answer_in_half_precision(name):
    if name in READERS:
        recipe, space = TRANSFORMS[name]
        part = disturb(recipe(space)).eval()
        x, context = batch(space, dtype=torch.float32), context_of(space, dtype=torch.float32)
    elif name == "bidirectional":
        flow, (x, context) = ladder(COLOURED).float(), rows(COLOURED)
        part, context = flow.transform, flow.context(context)
    else:
        part, context = vae(TINY, **({"local": made, "planes": 2} if "local" in name else {})).float().transform, None
        x = torch.tensor([[0, 1, 1], [1, 0, 1]], dtype=torch.uint8)
    told, halves = [], []
    for module in part.modules():
        for reader in {"law", "observation"} & vars(module).keys():
            told.append(Listening(getattr(module, reader)))
            setattr(module, reader, told[-1])
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda layer, given, answer: halves.append(answer.dtype == torch.bfloat16))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        part.inverse(part(x, context)[0], context)
    assert any(halves)
    assert told and all(one.types and set(one.types) == {torch.float32} for one in told)


def test_the_noise_of_three_levels_holds_what_each_let_go_in_their_order():
    part = Multiscale(Space((1, 8, 8)), Scheme([Squeeze]), None, levels=3)
    x = torch.arange(128.0).view(2, 1, 8, 8)
    first = nn.functional.pixel_unshuffle(x, 2)
    second = nn.functional.pixel_unshuffle(first[:, :2], 2)
    third = nn.functional.pixel_unshuffle(second[:, :4], 2)
    expected = [first[:, 2:].flatten(1), second[:, 4:].flatten(1), third.flatten(1)]
    z, _ = part(x)
    assert torch.equal(z, torch.cat(expected, 1)) and torch.equal(part.inverse(z), x)
    assert all(torch.equal(z[:, here], gone) for here, gone in zip(part.slices, expected, strict=True))


def test_an_exact_likelihood_knows_no_number_of_samples():
    flow, x = Flow(Space((2,)), partial(Chain, parts=[]), Gaussian), torch.randn(5, 2)
    for num_samples in (1, 7):
        torch.testing.assert_close(flow.log_prob(x, num_samples=num_samples), -0.5 * x.square().sum(1) - log(2 * pi))


def test_a_flow_that_tells_no_class_from_another_says_the_most_frequent_one():
    split = Split.whole(torch.zeros(6, 2), torch.tensor([0, 1, 1, 2, 1, 0]))
    ignorant = SimpleNamespace(device="cpu", log_prob=lambda x, context, num_samples: torch.zeros(len(x)))
    assert accuracy(ignorant, split, noise.mix(0, range(6)), 4, torch.tensor([10, 30, 20]), 1)["accuracy"] == 0.5


@pytest.mark.parametrize(("interval", "fallen"), [("step", 12), ("epoch", 2)])
def test_a_schedule_counts_optimizer_steps_or_epochs_and_no_micro_batches(tmp_path, interval, fallen):
    """12 steps of two micro-batches, 6 of them an epoch; the rate halves with each that is counted."""
    schedule = ("scheduler=exponential", "scheduler.recipe.decay=0.5", "scheduler.recipe.warmup=0", "scheduler.recipe.floor=0")
    words = ("trainer.accumulate_grad_batches=2", "trainer.max_steps=12", "test=false", f"scheduler.interval={interval}")
    run(prepared(tmp_path, *schedule, *words, "optimizer.lr=1.0e-3"), tmp_path)
    (state,) = read(tmp_path / "checkpoints" / "last.ckpt")["optimizer_states"]
    assert state["param_groups"][0]["lr"] == pytest.approx(1e-3 * 0.5**fallen)


def test_what_is_hard_for_both_flows_cancels_row_by_row():
    """One flow gives each row half a nat more than the other: it is better by that, without any error."""

    def knows(more: float) -> SimpleNamespace:
        kind = {"device": "cpu", "noisy": False, "unit": "nll", "space": SimpleNamespace(size=1)}
        return SimpleNamespace(**kind, estimates=lambda x, context, repeats: x.T + more)

    split = Split.whole(torch.randn(50, 1) * 10)
    found = paired(knows(0.5), knows(0.0), split, noise.mix(0, range(50)), 8, [(1, 1), (1, 1)])
    assert found["difference"] == pytest.approx(-0.5, abs=1e-6) and found["difference_se"] < 1e-6


def test_half_of_a_diagonal_squeezes_channels_is_a_checkerboard():
    i, j = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    image = ((i + j) % 2).float().expand(1, 3, -1, -1)
    z, _ = Squeeze(Space((3, 4, 6)), order="diagonal")(image)
    assert not z[:, :6].any() and z[:, 6:].all()


def test_what_is_kept_and_reported_is_the_lowest_validation(tmp_path):
    """The weights are spoilt half way, so that it is neither the first nor the last."""
    spoil = callback("NaNAt", step=13, name="transform.parts.3.bodies.0.parts.0.coupling.net.head.weight", value=9.0)
    numbers = run(prepared(tmp_path, "optimizer.lr=0.01", *spoil), tmp_path)
    scores = [float(row["val/bpd"]) for row in rows_of_csv(tmp_path / "metrics.csv") if row["val/bpd"]][:5]
    assert scores[-1] > min(scores) < scores[0]
    assert numbers["val/bpd"] == pytest.approx(min(scores), rel=1e-6)


def test_a_picture_is_logged_at_its_step(tmp_path):
    logger, seen = object.__new__(WandB), []
    logger.log_image = lambda name, images, step=None: seen.append((name, images, step))
    logger.log_picture("samples", tmp_path / "samples.png", 7)
    assert seen == [("samples", [str(tmp_path / "samples.png")], 7)]


def test_a_score_of_standardised_values_differs_by_the_columns_deviations(tmp_path):
    """Of columns that are 20 and 1/2 wide: what stands in another unit is told in both, by the training rows' deviations."""
    values = np.random.default_rng(0).normal([100.0, 0.0], [20.0, 0.5], (300, 2)).astype(np.float32)
    np.save(tmp_path / "rows.npy", values)
    words = ("data=table", f"data.path={tmp_path / 'rows.npy'}", "flow=gaussian", "data.batch_size=100", "trainer.max_steps=1")
    plain = prepared(tmp_path / "run", *words, "trainer.val_check_interval=1")
    numbers = run(plain, tmp_path / "run")
    train = FlowDataModule(build(plain["data"], "data"), None, plain["seed"]).splits.train.values.numpy().astype(np.float64)
    moved = numbers["test/nll"] - numbers["test/nll_standardised"]
    assert moved == pytest.approx(np.log(train.std(0)).sum(), abs=1e-4) and moved > 2


def test_a_logit_keeps_its_margin_at_both_ends():
    for alpha in (0.05, 0.25):
        z, _ = Logit(Space((2,), upper=16.0), alpha)(torch.tensor([[0.0, 16.0]], dtype=torch.float64))
        expected = torch.tensor([[alpha, 1 - alpha]], dtype=torch.float64).logit()
        torch.testing.assert_close(z, expected)


@pytest.mark.parametrize(("dequantizer", "least"), [(UniformNoise, 0.0), (GaussianNoise, -0.5)])
def test_what_leaks_is_what_would_be_clamped(dequantizer, least):
    """Of 4 levels, from where the lowest begins to where the highest ends."""
    z = torch.tensor([-0.1, 0.1, 3.9, 4.1])[:, None] + least
    assert dequantizer(Space((1,), levels=4)).outside(z).tolist() == [True, False, False, True]


def test_flow_matching_ends_at_what_the_priors_draws_are_before_the_parts_behind():
    """Uniform draws behind a sigmoid: where the path ends, they are logistic."""
    ends = []

    class Told(Straight):
        def __call__(self, x, z, t):
            ends.append(z)
            return super().__call__(x, z, t)

    layer = partial(Continuous, net=partial(Concat, width=4, depth=1), trace=Exact, solver=Dopri5)
    flow = Flow(Space((3,)), partial(Chain, parts=[Reals, layer, Sigmoid]), Uniform)
    objective = FlowMatching(Told())
    with noise.source(noise.mix(0, range(5))):
        objective(flow, torch.randn(5, 3), {}, 0)
    with noise.source(noise.mix(0, range(5))):
        torch.testing.assert_close(ends[0], flow.prior.sample(5).logit())


def vae_of_reals(latent: int, *before, **options) -> Flow:
    """Off its start; ``before`` are parts between the data and it."""
    stop = partial(Variational, latent=latent, encoder=mlp, decoder=mlp, posterior=posterior(gaussian), features=4)
    torch.manual_seed(0)
    parts = partial(Chain, parts=[*before, partial(stop, observation=GaussianObservation)])
    return disturb(Flow(Space((3,), **options), parts, Gaussian, **({"context": Label} if options else {}))).double().eval()


def test_an_annealed_bound_counts_what_stands_before_the_latents_once():
    flow, x = vae_of_reals(2, partial(Elementwise, law=partial(Affine, Exp()))), torch.randn(6, 3, dtype=torch.float64)
    assert flow.transform.parts[0](x)[1].abs().min() > 0.1
    scores = []
    for objective in (Annealed(), Likelihood()):
        with noise.source(noise.mix(0, range(6))):
            scores.append(objective(flow, x, None, 0))
    torch.testing.assert_close(*scores)


def test_free_bits_are_granted_to_each_value_of_a_vector():
    flow, x = vae_of_reals(4), torch.randn(6, 3, dtype=torch.float64)
    with ledger.noting() as notes:
        found = Annealed(free=100.0)(flow, x, None, 0)
    torch.testing.assert_close(found, -notes["distortion"][0] - 4 * 100.0)


def test_what_a_decoder_draws_knows_the_context():
    flow = vae_of_reals(2, context={"label": (3,)})
    stop, z, label = flow.transform.parts[0], torch.zeros(3, 2, dtype=torch.float64), torch.arange(3)
    drawn = flow.decode(z, {"label": label}, mean=True)
    torch.testing.assert_close(drawn, stop.decoder(z, {"label": torch.eye(3, dtype=torch.float64)})[:, 0])
    assert (drawn[0] - drawn[1]).abs().max() > 0.01


@pytest.mark.parametrize("normalised", [False, True])
def test_what_two_weights_tell(normalised):
    """1 and 3, times e^2: their mean's square is 4, that of their squares 5; a Z that is known to be 1 is not asked for."""
    found = LogWeights(normalised)
    found.update(torch.tensor([1.0, 3.0]).log() + 2)
    told = {name: value.item() for name, value in found.compute().items()}
    assert told["ess"] == pytest.approx(4 / 5) and told["log_z"] == pytest.approx(log(2) + 2)
    assert told["kl"] == pytest.approx((0 if normalised else log(2) + 2) - (log(3) / 2 + 2))


def test_pairs_are_the_best_within_every_class():
    torch.manual_seed(0)
    x, z, label = torch.randn(8, 2), torch.randn(8, 2), torch.tensor([1, 0, 1, 1, 0, 0, 0, 1])
    found = pairs(x, z, {"label": torch.eye(2)[label]})
    for group in (0, 1):
        here = label == group
        orders = [z[here][list(order)] for order in permutations(range(4))]
        costs = [(x[here] - order).square().sum().item() for order in orders]
        assert (x[here] - found[here]).square().sum().item() == pytest.approx(min(costs)) and min(costs) < costs[0]


@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_cold_draws_are_all_the_same(guidance):
    """Wherever a temperature is asked for: by the flow, and by what draws in chunks for the command and the pictures."""
    layer = partial(Autoregressive, law=partial(Affine, Exp()), net=made, order=Sequential)
    flow = Flow(Space((3,), context={"label": (2,)}), partial(Chain, parts=[layer]), Gaussian, partial(Label, dropout=0.1))
    flow, context = disturb(flow).eval(), {"label": torch.ones(6, dtype=torch.int64)}
    for way in (flow.sample, partial(draw, flow, chunk=4)):
        assert way(6, context, 1e-4, guidance=guidance).std(0).max() < 1e-2
        assert way(6, context, guidance=guidance).std(0).min() > 0.1


class Watching(Callback):
    """Averages weights by hand, and looks at those that are validated and at those that training goes on with."""

    compared = 0

    def on_train_batch_start(self, trainer, module, *args) -> None:
        if trainer.global_step:
            torch.testing.assert_close(weights_of(module), self.current)

    def on_train_batch_end(self, trainer, module, *args) -> None:
        self.current, step = weights_of(module), trainer.global_step
        decay = min(0.8, step / (9 + step))
        self.average = self.current if step == 1 else decay * self.average + (1 - decay) * self.current

    def on_validation_batch_start(self, trainer, module, *args) -> None:
        if trainer.state.fn == "fit":
            torch.testing.assert_close(weights_of(module), self.average, rtol=1e-4, atol=1e-6)
            Watching.compared += 1


def weights_of(module) -> Tensor:
    return nn.utils.parameters_to_vector(module.flow.parameters()).detach().clone()


def test_an_average_is_what_is_validated_and_never_what_is_trained(tmp_path):
    words = ("callbacks=[ema,checkpoints]", "callbacks.ema.decay=0.8", "trainer.max_steps=8", "optimizer.lr=0.01", "test=false")
    watching = ("allow=[test_truth]", "+callbacks.watching={_target_: test_truth.Watching}")
    run(prepared(tmp_path, *words, *watching), tmp_path)
    import test_truth  # by the name under which the run knows it

    assert test_truth.Watching.compared == 2


def test_copies_of_a_row_keep_its_context():
    """Many samples of many rows at once are those of each row alone, whose class is its own."""
    space = Space((4,), levels=5, context={"label": (3,)})
    layer = partial(Autoregressive, law=partial(Affine, Exp()), net=made, order=Sequential)
    flow = disturb(Flow(space, partial(Chain, parts=[UniformNoise, layer]), Gaussian, Label)).double().eval()
    x, label, keys = torch.randint(5, (6, 4), dtype=torch.uint8), torch.arange(6) % 3, noise.mix(0, range(6))
    with noise.source(keys):
        found = flow.log_weights(x, {"label": label}, 4, chunk=100)
    for i in range(6):
        with noise.source(keys[i : i + 1]):
            alone = flow.log_weights(x[i : i + 1], {"label": label[i : i + 1]}, 4)
        torch.testing.assert_close(found[:, i : i + 1], alone)


def test_a_run_that_gets_better_is_not_stopped(tmp_path):
    stopping = ("callbacks=[early_stopping,checkpoints]", "callbacks.early_stopping.patience=1", "optimizer.lr=1.0e-4")
    assert run(prepared(tmp_path, *stopping, "test=false"), tmp_path)["steps"] == 20


WHOLE = ("conv1x1", "linear", "plu", "triangular", "householder", "continuous", "residual")


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name.startswith(WHOLE)])
def test_what_a_log_det_depends_on_as_a_whole_knows_no_half_precision(name):
    """Matrices, and nets whose Jacobian is the log-det: autocast changes nothing."""
    recipe, space = TRANSFORMS[name]
    part, x, context = disturb(recipe(space)).eval(), batch(space, dtype=torch.float32), context_of(space, dtype=torch.float32)
    answers = []
    for half in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            z, log_det = part(x, context)
            answers.append((z, log_det, part.inverse(z, context)))
    for one, other in zip(*answers, strict=True):
        assert torch.equal(one, other)
