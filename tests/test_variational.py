"""Variational autoencoders: bounds against closed forms and brute force, drawing, counts, and what they refuse."""

from functools import partial
from itertools import pairwise, product
from math import log

import pytest
import torch
from pages import DIGITS, composed, flow, members, parameters
from recipes import batch, disturb, mlp
from torch import distributions

from laminar.config.recipe import build
from laminar.flows import ledger, noise
from laminar.flows.compose.chain import Chain
from laminar.flows.compose.inverse import Inverse
from laminar.flows.context.given import Given
from laminar.flows.context.label import Label
from laminar.flows.coupling.additive import Additive
from laminar.flows.coupling.affine import Affine, Exp
from laminar.flows.dequantization.uniform import Uniform
from laminar.flows.flow import Flow
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.layer.planar import Planar
from laminar.flows.layer.radial import Radial
from laminar.flows.layer.variational import Variational
from laminar.flows.net.convnet import ConvNet
from laminar.flows.net.made import MADE
from laminar.flows.net.mlp import MLP
from laminar.flows.net.pixelcnn import PixelCNN
from laminar.flows.net.resconv import Decoder, Encoder
from laminar.flows.net.reslinear import ResLinear
from laminar.flows.observation.bernoulli import Bernoulli
from laminar.flows.observation.categorical import Categorical
from laminar.flows.observation.discretized_logistic import DiscretizedLogistic
from laminar.flows.observation.gaussian import Gaussian as GaussianObservation
from laminar.flows.order.sequential import Sequential
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.space import Space
from laminar.refused import Refused
from laminar.training.objective.annealed import Annealed
from laminar.training.objective.importance_weighted import ImportanceWeighted
from laminar.training.objective.likelihood import Likelihood
from laminar.training.objective.renyi import Renyi

BINARY = Space((1, 28, 28), levels=2)
TINY = Space((3,), levels=2)

linear = partial(MLP, depth=0)
gaussian = partial(Elementwise, law=partial(Affine, Exp()), net=linear)
made = partial(MADE, width=12, depth=1, order=Sequential)


def posterior(*parts):
    """q(z | code): its parts go from noise to z."""
    return partial(Flow, context=Given, prior=Gaussian, transform=partial(Inverse, transform=partial(Chain, parts=list(parts))))


def vae(space: Space, *prior, latent: int = 1, scale: float = 1.0, context=None, **layer) -> Flow:
    """A small one, off its start; ``prior`` are parts behind it."""
    members = {"encoder": mlp, "decoder": mlp, "posterior": posterior(gaussian), "observation": Bernoulli, "features": 4}
    torch.manual_seed(0)
    stop = partial(Variational, latent=latent, **{**members, **layer})
    options = {} if context is None else {"context": context}
    built = Flow(space, transform=partial(Chain, parts=[stop, *prior]), prior=Gaussian, **options)
    disturb(built, scale)
    with torch.no_grad():
        for parameter in built.transform.parts[0].posterior.parameters():
            parameter.mul_(0.3)  # not far from the prior: weights of a posterior that misses z have no mean to speak of
    return built.double().eval()


def enumerated(space: Space) -> torch.Tensor:
    values = torch.tensor(list(product(range(space.levels), repeat=space.size)), dtype=torch.uint8)
    return values.view(-1, *space.event)


def integrated(model: Flow, x: torch.Tensor, points: int = 2001) -> torch.Tensor:
    """log p(x) for a latent of one value: p(x | z) p(z) integrated over z by the trapezoidal rule."""
    _, stop, after = model.locate(Variational)
    z = torch.linspace(-12, 12, points, dtype=torch.float64)[:, None]
    noise_of_z, contribution = after(z)
    log_prior = model.prior.log_prob(noise_of_z) + contribution
    rows = []
    for value in x:
        here = value.double().expand(points, *value.shape)
        params = stop.decoder(z)
        if stop.local is not None:
            params = stop.local(stop._seen(here), stop._told(params, None))
        rows.append((stop.observation.log_prob(here, stop._params(params)) + log_prior).logsumexp(0))
    return torch.stack(rows) + (z[1] - z[0]).log()


# Bounds


