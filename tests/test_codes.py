"""Pictures of latent variables: their numbers against closed forms, and what codes stand for against draws."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_variational import COLOURED, IMAGES, TINY, enumerated, gaussian, given, iaf, posterior, vae
from torch.distributions import Normal, kl_divergence

from laminar.data.source import Split
from laminar.flows import noise
from laminar.flows.context.label import Label
from laminar.flows.coupling.affine import Affine, Exp
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.layer.variational import Variational
from laminar.pictures import traversals
from laminar.pictures.codes import Codes, activity, aggregate, codes, latent_map
from laminar.refused import Refused
from laminar.runs.sample import revisit


def told(model, x):
    """Mean and deviation of a Gaussian q(z | x), ``(N, L)``: where the noise 0 goes, and how far 1 is from it."""
    _, stop, _ = model.locate(Variational)
    gaussians, seen = stop.posterior.transform, stop.told(x)
    zero = torch.zeros(len(x), stop.codomain.size, dtype=torch.float64)
    mean, above = (gaussians.inverse(noise_of_z, seen).detach() for noise_of_z in (zero, zero + 1))
    return mean, above - mean


def test_activity_and_kl_are_those_of_the_posterior():
    model, x = vae(TINY, latent=3), enumerated(TINY)
    mean, deviation = told(model, x)
    found = codes(model, x, draws=4000, prior=10)
    assert found.draws.shape == (4000, 8, 3) and found.prior.shape == (10, 3) and found.known
    torch.testing.assert_close(found.mean, mean, rtol=0, atol=5 * deviation.max().item() / 4000**0.5)
    torch.testing.assert_close(found.activity, mean.var(0), rtol=0.1, atol=0.003)
    kl = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).mean(0)
    assert kl.max() > 0.1
    torch.testing.assert_close(found.kl, kl, rtol=0.05, atol=0.01)
    assert found.order == mean.var(0).argsort(descending=True).tolist()


def test_few_draws_bias_neither():
    """Of Gaussians with known means and widths: what 4 draws add to a variance, and take from its logarithm, is taken back."""
    torch.manual_seed(0)
    spread, width = torch.tensor([0.7, 0.0, 0.2]).double(), torch.tensor([0.4, 1.0, 0.9]).double()
    mean = spread * torch.randn(20_000, 3, dtype=torch.float64)
    draws = mean + width * torch.randn(4, 20_000, 3, dtype=torch.float64)
    found = Codes(draws, torch.randn(50, 3, dtype=torch.float64), known=True)
    torch.testing.assert_close(found.activity, spread.square(), rtol=0.05, atol=0.006)
    kl = kl_divergence(Normal(mean, width.expand_as(mean)), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(found.kl, kl, rtol=0.05, atol=0.03)
    assert found.active == 2 and found.order == [0, 2, 1]


def test_another_prior_is_known_by_its_draws():
    model, x = vae(TINY, partial(Elementwise, law=partial(Affine, Exp())), scale=2.0, latent=2), enumerated(TINY)
    _, _, after = model.locate(Variational)
    mean, deviation = told(model, x)
    found = codes(model, x, draws=4000)
    zero = torch.zeros(1, 2, dtype=torch.float64)
    middle, above = after.inverse(zero).detach(), after.inverse(zero + 1).detach()
    assert not found.known and (middle.abs() > 0.1).any()
    kl = kl_divergence(Normal(mean, deviation), Normal(middle, above - middle)).mean(0)
    torch.testing.assert_close(found.kl, kl, rtol=0.05, atol=0.05)


def test_codes_are_the_same_again_and_those_of_their_rows():
    model, x = vae(TINY, posterior=posterior(gaussian, iaf), latent=2), enumerated(TINY)
    found, fewer = (codes(model, rows, draws=3, prior=5) for rows in (x, x[:4]))
    assert torch.equal(found.draws, codes(model, x, draws=3, prior=5).draws)
    torch.testing.assert_close(found.draws[:, :4], fewer.draws)
    assert not torch.isclose(found.draws[0], found.draws[1]).any()


def test_what_a_code_stands_for_is_the_mean_of_its_draws():
    model = vae(COLOURED, latent=3, scale=0.5, context=Label, **IMAGES["convolutions"])
    _, stop, _ = model.locate(Variational)
    z, context = torch.randn(5, 3, dtype=torch.float64), model.context(given)
    meant, draws = traversals.meant(model, z, given), []
    with torch.no_grad():
        for _ in range(400):
            draws.append(stop.inverse(z, context).double())
    draws = torch.stack(draws)
    assert ((meant - draws.mean(0)).abs() <= 5.5 * draws.std(0) / 20 + 1e-6).all()
    local = vae(COLOURED, latent=3, scale=0.3, context=Label, **IMAGES["pixelcnn"])
    with noise.centre():
        expected = local.transform.parts[0].inverse(z, local.context(given))
    assert torch.equal(traversals.meant(local, z, given), expected.detach())
    with pytest.raises(Refused, match="no closed form: draw x instead"):
        local.transform.parts[0].mean(z, local.context(given))


@pytest.mark.parametrize("name", IMAGES)
def test_every_picture_of_codes_is_drawn(name, tmp_path):
    model = vae(COLOURED, latent=3, scale=0.5, context=Label, **IMAGES[name])
    x = torch.randint(17, (5, *COLOURED.event), dtype=torch.uint8)
    found, one = codes(model, x, given, draws=8, prior=300), {"label": given["label"][:1]}
    sheets = [
        traversals.reconstructions(model, x, given),
        traversals.traversals(model, x[:1], found, one, n=2, steps=3),
        traversals.interpolations(model, x, x.flip(0), given, steps=3),
    ]
    assert all(picture.width > 60 and len(np.unique(np.asarray(picture))) > 3 for picture in sheets)
    activity(found, tmp_path / "latents.png")
    aggregate(found, tmp_path / "aggregate.png")
    for labels, file in ((given["label"], "map.png"), (None, "bare.png")):
        latent_map(found, labels, tmp_path / file)
    assert (
        all(len(np.unique(np.asarray(Image.open(path)))) > 50 for path in tmp_path.iterdir())
        and len([*tmp_path.iterdir()]) == 4
    )


def test_a_traversal_moves_one_latent_alone():
    """Its middle is the code itself with the latent at its mean; a latent that the decoder does not read changes nothing."""
    model = vae(COLOURED, latent=2, scale=0.5, context=Label, **IMAGES["convolutions"])
    with torch.no_grad():
        for layer in (model.transform.parts[0].decoder.first.skip, model.transform.parts[0].decoder.first.first):
            layer.parametrizations.weight.original1[:, 0] = 0
    x = torch.randint(17, (1, *COLOURED.event), dtype=torch.uint8)
    found = codes(model, x.repeat(5, 1, 1, 1), given, draws=8, prior=10)
    shown = []
    original = traversals.meant
    try:
        traversals.meant = lambda flow, z, context=None: shown.append((z, original(flow, z, context))) or shown[-1][1]
        traversals.traversals(model, x, found, {"label": given["label"][:1]}, steps=5)
    finally:
        traversals.meant = original
    z = traversals.encoded(model, x, {"label": given["label"][:1]})
    for latent, (moved, images) in zip(found.order, shown, strict=True):
        flat = found.draws[..., latent].flatten()
        torch.testing.assert_close(moved[:, latent], flat.mean() + flat.std() * torch.linspace(-3, 3, 5).double())
        torch.testing.assert_close(moved[:, 1 - latent], z[:, 1 - latent].expand(5).detach())
        same = torch.isclose(images, images[:1]).all().item()
        assert same == (latent == 0)


def test_what_a_code_stands_for_is_what_comes_back_of_an_image(capsys):
    model, x = vae(TINY), enumerated(TINY)
    asked = SimpleNamespace(mode="reconstruct", n=3, label=None, split="test")
    drawn = revisit(model, Split.whole(x), asked)
    _, stop, _ = model.locate(Variational)
    with noise.centre():
        z = stop.terms(x[:3])[0]
    torch.testing.assert_close(drawn["values"], stop.mean(z).cpu())
    off = (drawn["values"] - x[:3]).abs().mean().item()
    assert capsys.readouterr().out.startswith(f"mean |x - E[x | z]| = {off:g}")
