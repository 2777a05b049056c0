"""Products: law x mask scheme x multiscale x dequantization x prior on 8x8 digits.

What the house allows takes one finite training step and gives the integers back; the rest is refused, with its sentence.
Every pair of members that the house allows is trained; among the storms every triple of law, scheme and multiscale is, with
uniform dequantization, and every refusal of theirs is met with every law.
"""

from functools import cache, partial
from itertools import combinations, product

import pytest
import torch
from omegaconf import OmegaConf
from pages import DIGITS, members

from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.data.digits import Digits
from laminar.flows.compose.chain import Chain
from laminar.flows.flow import Flow
from laminar.flows.initialise import initialising
from laminar.flows.layer.coupling import Coupling
from laminar.flows.layer.step import Step
from laminar.flows.reshape.flatten import Flatten
from laminar.refused import Refused

TINY = ("size.width=4", "size.depth=1", "size.steps=1", "size.levels=2")

# One member for each size that has pages of its own.
LAWS = sorted(set(members("coupling")) - {"mixture_logistic", "rational_quadratic", "rational_quadratic_4"})
LAWS = [name for name in LAWS if not (name.startswith("mixture") and "unit" in name)]  # they end a flow: flow=cdf, flow=maf_mog
DEQUANTIZATIONS = ["uniform", "variational_small", "variational_affine"]
PRIORS = members("prior")
WHOLE = {"idensenet", "iresnet", "residual", "residual_halves", "whole"}  # multiscales and a mask of layers that split nothing
MULTISCALES = sorted(set(members("multiscale")) - WHOLE)
VECTOR_MASKS = ["halves", "parity", "rqnsf"]
IMAGE_MASKS = sorted(set(members("mask")) - {*VECTOR_MASKS, *WHOLE})

UNIT = ("piecewise_linear_unit", "piecewise_quadratic_unit")  # laws that keep noise in [0, 1]
BOUNDED = ("beta", "uniform")  # priors without density outside of it

LEVELS = sorted(set(MULTISCALES) - {"flat"})
AFFINE = ("learned_halves", "interlaced")  # what these move by themselves leaves [0, 1]: here by Glow's law

SINGLE = "mask=channel would move nothing, because the event .* has a single channel"
REFUSED = {
    # Schemes that begin with 3 squeezes leave 1x1 positions, of which no column moves.
    "flowpp_imagenet64": {name: "mask=columns needs an even number of columns" for name in MULTISCALES},
    # Between levels half of the channels go, so a scheme must end with two or more.
    "bad": {name: SINGLE for name in LEVELS},
    "good": {name: SINGLE for name in LEVELS},
    # The second level has 1x1 or 2x2 positions.
    "jet": {name: "squeeze by 4 does not divide" for name in LEVELS},
    "rqnsf_flat": {name: "squeeze by 2 does not divide" for name in LEVELS},
    "interlaced": {"flat": "this mask moves nothing on the last level, and there is no other: choose multiscale=interlaced"},
}


@cache
def page(group: str, member: str) -> dict:
    """A group's page as a plain container, its interpolations resolved in tiny sizes."""
    config = compose("train", ["flow=glow", f"{group}={member}", *TINY])
    return OmegaConf.to_container(config[group], resolve=True)


@cache
def recipe(group: str, member: str):
    return build(page(group, member), "flow")


@cache
def multiscale(member: str):
    """The page's recipe, less the scheme and the step that it refers to."""
    return build({key: value for key, value in page("multiscale", member).items() if key not in ("scheme", "step")}, "flow")


@cache
def digits() -> torch.Tensor:
    x = Digits(batch_size=6).load(0).train.values[:6].clone()
    x[0], x[1] = 0, 16
    return x


def assembled(law: str, mask: str, scales: str, dequantization: str, prior: str = "gaussian") -> Flow:
    """What flow=glow and flow=nis make of these members; vector masks see the image flattened."""
    vector = mask in VECTOR_MASKS
    layer = partial(Coupling, law=recipe("coupling", law), net=recipe("net", "mlp" if vector else "convnet"))
    before = [] if law in UNIT else [recipe("norm", "actnorm"), recipe("mix", "conv1x1")]
    parts = [
        recipe("dequantization", dequantization),
        recipe("preprocessing", "unit" if law in UNIT else "logit"),
        *([Flatten] if vector else []),
        partial(multiscale(scales), scheme=recipe("mask", mask), step=partial(Step, layer=layer, before=before)),
    ]
    torch.manual_seed(0)
    return Flow(DIGITS, partial(Chain, parts=parts), recipe("prior", prior))


