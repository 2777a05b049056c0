"""TarFlow: its counts, decoding of all patches at once, guidance, and samples without their noise."""

from functools import partial

import pytest
import torch
from pages import CIFAR, DIGITS, flow, parameters
from parts import refuses
from recipes import IMAGE, LAWS, VECTOR, autoregressive, batch, context_of, disturb, made, mlp, step, transformer

from laminar.flows.compose.chain import Chain
from laminar.flows.context.label import Label
from laminar.flows.dequantization.gaussian import GaussianNoise
from laminar.flows.flow import Flow
from laminar.flows.guidance import guided
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.mask.parity import Parity
from laminar.flows.net.jacobi import jacobi
from laminar.flows.order.random import Random
from laminar.flows.preprocessing.affine import Affine as Rescale
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.space import Space
from laminar.refused import Refused

LABELLED = Space((2, 3, 3), context={"label": (3,)})
NETS = {"transformer": (transformer, IMAGE), "told": (transformer, LABELLED), "made": (partial(made, width=40), VECTOR)}


@pytest.mark.parametrize(
    ("space", "words", "count"),
    [
        (Space((3, 64, 64), levels=256), "", 460_142_784),
        (Space((3, 64, 64), levels=256, context={"label": (1000,)}), "context=label", 466_286_784),
        (Space((1, 28, 28), levels=256), "size.patch=4 size.width=128 size.depth=4 size.steps=4", 3_222_656),
    ],
)
def test_published_parameter_counts(space, words, count):
    assert parameters(space, "flow=tarflow", *words.split()) == count