def test_the_bound_of_probabilistic_pca_with_its_exact_posterior_is_the_likelihood():
    """x = W z + m + s e, the columns of W being orthogonal, so that the exact posterior is a diagonal Gaussian:
    z | x ~ N(M^-1 W^T (x - m), s^2 M^-1) with M = W^T W + s^2. Every single draw gives the likelihood then."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(5, 2, generator=generator, dtype=torch.float64))[0]
    w, mean, s = basis * torch.tensor([1.5, 0.4], dtype=torch.float64), torch.linspace(-1, 1, 5, dtype=torch.float64), 0.6
    m = w.square().sum(0) + s**2
    observation = partial(GaussianObservation, scale=s)
    model = vae(Space((5,)), latent=2, features=2, encoder=linear, decoder=linear, observation=observation)
    stop = model.transform.parts[0]
    q = stop.posterior.transform.transform.parts[0]
    with torch.no_grad():
        stop.encoder.head.weight.copy_((w / m).T)
        stop.encoder.head.bias.copy_(-(w / m).T @ mean)
        q.net.head.weight.copy_(torch.cat([torch.zeros(2, 2), torch.eye(2)]))
        q.net.head.bias.copy_(torch.cat([torch.log(s / m.sqrt()), torch.zeros(2, dtype=torch.float64)]))
        stop.decoder.head.weight.copy_(w)
        stop.decoder.head.bias.copy_(mean)
    x = batch(Space((5,)), 7)
    covariance = w @ w.T + s**2 * torch.eye(5, dtype=torch.float64)
    expected = distributions.MultivariateNormal(mean, covariance).log_prob(x)
    assert model.grade == "bound"
    torch.testing.assert_close(model.log_weights(x, num_samples=3), expected.expand(3, -1))


iaf = partial(Autoregressive, law=partial(Affine, Exp()), net=made, order=Sequential)
MODELS = {
    "independent": (TINY, {}),
    "local": (TINY, {"local": made, "planes": 2}),
    "categorical": (Space((2,), levels=3), {"observation": Categorical}),
    "iaf": (TINY, {"posterior": posterior(gaussian, iaf)}),
    "fixed variance": (TINY, {"posterior": posterior(partial(Elementwise, law=Additive, net=linear))}),
    "one scale": (Space((2,), levels=3), {"observation": partial(DiscretizedLogistic, one_scale=True)}),
}


@pytest.mark.parametrize("name", MODELS)
def test_all_events_share_all_of_the_probability(name):
    space, layer = MODELS[name]
    model, x = vae(space, **layer), enumerated(space)
    torch.testing.assert_close(integrated(model, x).logsumexp(0), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-9)


def weights(model: Flow, x: torch.Tensor, count: int, rows: int) -> torch.Tensor:
    """log p(x, z) / q(z | x) of many draws, ``(count, N, rows)``."""
    torch.manual_seed(1)
    with torch.no_grad():
        return model.log_weights(x.repeat_interleave(rows, 0), num_samples=count).view(count, len(x), rows)


def assert_unbiased(log_weights: torch.Tensor, truth: torch.Tensor) -> None:
    ratio = (log_weights - truth[:, None]).exp().transpose(0, 1).flatten(1)
    assert ((ratio.mean(1) - 1).abs() < 5 * ratio.std(1) / ratio.shape[1] ** 0.5 + 1e-9).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_bound_rises_to_the_truth(name):
    space, layer = MODELS[name]
    model, x = vae(space, **layer), enumerated(space)
    truth, log_weights = integrated(model, x), weights(model, x, 64, 500)
    assert_unbiased(log_weights, truth)
    bounds = [(log_weights[:k].logsumexp(0) - log(k)).mean(1) for k in (1, 4, 16, 64)]
    gaps = [(truth - bound).mean().item() for bound in bounds]
    assert all(looser > 2 * tighter for looser, tighter in pairwise(gaps)) and 0 < gaps[-1] < 0.05


def test_a_flow_behind_is_the_prior():
    """p(z) is that of the flow: the truth that the weights are unbiased for. What is noted is the distortion alone."""
    model = vae(TINY, partial(Elementwise, law=partial(Affine, Exp())), scale=0.5)
    x = enumerated(TINY)
    truth = integrated(model, x)
    torch.testing.assert_close(truth.logsumexp(0), torch.zeros_like(truth[0]), rtol=0, atol=1e-9)
    assert_unbiased(weights(model, x, 16, 500), truth)
    with ledger.noting() as notes, noise.keyed(len(x)):
        log_prob = model.log_prob(x)
    assert notes.keys() == {"distortion"} and notes["distortion"][0].shape == log_prob.shape
    with noise.keyed(len(x)):
        z, log_p, log_q = model.transform.parts[0].terms(x)
    noise_of_z, contribution = model.transform.parts[1](z)
    torch.testing.assert_close(log_prob, log_p - log_q + model.prior.log_prob(noise_of_z) + contribution)
    torch.testing.assert_close(notes["distortion"][0], -log_p)


# Drawing


@pytest.mark.parametrize("name", ["independent", "local"])
def test_draws_fall_as_often_as_they_should(name):
    model, rows = vae(TINY, **MODELS[name][1]), 20_000
    x = enumerated(TINY)
    draws = model.sample(rows)
    assert draws.dtype == torch.uint8
    share = (draws == x[:, None]).all(-1).double().mean(1)
    p = integrated(model, x).exp()
    assert ((share - p).abs() <= 5 * (p * (1 - p) / rows).sqrt()).all()


IMAGES = {
    "convolutions": {"encoder": Encoder, "decoder": Decoder, "observation": DiscretizedLogistic},
    "pixelcnn": {
        "encoder": partial(Encoder, width=4),
        "decoder": partial(Decoder, width=4, hidden=8),
        "observation": DiscretizedLogistic,
        "local": partial(PixelCNN, width=4, depth=1, order=Sequential),
        "planes": 2,
    },
}
COLOURED = Space((2, 5, 6), levels=17, context={"label": (3,)})
given = {"label": torch.tensor([0, 1, 2, 1, 0])}


def test_a_local_decoder_draws_what_one_pass_of_it_says():
    model = vae(COLOURED, latent=3, scale=0.3, context=Label, **IMAGES["pixelcnn"])
    stop, context = model.transform.parts[0], model.context(given)
    z = torch.randn(5, 3, dtype=torch.float64)
    with noise.keyed(5):
        x = stop.inverse(z, context)
    with noise.keyed(5):
        u = noise.uniform(torch.empty(5, *COLOURED.event, dtype=torch.float64))
    params = stop.local(stop._seen(x.double()), stop._told(stop.decoder(z, context), context))
    assert torch.equal(stop.observation.quantile(u, params).byte(), x)


@pytest.mark.parametrize("name", IMAGES)
def test_a_batch_equals_its_rows_and_sees_its_context(name):
    model = vae(COLOURED, latent=3, scale=0.3, context=Label, **IMAGES[name])
    x = torch.randint(17, (5, *COLOURED.event), dtype=torch.uint8)
    keys = noise.mix(1, range(5))
    with noise.source(keys):
        log_prob = model.log_prob(x, given, num_samples=2)
    for i in range(5):
        with noise.source(keys[i : i + 1]):
            one = model.log_prob(x[i : i + 1], {"label": given["label"][i : i + 1]}, num_samples=2)
        torch.testing.assert_close(one[0], log_prob[i])
    with noise.source(keys):
        assert not torch.isclose(model.log_prob(x, {"label": (given["label"] + 1) % 3}, num_samples=2), log_prob).any()


@pytest.mark.parametrize("name", IMAGES)
def test_noise_and_data_have_their_shapes_and_centres_repeat(name):
    model = vae(COLOURED, latent=3, scale=0.3, context=Label, **IMAGES[name]).float()
    x = torch.randint(17, (5, *COLOURED.event), dtype=torch.uint8)
    z = model.encode(x, given, mean=True)
    assert z.shape == (5, 3) and z.dtype == torch.float32 and torch.equal(z, model.encode(x, given, mean=True))
    back = model.decode(z, given, mean=True)
    assert back.shape == x.shape and back.dtype == torch.uint8 and torch.equal(back, model.decode(z, given, mean=True))
    assert model.sample(5, given).shape == x.shape
    model.train().log_prob(x, given).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 5, 7), (1, 8, 8)])
def test_the_convolutions_go_to_any_size_and_back(size):
    encoder, decoder = Encoder(Space(size), Space((7,)), 2), Decoder(Space((7,)), Space(size), 3)
    assert encoder(torch.randn(2, *size)).shape == (2, 2, 7)
    assert decoder(torch.randn(2, 7)).shape == (2, 3, *size)


# Counts

PUBLISHED = {0: 1_844_655, 1: 3_818_543, 2: 5_792_431, 4: 9_740_207, 8: 17_635_759}


@pytest.mark.parametrize("steps", PUBLISHED)
def test_published_parameter_counts(steps):
    words = ("flow=vae_iaf", f"size.steps={steps}") if steps else ("flow=vae",)
    assert parameters(BINARY, *words, "observation=bernoulli") == PUBLISHED[steps]


# Posteriors as they are shipped


@pytest.mark.parametrize("name", members("posterior"))
def test_a_posterior_depends_on_its_code_from_the_start(name):
    """Else the decoder learns to do without z before z has anything to say, and the KL stays at 0."""
    torch.manual_seed(0)
    made_of = build(composed("flow=vae", f"posterior={name}").posterior, "flow")(Space((32,), context={"code": (450,)}))
    code = torch.nn.functional.elu(torch.randn(64, 450))
    with torch.no_grad(), noise.centre():
        z, _ = made_of.sample_with_log_prob(64, {"code": code})
    assert 0.1 < z.std(0).mean() < 1.5 and z.mean(0).abs().mean() < 0.5


def test_a_posterior_of_fixed_variance_learns_its_mean_together_with_a_flow_for_a_prior():
    space = Space((1, 8, 8), levels=2)
    torch.manual_seed(0)
    model = flow(space, "flow=vlae", "posterior=fixed_variance", "observation=bernoulli", "size.width=32", "size.steps=1")
    x = torch.randint(2, (6, 1, 8, 8), dtype=torch.uint8)
    _, stop, after = model.locate(Variational)
    with noise.keyed(6):
        z, _, log_q = stop.terms(x)
    with noise.keyed(6), noise.centre():
        mean, _, _ = stop.terms(x)
    torch.testing.assert_close(log_q, distributions.Normal(mean, 1.0).log_prob(z).sum(1), rtol=1e-4, atol=1e-4)
    model.log_prob(x).mean().backward()
    assert all(p.grad.any() for part in (stop.encoder.last, stop.posterior, after) for p in part.parameters() if p.dim() > 1)


# Planar and radial flows


@pytest.mark.parametrize("net", [None, linear], ids=["free", "amortized"])
@pytest.mark.parametrize("kind", [Planar, Radial])
def test_one_way_log_dets_are_those_of_the_jacobian(kind, net):
    space = Space((4,), context={"code": (3,)})
    torch.manual_seed(0)
    part = disturb(kind(space, net=net), 2.0).double()
    x, context = batch(space), {"code": torch.randn(5, 3, dtype=torch.float64)}
    z, log_det = part(x, context)
    for i in range(5):
        row = {"code": context["code"][i : i + 1]}
        jacobian = torch.autograd.functional.jacobian(lambda v, row=row: part(v[None], row)[0][0], x[i])
        sign, expected = torch.linalg.slogdet(jacobian)
        assert sign == 1
        torch.testing.assert_close(log_det[i], expected)
    assert not torch.equal(z, x)
    for direction in (part.inverse, part.inverse_with_log_det):
        with pytest.raises(Refused, match=r"has no inverse in closed form.*posterior="):
            direction(z, context)


@pytest.mark.parametrize("kind", [Planar, Radial])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e4, -1e4])
def test_one_way_extremes_are_finite(kind, value):
    part = disturb(kind(Space((4,))))
    x = torch.full((2, 4), value).requires_grad_()
    z, log_det = part(x)
    (z.sum() + log_det.sum()).backward()
    assert all(t.isfinite().all() for t in (z, log_det, x.grad, part.free.grad))


@pytest.mark.parametrize("kind", [Planar, Radial])
def test_one_way_posteriors_bound_the_truth(kind):
    model = vae(TINY, posterior=posterior(gaussian, partial(kind, net=linear)))
    x = enumerated(TINY)
    assert_unbiased(weights(model, x, 16, 500), integrated(model, x))


# What cannot work


class Roulette(Elementwise):
    noisy = True


def test_a_noisy_posterior_makes_the_whole_noisy():
    model = vae(TINY, posterior=posterior(partial(Roulette, law=partial(Affine, Exp()), net=linear)))
    assert model.grade == "bound+estimate"
    with pytest.raises(Refused, match="would inflate"):
        model.log_prob(enumerated(TINY), num_samples=2)
    for objective in (ImportanceWeighted(num_samples=2), Renyi(num_samples=2)):
        with pytest.raises(Refused, match=r"objective.num_samples=2 averages weights.*a posterior's.*objective=likelihood"):
            objective.check(model)
        type(objective)(num_samples=1).check(model)
        objective.check(vae(TINY))


@pytest.mark.parametrize(
    ("space", "members", "sentence"),
    [
        (Space((3,)), {}, "observation=bernoulli scores integers.*no dequantizer"),
        (TINY, {"latent": 0}, "layer.latent=0 leaves nothing"),
        (TINY, {"posterior": posterior(partial(Elementwise, law=Additive, net=partial(ResLinear, norm=0.0)))}, "net.norm=0.0"),
        (Space((1, 4, 4), levels=2), {}, "net=mlp reads vectors"),
        (TINY, {"encoder": Encoder}, "net=resconv reads images"),
        (TINY, {"decoder": Decoder}, "answers with images"),
    ],
)
def test_what_cannot_be_built_is_refused(space, members, sentence):
    with pytest.raises(Refused, match=sentence):
        vae(space, **members)


def test_a_dequantizer_before_it_is_refused():
    with pytest.raises(Refused, match="put no dequantizer before the layer"):
        Flow(TINY, partial(Chain, parts=[Uniform, partial(Variational, latent=1, **small_members())]), Gaussian)


def small_members():
    return {"encoder": mlp, "decoder": mlp, "posterior": posterior(gaussian), "observation": Bernoulli}


def test_nets_that_answer_in_another_shape_are_refused():
    space = Space((1, 8, 8), levels=2)
    for nets, name in (({"encoder": partial(ConvNet, width=4)}, "encoder"), ({"decoder": mlp}, "decoder")):
        model = vae(space, **{"encoder": Encoder, "decoder": Decoder, **nets})
        with pytest.raises(Refused, match=f"the {name} answers with"):
            model.train().log_prob(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


def test_its_samples_have_no_log_prob():
    with pytest.raises(Refused, match="draws on its way"):
        vae(TINY).sample_with_log_prob(3)


# Objectives


def test_an_annealed_objective_ends_as_the_bound():
    model, x = vae(TINY, partial(Elementwise, law=partial(Affine, Exp())), scale=0.5), enumerated(TINY)
    keys = noise.mix(1, range(len(x)))

    def asked(objective, step: int = 0) -> torch.Tensor:
        with noise.source(keys):
            return objective(model, x, None, step)

    bound = asked(Likelihood())
    with ledger.noting() as notes:
        torch.testing.assert_close(asked(Annealed()), bound)
    kl, distortion = notes["kl"][0], notes["distortion"][0]
    torch.testing.assert_close(-distortion - kl, bound)
    for step, beta in ((0, 0.25), (1, 0.5), (3, 1.0), (50, 1.0)):  # a function of the step, so a resumed run goes on with it
        torch.testing.assert_close(asked(Annealed(warmup=4), step), -distortion - beta * kl)
    torch.testing.assert_close(asked(Annealed(free=1e-6)), bound)
    torch.testing.assert_close(asked(Annealed(free=100.0)), -distortion - 100.0)
    asked(Annealed(free=100.0)).sum().backward()
    assert all(not parameter.grad.any() for parameter in model.transform.parts[1].parameters() if parameter.grad is not None)


def test_an_annealed_objective_is_for_one_latent_layer():
    with pytest.raises(Refused, match="exactly one Latent is needed"):
        Annealed().check(flow(DIGITS, "flow=nice"))
    for wrong in ({"warmup": -1}, {"free": -0.1}):
        with pytest.raises(Refused, match="is below 0"):
            Annealed(**wrong)