def refusal(mask: str, scales: str) -> str | None:
    """The sentence for a scheme that a multiscale flow of digits cannot have."""
    return "mask=channel splits images" if mask in VECTOR_MASKS and scales != "flat" else REFUSED.get(mask, {}).get(scales)


def products():
    """Each law and scheme with one multiscale that takes the scheme, and one dequantization, in turn; the others are storms."""
    for (i, law), (j, mask) in product(enumerate(LAWS), enumerate([*IMAGE_MASKS, *VECTOR_MASKS])):
        taken = [scales for scales in MULTISCALES if not refusal(mask, scales)]
        own = taken[(i + j) % len(taken)] if taken else MULTISCALES[(i + j) % len(MULTISCALES)]
        turn = (i // len(taken or MULTISCALES) + j) % len(DEQUANTIZATIONS)
        for scales, (d, dequantization) in product(MULTISCALES, enumerate(DEQUANTIZATIONS)):
            if scales == own or d == 0:
                storm = scales != own or d != turn
                yield pytest.param(law, mask, scales, dequantization, marks=pytest.mark.slow if storm else ())


def test_every_pair_of_members_that_is_allowed_is_trained():
    trained = [choice.values for choice in products() if not choice.marks and not refusal(*choice.values[1:3])]
    whole = [
        (law, mask, scales, dequantization)
        for law, mask, scales, dequantization in product(LAWS, [*IMAGE_MASKS, *VECTOR_MASKS], MULTISCALES, DEQUANTIZATIONS)
        if not refusal(mask, scales)
    ]
    for one, other in combinations(range(4), 2):
        assert {(values[one], values[other]) for values in trained} == {(values[one], values[other]) for values in whole}


@pytest.mark.parametrize(("law", "mask", "scales", "dequantization"), [*products()])
def test_product(law, mask, scales, dequantization):
    if sentence := refusal(mask, scales):
        with pytest.raises(Refused, match=sentence):
            assembled(law, mask, scales, dequantization)
        return
    flow, x = assembled(law, mask, scales, dequantization), digits()
    with initialising():
        flow.log_prob(x)
    z, contribution = flow.transform(x)
    losses, modules = [], [flow]
    for name in PRIORS:
        prior = recipe("prior", name)(flow.transform.codomain)
        if name in BOUNDED and (law not in UNIT or scales in AFFINE):
            with pytest.raises(Refused, match=f"prior={name} has no density outside"):
                prior.check_noise()
            continue
        modules.append(prior)
        losses.append(-(prior.log_prob(z) + contribution).mean())
    assert len(losses) == len(PRIORS) - (0 if law in UNIT and scales not in AFFINE else len(BOUNDED))
    optimizer = torch.optim.Adam([p for module in modules for p in module.parameters()], lr=1e-3)
    torch.stack(losses).sum().backward()
    for loss in losses:
        assert loss.isfinite()
    for name, parameter in flow.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name
    optimizer.step()
    flow.eval()
    with torch.no_grad():
        assert flow.log_prob(x).isfinite().all()
        assert torch.equal(flow.decode(flow.encode(x, mean=True), mean=True), x)


@pytest.mark.parametrize("mask", sorted(set(IMAGE_MASKS) - {"interlaced"}))
def test_image_masks_refuse_vectors(mask):
    layer = partial(Coupling, law=recipe("coupling", "affine"), net=recipe("net", "mlp"))
    body = partial(multiscale("flat"), scheme=recipe("mask", mask), step=partial(Step, layer=layer))
    with pytest.raises(Refused, match="images, and the event here has shape"):
        Chain(DIGITS.reals(), [Flatten, body])


@pytest.mark.parametrize("mask", VECTOR_MASKS)
def test_vector_masks_refuse_images(mask):
    layer = partial(Coupling, law=recipe("coupling", "affine"), net=recipe("net", "convnet"))
    body = partial(multiscale("flat"), scheme=recipe("mask", mask), step=partial(Step, layer=layer))
    with pytest.raises(Refused, match=r"splits vectors, and the event here is an image.*flow that flattens"):
        body(DIGITS.reals())
