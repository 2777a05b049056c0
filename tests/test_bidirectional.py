"""The bidirectional ResNet VAE: its bound by explicit Gaussians and brute force, free bits by hand, and what it refuses."""

from functools import partial
from itertools import pairwise, product
from math import log

import pytest
import torch
from pages import CIFAR, DIGITS, composed, flow, parameters
from parts import refuses
from recipes import affine, autoregressive, disturb
from torch import distributions

from laminar.config.recipe import build
from laminar.data.datamodule import FlowDataModule
from laminar.flows import ledger, noise
from laminar.flows.compose.chain import Chain
from laminar.flows.context.label import Label
from laminar.flows.flow import Flow
from laminar.flows.initialise import initialising
from laminar.flows.layer.bidirectional import Bidirectional
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.net.masked_conv import MaskedConv
from laminar.flows.net.normed_conv import NormedConv
from laminar.flows.observation.bernoulli import Bernoulli
from laminar.flows.observation.discretized_logistic import DiscretizedLogistic
from laminar.flows.order.interleaved import Interleaved
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.prior.logistic import Logistic
from laminar.flows.space import Space
from laminar.refused import Refused
from laminar.training.objective import annealed
from laminar.training.objective.annealed import Annealed
from laminar.training.objective.likelihood import Likelihood

COLOURED = Space((2, 8, 4), levels=17, context={"label": (3,)})
BINARY = Space((1, 2, 2), levels=2)

iaf = autoregressive(affine, partial(MaskedConv, width=6), Interleaved)
one_scale = partial(DiscretizedLogistic, one_scale=True)


def ladder(space: Space, *after, prior=Gaussian, scale: float = 0.5, **options) -> Flow:
    """A small one, off its start; ``after`` are parts behind it."""
    torch.manual_seed(0)
    members = {"observation": one_scale, "iaf": iaf, "width": 6, "latent": 3, "depth": 2, "levels": 2}
    parts = [partial(Bidirectional, **{**members, **options}), *after]
    context = {"context": Label} if space.context else {}
    return disturb(Flow(space, partial(Chain, parts=parts), prior, **context), scale).double().eval()


