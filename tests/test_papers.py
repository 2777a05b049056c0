"""Papers as pages: published parameter counts, layouts, exact inversion at full size, and what each promises."""

from itertools import pairwise
from math import prod

import pytest
import torch
from pages import CIFAR, DIGITS, IMAGENET64, MNIST, flow, parameters

from laminar.flows.initialise import initialising
from laminar.flows.layer.step import Step
from laminar.flows.net.one_blob import OneBlob
from laminar.flows.space import Space
from laminar.pictures.masks import patterns
from laminar.refused import Refused

IMAGENET32 = CIFAR
ABLATION = "experiment=flowpp_ablation"

PUBLISHED = {
    "flowpp_cifar10": (31_443_440, CIFAR, "experiment=flowpp_cifar10"),
    "flowpp_full": (31_443_440, CIFAR, ABLATION, "variant=flowpp_full"),
    "flowpp_uniform": (32_324_408, CIFAR, ABLATION, "variant=flowpp_uniform"),
    "flowpp_affine": (32_045_708, CIFAR, ABLATION, "variant=flowpp_affine"),
    "flowpp_no_attention": (31_443_440, CIFAR, ABLATION, "variant=flowpp_no_attention"),
    "flowpp_imagenet32": (168_955_724, IMAGENET32, "experiment=flowpp_imagenet32"),
    # the positions of the dequantizer's 4 nets, which nothing there reads, are the authors' alone
    "flowpp_imagenet64": (73_489_960 - 4 * 64 * 32 * 96, IMAGENET64, "experiment=flowpp_imagenet64"),
    "glow_cifar10": (44.0, CIFAR, "experiment=glow_cifar10", "net=convnet_plain"),
    "glow_imagenet64": (110.9, IMAGENET64, "experiment=glow_imagenet64", "net=convnet_plain"),
    "rqnsf_cifar10": (11.8, CIFAR, "experiment=rqnsf_cifar10"),
    "rqnsf_cifar10_5bit": (5.3, CIFAR, "experiment=rqnsf_cifar10", "coupling=rational_quadratic_2", "size.width=64"),
    "rqnsf_cifar10_baseline": (11.1, CIFAR, "experiment=rqnsf_cifar10", "coupling=affine"),
    "rqnsf_imagenet64": (15.6, IMAGENET64, "experiment=rqnsf_imagenet64"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    """Whole numbers are the authors' own count; others their tables', in millions."""
    published, space, *words = PUBLISHED[name]
    count = parameters(space, *words)
    assert count == published if isinstance(published, int) else round(count / 1e6, 1) == published


def test_glows_parameters_one_by_one():
    """3 levels of 32 steps, then the learned split and top priors."""

    def step(c: int) -> int:
        actnorm, conv1x1 = 2 * c, c * c
        net = (9 * c // 2 + 1) * 512 + (512 + 1) * 512 + (9 * 512 + 2) * c  # the last has a gain for each channel too
        return actnorm + conv1x1 + net

    def split(c: int) -> int:
        return (9 * (c // 2 + 1) + 2) * c  # one plane more marks the padding

    expected = sum(32 * step(c) for c in (12, 24, 48)) + split(12) + split(24) + 2 * 48
    assert parameters(CIFAR, "experiment=glow_cifar10", "net=convnet_plain") == expected


def test_spline_couplings_parameters_one_by_one():
    """10 steps on POWER: L U and a bias; a residual net that sees 3 values and moves 3; splines for the 3 that it sees."""
    linear = 6 * 6 + 6
    net = (3 * 256 + 256) + 2 * 2 * (256 * 256 + 256) + (256 + 1) * 3 * 23
    assert parameters(Space((6,)), "flow=nsf_coupling", "data=moons") == 10 * (linear + net + 3 * 23) + linear
    built = flow(Space((6,)), "flow=nsf_coupling", "data=moons")
    step = next(part for part in built.modules() if isinstance(part, Step))
    assert list(step.before) == ["whole"] and list(step.after) == ["given"]


def test_nices_parameters_one_by_one():
    net = sum(a * b + b for a, b in pairwise([392, *[1000] * 5, 392]))
    assert parameters(MNIST, "experiment=nice_mnist") == 4 * net + 784


def layout(flow) -> str:
    """The partitions of all couplings in order, by their initials."""
    steps = [part for name, part in flow.transform.named_modules() if isinstance(part, Step) and ".flow." not in name]
    return "".join(type(step.partition).__name__.replace("Checkerboard", "X")[0] for step in steps)


@pytest.mark.parametrize(
    ("space", "words", "expected"),
    [
        (MNIST, "experiment=nice_mnist", "P" * 4),
        (MNIST, "experiment=realnvp_mnist_flat", "H" * 5),
        (CIFAR, "experiment=realnvp_cifar10", "XXXCCC" + "XXXX"),
        (CIFAR, "experiment=realnvp_imagenet32", "XXXCCC" * 3 + "XXXX"),
        (CIFAR, "experiment=glow_cifar10", "C" * 32 * 3),
        (CIFAR, "experiment=rqnsf_cifar10", "C" * 7 * 3),
        (IMAGENET64, "experiment=rqnsf_imagenet64", "C" * 7 * 4),
        (DIGITS, "experiment=partitioning variant=partition_bad", "P" * 8),
        (DIGITS, "experiment=partitioning variant=partition_good", "XXXXCCCXXX"),
    ],
)
def test_published_layouts(space, words, expected):
    assert layout(flow(space, *words.split(), device="meta")) == expected


@pytest.mark.parametrize(
    ("space", "words", "columns", "channels"),
    [
        (CIFAR, "experiment=flowpp_cifar10", 4 + 3, 2),
        (CIFAR, "experiment=flowpp_imagenet32", 4 + 3 + 3, 3),
        (IMAGENET64, "experiment=flowpp_imagenet64", 4 + 2 + 2, 2 + 2),
    ],
)
def test_flowpps_layouts(space, words, columns, channels):
    built = flow(space, *words.split(), device="meta")
    found = [type(step.partition).__name__ for step in built.transform.parts[2].modules() if isinstance(step, Step)]
    assert (found.count("Columns"), found.count("Channel")) == (columns, channels)


def test_jet_has_32_couplings_of_depth_2_and_alternates_4_channel_splits_with_1_of_positions():
    built = flow(IMAGENET64, "experiment=jet_imagenet64", device="meta")
    steps = [part for part in built.transform.modules() if isinstance(part, Step)]
    spatial = [type(step.partition).__name__ != "Channel" for step in steps]
    assert len(steps) == 32 and [i for i, is_spatial in enumerate(spatial) if is_spatial] == [4, 9, 14, 19, 24, 29]
    assert {len(step.coupling.net.blocks) for step in steps} == {2}
    assert {prod(step.partition.space.event[1:]) for step in steps} == {256}


def test_partitionings_differ_in_their_masks_and_hardly_in_their_parameters():
    good, bad = (flow(DIGITS, "experiment=partitioning", f"variant=partition_{name}") for name in ("good", "bad"))
    counts = [sum(p.numel() for p in built.parameters()) for built in (good, bad)]
    assert abs(counts[0] / counts[1] - 1) < 0.01
    pictures = [{pattern.numpy().tobytes() for _, pattern in patterns(built)} for built in (good, bad)]
    assert len(pictures[0]) == 4 and len(pictures[1]) == 4 and not pictures[0] & pictures[1]


def test_the_small_ablation_has_equal_parameters_too():
    names = ("full", "uniform", "affine", "no_attention")
    counts = [parameters(DIGITS, "experiment=flowpp_ablation_digits", f"variant=small_{name}") for name in names]
    assert counts == [156_240, 158_772, 152_836, 156_240]


def photographs() -> torch.Tensor:
    """CIFAR-shaped images: noise, all dark, all bright, a ramp, and smooth ones with sharp edges."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (6, 3, 32, 32), generator=generator, dtype=torch.uint8)
    x[1], x[2], x[3] = 0, 255, torch.arange(0, 256, 8)
    coarse = torch.rand(2, 3, 4, 4, generator=generator) * 255
    x[4:] = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear").to(torch.uint8)
    x[4:, :, 8:16, 8:16] = 255
    return x


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["glow_cifar10", "flowpp_cifar10"])
def test_full_architectures_give_the_image_back(experiment):
    """At the data-dependent start, and after steps of training."""
    torch.manual_seed(0)
    built, x = flow(CIFAR, f"experiment={experiment}"), photographs()
    with initialising():
        built.log_prob(x)
    assert_gives_back(built, x)
    # Within the published warm-ups, without which Glow's 96 coherent first steps of lr 1e-4 already lead to infinities.
    optimizer = torch.optim.Adam(built.train().parameters(), lr=1e-5)
    for row in (3, 4, 5):
        loss = -built.log_prob(x[row : row + 1]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.isfinite()
    assert_gives_back(built, x)


@torch.no_grad()
def assert_gives_back(built, x: torch.Tensor) -> None:
    built.eval()
    assert torch.equal(built.decode(built.encode(x, mean=True), mean=True), x)
    # With noise anywhere in the unit cube, before it is rounded: hundredths of a grey level.
    noisy, _ = built.transform.parts[0](x)
    y = noisy
    for part in built.transform.parts[1:]:
        y, _ = part(y)
    for part in reversed(built.transform.parts[1:]):
        y = part.inverse(y)
    assert (y - noisy).abs().max() < 0.02


# Neural importance sampling


@pytest.mark.parametrize("coupling", ["piecewise_quadratic_unit", "piecewise_linear_unit"])
def test_nis_is_a_distribution_over_the_integers_without_a_leak(coupling):
    """All probabilities of 2 values of 4 levels, integrated over the dequantization cube, sum to 1."""
    torch.manual_seed(0)
    built = flow(Space((2,), levels=4), "flow=nis", f"coupling={coupling}", "size.width=16", "size.depth=2").double().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        points = 320
        ticks = (torch.arange(points, dtype=torch.float64) + 0.5) / points * 4
        grid = torch.cartesian_prod(ticks, ticks)
        z, log_det = grid, 0.0
        for part in built.transform.parts[1:]:
            z, contribution = part(z)
            log_det = log_det + contribution
        assert z.min() >= 0 and z.max() <= 1
        density = (built.prior.log_prob(z) + log_det).exp()
        assert density.std() > 0.01  # not the uniform distribution that it starts from
        assert density.mean() * 16 == pytest.approx(1, abs=2e-3)
        assert built.leak(1000) == 0


def test_nis_noise_of_the_darkest_and_brightest_images_stays_inside():
    torch.manual_seed(0)
    built = flow(DIGITS, "experiment=nis_digits", "size.width=16").eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    x = torch.cat([torch.zeros(50, 1, 8, 8), torch.full((50, 1, 8, 8), 16)]).to(torch.uint8)
    assert built.log_prob(x).isfinite().all()
    assert built.transform.codomain.upper == 1


def test_bounded_priors_need_bounded_noise():
    for prior in ("uniform", "beta"):
        assert flow(DIGITS, "flow=nis", f"prior={prior}", "size.width=8").log_prob(torch.zeros(2, 1, 8, 8)).isfinite().all()
        with pytest.raises(Refused, match=rf"prior={prior} has no density outside \[0, 1\].*flow=nis"):
            flow(DIGITS, "flow=realnvp", f"prior={prior}", "size.width=8")
    with pytest.raises(Refused, match="prior=uniform has no density outside"):
        flow(DIGITS, "flow=nis", "prior=uniform", "net=mlp", "preprocessing=logit")


def test_nis_refuses_values_outside_of_the_unit_interval():
    with pytest.raises(Refused, match="preprocessing=unit with a coupling that stays"):
        flow(Space((2,)), "flow=nis", "data=moons")
    with pytest.raises(Refused, match="preprocessing=unit with a coupling that stays"):
        flow(DIGITS, "flow=nis", "coupling=affine")
    with pytest.raises(Refused, match="nothing bounds the values here"):
        flow(Space((2,)), "flow=nis", "dequantization=none")


UNIT = Space((3,), upper=1.0)


def test_one_blob_encodes_by_gaussian_kernels():
    net = OneBlob(UNIT, UNIT, 2, width=8, depth=1, bins=4)
    code = net.encode(torch.tensor([[0.125, 0.5, 1.0]]))
    assert code.shape == (1, 3, 4)
    expected = [[1.0, 0.6065307, 0.1353353, 0.0111090], [0.3246525, 0.8824969, 0.8824969, 0.3246525]]
    torch.testing.assert_close(code[0, :2], torch.tensor(expected))
    assert code[0, 2].argmax() == 3


def test_one_blob_is_a_u_net_of_eight_layers():
    net = OneBlob(UNIT, Space((5,), upper=1.0), 7)
    widths = [(layer.in_features, layer.out_features) for layer in [net.first, *net.down, *net.up, net.head]]
    down, up = [(256, 256), (256, 128), (128, 64), (64, 32)], [(32, 32), (32, 64), (64, 128), (128, 256)]
    assert widths == [(3 * 32, 256), *down, *up, (256, 5 * 7)]
    x = torch.rand(4, 3)
    assert net(x).shape == (4, 7, 5)
    h = net.first(net.encode(x).flatten(1))
    skips = []
    for layer in net.down:
        h = torch.relu(layer(h))
        skips.append(h)
    for layer, skip in zip(net.up, skips[::-1], strict=True):
        h = torch.relu(layer(h)) + skip
    torch.testing.assert_close(net(x), net.head(h).view(4, 7, 5))


def test_one_blob_reads_context_and_starts_where_the_law_wants():
    seen = Space((3,), upper=1.0, context={"label": (4,)})
    net = OneBlob(seen, seen, 2, width=8, depth=2)
    x, label = torch.rand(2, 3), torch.eye(4)
    with torch.no_grad():
        assert not torch.equal(net(x, {"label": label[:2]}), net(x, {"label": label[2:]}))
        net.start(torch.tensor([1.0, -2.0]))
        torch.testing.assert_close(
            net(x, {"label": label[:2]}), torch.tensor([[1.0], [-2.0]]).expand(2, 2, 3), atol=0.1, rtol=0
        )


def test_one_blob_refuses_widths_that_it_cannot_halve():
    with pytest.raises(Refused, match=r"halves its width 3 times.*size.width"):
        OneBlob(UNIT, UNIT, 2, width=12, depth=4)