def cooked(net: str, law: str = "affine_bounded", scale: float = 0.3) -> Autoregressive:
    recipe, space = NETS[net]
    torch.manual_seed(0)
    return disturb(autoregressive(LAWS[law], recipe, Random)(space), scale).double()


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("law", ["affine_bounded", "mixture_logistic", "rational_quadratic"])
def test_all_at_once_leads_where_step_after_step_does(net, law):
    layer, space = cooked(net, law), NETS[net][1]
    z, context = batch(space, 8), context_of(space, 8)
    with torch.no_grad():
        expected = layer.inverse(z, context)
        layer.decode_by("jacobi")
        torch.testing.assert_close(layer.inverse(z, context), expected, rtol=1e-9, atol=1e-9)
        for row in (slice(0, 1), slice(3, 5)):  # rows are alone, whenever the others are through
            alone = layer.inverse(z[row], context and {k: v[row] for k, v in context.items()})
            torch.testing.assert_close(alone, expected[row], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("net", NETS)
def test_gradients_of_all_at_once_are_those_of_step_after_step(net):
    layer, space = cooked(net), NETS[net][1]
    z, context = batch(space, 8).requires_grad_(), context_of(space, 8)
    learned, found = [z, *layer.parameters()], []
    for inverse in ("sequential", "jacobi"):
        layer.decode_by(inverse)
        x, log_det = layer.inverse_with_log_det(z, context)
        found.append(torch.autograd.grad(x.pow(3).sum() + log_det.sum(), learned))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_trial_values_that_overflow_poison_nothing(net, poison):
    layer, space = cooked(net), NETS[net][1]
    z, context = batch(space, 4), context_of(space, 4)
    rounds = []

    def solve(z, params):
        x = layer.law.inverse(z, params)
        rounds.append(len(rounds))
        if len(rounds) < 4:  # steps that are not through yet
            x = torch.where(torch.arange(x.shape[-1]) > 1, poison, x)
        return x

    with torch.no_grad():
        expected = layer.inverse(z, context)
        torch.testing.assert_close(jacobi(layer.net, solve, z, context), expected, rtol=1e-9, atol=1e-9)
    assert len(rounds) <= layer.net.steps().size + 4


def test_rounds_are_at_most_steps_even_where_every_step_matters():
    layer, rounds = cooked("transformer", scale=0.5), []

    def solve(z, params):
        rounds.append(z.shape[-1])
        return layer.law.inverse(z, params)

    z = batch(IMAGE, 4)
    with torch.no_grad():
        x = jacobi(layer.net, solve, z)
        torch.testing.assert_close(layer(x)[0], z, rtol=1e-6, atol=1e-6)
    assert len(rounds) <= layer.net.steps().size
    assert rounds == sorted(rounds, reverse=True) and rounds[-1] < rounds[0]  # what is through is not computed again


@pytest.mark.parametrize("window", [1, 4])
def test_a_window_smaller_than_the_event_moves_on_with_what_is_through(window, monkeypatch):
    layer, z, widths = cooked("transformer"), batch(IMAGE, 8), []

    def solve(z, params):
        widths.append(z.shape[-1])
        return layer.law.inverse(z, params)

    with torch.no_grad():
        expected = layer.inverse(z)
        assert layer.net.ahead(None).window(torch.zeros(1000, 1, 400)) >= 32  # many rows, many steps: still a few at once
        monkeypatch.setattr("laminar.flows.net.transformer._Ahead.window", lambda self, x: window)
        torch.testing.assert_close(jacobi(layer.net, solve, z), expected, rtol=1e-9, atol=1e-9)
    assert max(widths) == window and (window > 1 or len(widths) == layer.net.steps().size)


def test_a_tolerance_saves_rounds_and_costs_as_much():
    layer, z, rounds = cooked("transformer"), batch(IMAGE, 4), {}

    def solve(z, params):
        rounds[tolerance] = rounds.get(tolerance, 0) + 1
        return layer.law.inverse(z, params)

    with torch.no_grad():
        expected = layer.inverse(z)
        for tolerance in (0.0, 1e-3):
            off = (jacobi(layer.net, solve, z, tolerance=tolerance) - expected).abs().max()
            assert off < (1e-9 if tolerance == 0 else 0.05)
    assert rounds[1e-3] < rounds[0.0]


def guided_flow() -> Flow:
    torch.manual_seed(0)
    layers = [partial(Rescale, low=-1.0, high=1.0), *[autoregressive(net=transformer)] * 2]
    space = Space((2, 3, 3), upper=1.0, context={"label": (3,)})
    return disturb(Flow(space, partial(Chain, parts=layers), Gaussian, partial(Label, dropout=0.5))).double().eval()


def test_guidance_moves_parameters_away_from_those_of_no_class():
    built = guided_flow()
    context = {"label": torch.arange(4) % 3}
    z = torch.randn(4, 18, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).view(4, 2, 3, 3)
    built.prior.sample = lambda n, temperature, drawn=z: drawn
    with torch.no_grad():
        plain, guided = built.sample(4, context), built.sample(4, context, guidance=1.5)
        seen, x = built.context(context), z
        nothing = {"label": torch.full((4, 3), 1 / 3, dtype=torch.float64)}
        for layer in reversed(built.transform.parts[1:]):  # a pass of both for each position
            done, z = torch.zeros_like(x), x
            for _ in range(9):
                told, untold = layer.params(done, seen)[0], layer.params(done, nothing)[0]
                done = layer.law.inverse(z, told + 1.5 * (told - untold))
            x = done
        torch.testing.assert_close(guided, built.transform.parts[0].inverse(x), rtol=1e-9, atol=1e-9)
        assert not torch.allclose(plain, guided)
        built.decode_by("jacobi")
        torch.testing.assert_close(built.sample(4, context, guidance=1.5), guided, rtol=1e-8, atol=1e-8)


def test_every_layer_that_reads_the_class_is_steered():
    torch.manual_seed(0)
    space = Space((4,), context={"label": (3,)})
    parts = [
        partial(Elementwise, law=LAWS["affine_exp"], conditional=True),
        partial(step(net=mlp), mask=Parity),
        autoregressive(order=Random),
    ]
    chain, told = disturb(Chain(space, parts)).double(), torch.eye(3, dtype=torch.float64)
    both = {"label": torch.cat([told, torch.full((3, 3), 1 / 3, dtype=torch.float64)])}
    z = batch(space, 3)
    with torch.no_grad(), guided(0.7):
        first, second = chain.inverse(torch.cat([z, z]), both).chunk(2)
    torch.testing.assert_close(first, second)  # each event stands twice, and stays one event
    assert not torch.allclose(first, chain.inverse(z, {"label": told}))


def test_classes_are_kept_back_in_training_alone():
    encoder = Label(Space((2,), context={"label": (4,)}), dropout=0.3)
    labels = {"label": torch.arange(4000) % 4}
    kept = encoder(labels)["label"].amax(1) == 1
    assert 0.65 < kept.float().mean() < 0.75
    assert (encoder(labels)["label"][~kept].sum(1) == 1).all()
    assert (encoder.eval()(labels)["label"].amax(1) == 1).all()


def test_denoised_samples_are_posterior_means():
    # Data N(100, 20^2) with noise of deviation s: given a noisy z the mean is 100 + (z - 100) 400 / (400 + s^2).
    torch.manual_seed(0)
    space = Space((1,), levels=256)
    noisy = Flow(space, partial(Chain, parts=[partial(GaussianNoise, sigma=0.2)]), Gaussian).double()
    sigma = float(noisy.transform.parts[0].sigma)
    spread = (400 + sigma**2) ** 0.5

    def log_prob(z, context=None):
        return torch.distributions.Normal(100.0, spread).log_prob(z)[:, 0]

    noisy.prior.sample = lambda n, temperature: 100 + spread * torch.linspace(-2, 2, n, dtype=torch.float64)[:, None]
    noisy.density = lambda: type("View", (), {"log_prob": staticmethod(log_prob)})
    z = noisy.prior.sample(9, 1.0)
    with torch.no_grad():
        cleaned, raw = noisy.sample(9), noisy.sample(9, denoise=False)
    mean = 100 + (z - 100) * 400 / (400 + sigma**2)
    assert (cleaned.double() - mean).abs().max() <= 0.5 and (raw.double() - z).abs().max() <= 0.5


def test_a_flow_of_noisy_pixels_scores_the_noisy_and_samples_without_noise():
    torch.manual_seed(0)
    small = ["size.width=16", "size.depth=1", "size.steps=2", "net.head_width=8"]
    built = flow(DIGITS, "flow=tarflow", "dequantization=gaussian", *small).eval()
    assert built.unit == "noisy_nll" and built.grade == "exact"
    x = torch.randint(17, (3, 1, 8, 8))
    assert built.log_prob(x).shape == (3,)
    with pytest.raises(Refused, match="noisy_nll is none"):
        built.log_prob(x, num_samples=2)
    with torch.no_grad():
        assert built.sample(3).dtype == torch.uint8


WRONG = {
    "patches": (lambda: flow(DIGITS, "flow=tarflow", "size.patch=3"), "squeeze by 3 does not divide.*size.patch"),
    "decoding": (lambda: flow(DIGITS, "flow=tarflow", "layer.inverse=parallel"), "inverse is sequential or jacobi"),
    "tolerance": (lambda: flow(DIGITS, "flow=tarflow", "layer.tolerance=-1"), "tolerance=-1 can never be met"),
    "nothing autoregressive": (
        lambda: flow(CIFAR, "flow=glow", "size.levels=1", "size.steps=1", device="meta").decode_by("jacobi"),
        "this flow has none",
    ),
    "too many tokens": (
        lambda: flow(Space((3, 256, 256), levels=256), "flow=tarflow", device="meta"),
        "GiB of attention.*raise size.patch",
    ),
    "guidance of no class": (
        lambda: flow(DIGITS, "flow=tarflow", "size.width=64", "size.depth=1", "size.steps=1").sample(1, guidance=1.0),
        "train it with context=label_dropout",
    ),
    "guidance of a class always known": (
        lambda: Flow(Space((2,), context={"label": (3,)}), partial(Chain, parts=[]), Gaussian, Label).sample(
            1, {"label": torch.zeros(1, dtype=torch.long)}, guidance=1.0
        ),
        "train it with context=label_dropout",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_refused_with_a_sentence(case):
    refuses(*WRONG[case])