def rows(space: Space, n: int = 5) -> tuple[torch.Tensor, dict | None]:
    x = torch.randint(space.levels, (n, *space.event), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return x, {"label": torch.arange(n) % 3} if space.context else None


# Bounds


def by_hand(model: Flow, x: torch.Tensor, e: torch.Tensor, context: dict | None) -> torch.Tensor:
    """log p(x, z) - log q(z | x) of the z that the noise e stands for: each z_l from p's side, its Gaussian draw by the way
    back of the autoregressive step, whose log-det is that of its Jacobian."""
    stop, context = model.transform.parts[0], model.context(context)
    elu, normal = torch.nn.functional.elu, distributions.Normal
    h = stop.into(stop.reader(x.double() / 16 - 0.5, context))
    tells = []
    for block in stop.blocks:
        mean, log_scale, code, inner = block.up_in(elu(h)).split([3, 3, 6, 6], 1)
        if block is not stop.blocks[-1]:
            h = torch.nn.functional.interpolate(h, scale_factor=1 / block.stride) + 0.1 * block.up_out(elu(inner))
        tells.append((mean, log_scale, code))
    h = stop.top.expand(len(x), -1, *inner.shape[2:])
    h = h if context is None else h + stop.given(context["label"][:, :, None, None].double().expand(-1, -1, *h.shape[2:]))
    total, gone = 0.0, 0
    for block, (mean, log_scale, code) in reversed([*zip(stop.blocks, tells, strict=True)]):
        m, s, shift, log_width, down, inner = block.down_in(elu(h)).split([3, 3, 3, 3, 6, 6], 1)
        z = m + s.exp() * e[:, gone : gone + m[0].numel()].view_as(m)
        gone += m[0].numel()
        q, told = normal(mean + shift, (log_scale + log_width).exp()), {"code": code + down}
        log_det = torch.zeros(len(x), dtype=torch.float64)
        draw = z
        if block.iaf is not None:
            draw = block.iaf.inverse(z, told)
            for i in range(len(x)):
                row = {"code": told["code"][i : i + 1]}
                step = torch.autograd.functional.jacobian(
                    lambda d, row=row, block=block: block.iaf(d[None], row)[0][0], draw[i]
                )
                log_det[i] = torch.linalg.slogdet(step.reshape(z[0].numel(), -1)).logabsdet
        total = total + normal(m, s.exp()).log_prob(z).flatten(1).sum(1) - q.log_prob(draw).flatten(1).sum(1) + log_det
        h = torch.nn.functional.interpolate(h, scale_factor=block.stride) + 0.1 * block.down_out(elu(torch.cat([z, inner], 1)))
    means, log_s = stop.out(elu(h)), stop.shared.exp()

    def cdf(level: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(((2 * level - 17) / 16 - means) / log_s)  # of the edge below a level

    below, upto = (torch.where(x == 0, 0.0, cdf(x.double())), torch.where(x == 16, 1.0, cdf(x.double() + 1)))
    return total + (upto - below).log().flatten(1).sum(1)


@pytest.mark.parametrize("options", [{}, {"iaf": None}, {"levels": 1}], ids=["iaf", "diagonal", "one level"])
def test_the_bound_is_that_of_explicit_gaussians(options):
    model, (x, context) = ladder(COLOURED, **options), rows(COLOURED)
    keys = noise.mix(1, range(5))
    with noise.source(keys):
        found = model.log_prob(x, context)
    with noise.source(keys):
        e = model.encode(x, context)
    assert model.grade == "bound" and e.shape == (5, model.transform.codomain.size)
    with torch.no_grad():
        torch.testing.assert_close(by_hand(model, x, e, context), found)


def enumerated() -> torch.Tensor:
    return torch.tensor(list(product(range(2), repeat=4)), dtype=torch.uint8).view(-1, 1, 2, 2)


def tiny() -> Flow:
    """Two blocks of a single latent each, over four binary pixels."""
    step = autoregressive(affine, partial(MaskedConv, width=2), Interleaved)
    return ladder(BINARY, observation=Bernoulli, latent=1, width=2, levels=1, scale=0.4, iaf=step)


def integrated(model: Flow, x: torch.Tensor, points: int = 161) -> torch.Tensor:
    """log p(x): p(x | e) p(e) integrated over both noises by the trapezoidal rule."""
    stop, line = model.transform.parts[0], torch.linspace(-8, 8, points, dtype=torch.float64)
    e = torch.cartesian_prod(line, line)
    with torch.no_grad():
        h = stop._top(e, None)
        for block, end in zip(reversed(stop.blocks), e.split(1, 1), strict=True):
            h = block.draw(h, end[:, :, None, None])
        params = stop._answer(h, e)
        prior = distributions.Normal(0.0, 1.0).log_prob(e).sum(1)
        found = [(stop.observation.log_prob(v.double().expand(len(e), 1, 2, 2), params) + prior).logsumexp(0) for v in x]
    return torch.stack(found) + 2 * (line[1] - line[0]).log()


def test_all_events_share_all_of_the_probability_and_the_bound_rises_to_it():
    model, x = tiny(), enumerated()
    truth = integrated(model, x)
    torch.testing.assert_close(truth.logsumexp(0), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-9)
    torch.manual_seed(1)
    with torch.no_grad():
        log_weights = model.log_weights(x.repeat_interleave(200, 0), num_samples=64).view(64, 16, 200)
    ratio = (log_weights - truth[:, None]).exp().transpose(0, 1).flatten(1)
    assert ((ratio.mean(1) - 1).abs() < 5 * ratio.std(1) / ratio.shape[1] ** 0.5).all()
    gaps = [(truth - (log_weights[:k].logsumexp(0) - log(k)).mean(1)).mean().item() for k in (1, 4, 16, 64)]
    assert all(looser > 2 * tighter for looser, tighter in pairwise(gaps)) and 0 < gaps[-1] < 0.05


def test_draws_fall_as_often_as_they_should():
    model, x, n = tiny(), enumerated(), 20_000
    torch.manual_seed(2)
    with torch.no_grad():
        share = (model.sample(n) == x[:, None]).flatten(2).all(2).double().mean(1)
    p = integrated(model, x).exp()
    assert ((share - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all()


# Both ways


def test_a_batch_equals_its_rows_and_sees_its_context():
    model, (x, context) = ladder(COLOURED), rows(COLOURED)
    keys = noise.mix(1, range(5))
    with noise.source(keys):
        log_prob = model.log_prob(x, context, num_samples=2)
    for i in range(5):
        with noise.source(keys[i : i + 1]):
            one = model.log_prob(x[i : i + 1], {"label": context["label"][i : i + 1]}, num_samples=2)
        torch.testing.assert_close(one[0], log_prob[i])
    other = {"label": (context["label"] + 1) % 3}
    with noise.source(keys):
        assert not torch.isclose(model.log_prob(x, other, num_samples=2), log_prob).any()
    z = torch.randn(5, model.transform.codomain.size, dtype=torch.float64)
    assert not torch.equal(*(model.decode(z, labels, mean=True) for labels in (context, other)))


def test_what_is_decoded_is_what_the_bound_looks_at():
    model, (x, context) = ladder(COLOURED), rows(COLOURED)
    stop, keys, seen = model.transform.parts[0], noise.mix(1, range(5)), []
    read = stop.observation.log_prob
    stop.observation.log_prob = lambda x, params: (seen.append(params), read(x, params))[1]
    with noise.source(keys):
        z = model.encode(x, context)
    torch.testing.assert_close(
        model.decode(z, context, mean=True), stop._stored(stop.observation.quantile(torch.full(x.shape, 0.5), seen[0]))
    )
    centre = model.encode(x, context, mean=True)
    assert torch.equal(centre, model.encode(x, context, mean=True)) and not torch.equal(centre, z)
    assert model.sample(3, {"label": torch.arange(3)}, temperature=0.5).dtype == torch.uint8
    levels = torch.arange(17.0, dtype=torch.float64)[:, None]
    each = [stop.observation.log_probs(level.expand(x.shape), seen[0]).exp() for level in levels]
    mean = sum(level * p for level, p in zip(range(17), each, strict=True))
    torch.testing.assert_close(stop.mean(z, model.context(context)), mean)


def test_every_parameter_learns():
    model, (x, context) = ladder(COLOURED).float().train(), rows(COLOURED)
    model.log_prob(x, context).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_the_first_batch_sets_its_convolutions():
    built = flow(DIGITS, "flow=vae_iaf_cifar10", "size.width=32", "size.depth=2", "size.latent=4")
    x, _ = rows(Space((1, 8, 8), levels=17), 64)
    with initialising(), noise.keyed(64):
        built.log_prob(x)
    assert built.eval().log_prob(x).isfinite().all()
    conv = built.transform.parts[0].blocks[0].up_in
    h = built.transform.parts[0].into(x / 16 - 0.5)
    std, mean = torch.std_mean(conv(torch.nn.functional.elu(h)), (0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-5)
    torch.testing.assert_close(std, torch.full_like(std, 0.1))


@pytest.mark.parametrize(("stride", "up", "side"), [(1, False, 6), (2, False, 3), (2, True, 12), (1, True, 6)])
def test_a_normed_convolution_is_set_by_its_first_batch(stride, up, side):
    torch.manual_seed(0)
    conv = NormedConv(3, 4, 5, stride, up, scale=0.3).double().train()
    with torch.no_grad():
        conv.bias.copy_(torch.arange(4.0))
    y = conv(2 + torch.randn(50, 3, 6, 6, dtype=torch.float64))
    std, mean = torch.std_mean(y, (0, 2, 3), correction=0)
    assert y.shape == (50, 4, side, side)
    torch.testing.assert_close(mean, torch.arange(4.0).double())
    torch.testing.assert_close(std, torch.full_like(std, 0.3))
    torch.testing.assert_close(conv.free().flatten(1).norm(dim=1), conv.log_gain.exp())


def test_published_parameter_count():
    """But for the second convolution of the topmost block's way up, which the published code has and nothing reads."""
    unread = 160 * 160 * 9 + 2 * 160
    assert parameters(CIFAR, "flow=vae_iaf_cifar10") == 41_557_927 - unread


def test_bits_per_dimension_fall_under_free_bits():
    words = ("size.width=16", "size.depth=2", "size.latent=4", "objective=free_bits", "optimizer=adamax", "optimizer.lr=0.005")
    config = composed("flow=vae_iaf_cifar10", "data=digits", *words)
    x = FlowDataModule(build(config.data, "data"), None, 0).some_rows(128)[0]
    torch.manual_seed(0)
    built, objective = build(config.flow, "flow")(DIGITS), build(config.objective, "objective")
    with initialising():
        built.log_prob(x)
    optimizer, scores = build(config.optimizer, "optimizer")(built.parameters()), []
    for step in range(50):
        with noise.source(noise.mix(step, range(128))), ledger.noting() as notes:
            loss = -objective(built, x, None, step).mean()
        scores.append((notes["kl"][0] + notes["distortion"][0]).mean().item() / (64 * log(2)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert scores[0] > 3.2 and scores[-1] < 2.8


# Free bits


def asked(objective, model: Flow, x: torch.Tensor, context: dict | None, step: int = 0) -> torch.Tensor:
    with noise.source(noise.mix(1, range(len(x)))):
        return objective(model, x, context, step)


def by_map(model: Flow, x: torch.Tensor, context: dict | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The KL of each feature map, top first, ``(B, G)``, and the distortion ``(B,)``."""
    stop = model.transform.parts[0]
    with noise.source(noise.mix(1, range(len(x)))):
        z, log_p, log_q = stop.terms_by_group(x, model.context(context))
    maps = [part for size in (2, 2, 8, 8) for part in [size] * 3]  # positions of each map: two blocks of either level
    log_prior = [distributions.Normal(0.0, 1.0).log_prob(part).sum(1) for part in z.split(maps, 1)]
    return log_q - torch.stack(log_prior, 1), -log_p


def test_free_bits_are_granted_to_each_feature_map():
    model, (x, context) = ladder(COLOURED), rows(COLOURED)
    with torch.no_grad():
        kl, distortion = by_map(model, x, context)
        torch.testing.assert_close(asked(Likelihood(), model, x, context), -distortion - kl.sum(1))
        means = kl.mean(0).sort().values
        for free in (0.01 + means[0].item(), means[5].item() + 1e-3, means[-1].item() + 1.0):
            over = kl.mean(0) > free
            expected = -distortion - kl[:, over].sum(1) - free * (~over).sum()
            torch.testing.assert_close(asked(Annealed(free=free), model, x, context), expected)
        with ledger.noting() as notes:
            torch.testing.assert_close(asked(Annealed(warmup=2, free=1e9), model, x, context), -distortion - 12 * 1e9 / 2)
        torch.testing.assert_close(notes["kl"][0], kl.sum(1))


def test_what_costs_nothing_is_decided_by_the_rows_of_all_ranks(monkeypatch):
    """Half of the rows on either rank, the other half's sums added by a stand-in: as if one rank had them all."""
    model, (x, context) = ladder(COLOURED), rows(COLOURED, 6)
    with torch.no_grad():
        kl, _ = by_map(model, x, context)
        free = kl.mean(0).median().item() + 1e-3
        whole = asked(Annealed(free=free), model, x, context)
        monkeypatch.setattr(annealed.distributed, "is_initialized", lambda: True)
        for mine, other in ((slice(0, 3), slice(3, 6)), (slice(3, 6), slice(0, 3))):
            sums = torch.cat([kl[other].sum(0), torch.tensor([3.0], dtype=torch.float64)])
            monkeypatch.setattr(annealed.distributed, "all_reduce", lambda values, sums=sums: values.add_(sums))
            with noise.source(noise.mix(1, range(6))[mine]):
                part = Annealed(free=free)(model, x[mine], {"label": context["label"][mine]}, 0)
            torch.testing.assert_close(part, whole[mine])


# What cannot work


def test_free_bits_for_each_map_want_a_prior_that_has_them():
    for model in (ladder(BINARY, partial(Elementwise, law=affine), levels=1), ladder(BINARY, prior=Logistic, levels=1)):
        Annealed(warmup=3).check(model)
        with pytest.raises(Refused, match=r"free bits for each feature map need the KL of each.*prior=gaussian"):
            Annealed(free=0.1).check(model)


WRONG = {
    "a vector": (lambda: ladder(Space((6,), levels=2)), "layer=bidirectional is made of convolutions.*flow=vae_mlp"),
    "sides that do not halve": (lambda: ladder(BINARY, levels=2), "halves the sides 2x2 2 times.*fewer size.levels"),
    "no blocks": (lambda: ladder(COLOURED, depth=0), "size.depth=0 leaves no latents"),
    "another step than an autoregressive one": (
        lambda: ladder(COLOURED, iaf=partial(Elementwise, law=affine)),
        "layer.iaf moves a block's draw by an autoregressive step, and Elementwise is none",
    ),
    "reals": (lambda: ladder(Space((2, 8, 4))), "observation=discretized_logistic scores integers.*no dequantizer"),
    "samples with their log-prob": (lambda: ladder(COLOURED).sample_with_log_prob(3, rows(COLOURED, 3)[1]), "draws on its way"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_refused_with_a_sentence(case):
    refuses(*WRONG[case])
