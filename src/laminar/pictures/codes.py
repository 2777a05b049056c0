"""Codes: where data lie among the latent variables of a variational autoencoder, and what each of these holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.draw import some_context
from laminar.flows.flow import Flow
from laminar.flows.layer.variational import Variational
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.space import Context, rows_of
from laminar.pictures.figure import BLUE, FAINT, INK, ORANGE, figure

ACTIVE = 0.01  # variance of a latent's mean over the data, above which it counts as used (Burda et al. 2016)
SHOWN, BINS, PANELS = 48, 60, 8


@dataclass(frozen=True)
class Codes:
    """Draws z of q(z | x), ``(S, N, L)``, and of p(z), ``(M, L)``, float64 on the CPU; ``known`` where p(z) is N(0, 1).

    All numbers are unbiased where q(z | x) is Gaussian, those of ``activity`` whatever it is.
    """

    draws: Tensor
    prior: Tensor
    known: bool

    @cached_property
    def mean(self) -> Tensor:
        """E[z | x] ``(N, L)``, by the draws."""
        return self.draws.mean(0)

    @cached_property
    def activity(self) -> Tensor:
        """Var_x E[z | x] of each latent, ``(L,)``: between the rows' means, less what their few draws add to it."""
        return self.mean.var(0) - self.draws.var(0).mean(0) / len(self.draws)

    @cached_property
    def active(self) -> int:
        """How many latents are used: https://arxiv.org/abs/1509.00519, appendix C."""
        return int((self.activity > ACTIVE).sum())

    @cached_property
    def kl(self) -> Tensor:
        """E_x KL(q(z_l | x) || p(z_l)) in nats, ``(L,)``, of Gaussians that have their means and variances.

        Their own KL where q(z | x) is a diagonal Gaussian and p(z) is N(0, 1).
        """
        count, within = len(self.draws), self.draws.var(0)
        middle, spread = (0.0, 1.0) if self.known else (self.prior.mean(0), self.prior.var(0))
        half = torch.tensor((count - 1) / 2, dtype=within.dtype)
        log_within = within.log() - torch.digamma(half) + half.log()  # E log of a variance by few draws is too small
        distance = (self.mean - middle).square() - within / count
        log_spread = 0.0 if self.known else spread.log()
        return 0.5 * ((distance + within) / spread - 1 + log_spread - log_within).mean(0)

    @cached_property
    def order(self) -> list[int]:
        """The latents, the most active first."""
        return self.activity.argsort(descending=True).tolist()


@torch.no_grad()
def codes(flow: Flow, x: Tensor, context: Context = None, draws: int = 64, prior: int = 20_000) -> Codes:
    """The codes of stored values x ``(N, *event)``, which pass the encoder once, and draws of the prior beside them."""
    before, stop, after = flow.locate(Variational)
    seen, found = flow.context(rows_of(context, slice(None), flow.device)), []
    told = stop.told(before(x.to(flow.device), seen)[0], seen)
    with noise.keyed(len(x)):
        for number in range(draws):
            with noise.copies(number, 1):
                found.append(stop.posterior.sample(len(x), told).double().cpu())
    with noise.keyed(prior):
        others = flow.context(rows_of(some_context(flow, prior, context), slice(None), flow.device))
        z = after.inverse(flow.prior.sample(prior), others).double().cpu()
    return Codes(torch.stack(found), z, not len(after.parts) and isinstance(flow.prior, Gaussian))


def activity(found: Codes, path: str | Path) -> None:
    """Draws the KL of each latent and the variance of its mean, the most active first."""
    order = found.order[:SHOWN]
    places, rest = np.arange(len(order)), len(found.order) - len(order)
    with figure(path, 1, (min(4.6 + 0.14 * len(order), 11.0), 5.4), rows=2) as (costs, variances):
        costs.bar(places, found.kl[order].numpy(), color=BLUE, width=0.75)
        costs.set_ylim(0, max(0.1, 1.05 * found.kl.max().item()))  # noise about 0 shows as none
        costs.set(ylabel="nats", title=f"KL of each latent, by mean and variance: {found.kl.sum():.2f} nats in all")
        variances.bar(places, found.activity[order].clamp(min=1e-4).numpy(), color=ORANGE, width=0.75)
        variances.axhline(ACTIVE, color=INK, linewidth=0.9, linestyle="--")
        variances.set(yscale="log", ylabel="variance", ylim=(1e-4, None), xlabel="latent")
        variances.set_title(f"Variance of E[z | x] over the data: {found.active} of {len(found.order)} above {ACTIVE:g}")
        for axes in (costs, variances):
            axes.set(xticks=places, xlim=(-0.6, len(order) - 0.4))
            axes.set_xticklabels([str(latent + 1) for latent in order], fontsize=7)
            axes.grid(True, axis="y")
            axes.set_axisbelow(True)
        if rest:
            variances.set_xlabel(f"latent ({rest} less active ones are not shown)")


def aggregate(found: Codes, path: str | Path) -> None:
    """Draws how the codes of all data lie in each of the most active latents, and how the prior does."""
    order, costs = found.order[:PANELS], found.kl.tolist()
    columns = min(len(order), 4)
    rows = ceil(len(order) / columns)
    with figure(path, columns, (3.0 * columns, 2.5 * rows), rows) as panels:
        for axes, latent in zip(panels, order, strict=False):
            z, prior = found.draws[..., latent].flatten().numpy(), found.prior[:, latent].numpy()
            reach = np.quantile(np.concatenate([z[:: max(1, len(z) // len(prior))], prior]), (0.0005, 0.9995))
            axes.hist(z, BINS, range=tuple(reach), density=True, color=ORANGE, alpha=0.45, label="codes of the data")
            axes.hist(prior, BINS, range=tuple(reach), density=True, histtype="step", color=INK, label="prior")
            axes.set(title=f"z{_low(latent + 1)}: {max(costs[latent], 0.0):.2f} nats", yticks=[], xlim=tuple(reach))
            axes.spines["left"].set_visible(False)
        low, high = panels[0].get_ylim()
        panels[0].set_ylim(low, 1.35 * high)
        panels[0].legend(loc="upper left", fontsize=7.5, handlelength=1.2, borderaxespad=0.1)
        for axes in panels[len(order) :]:
            axes.set_axis_off()


def latent_map(found: Codes, labels: Tensor | None, path: str | Path) -> None:
    """Draws E[z | x] in the plane, coloured by class: two latents as they are, more of them by their principal components."""
    points, title, names = found.mean, "E[z | x] of the data", ("z₁", "z₂")
    if points.shape[1] > 2:
        centred = points - points.mean(0)
        _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
        share = (sizes[:2].square().sum() / sizes.square().sum()).item()
        points, names = centred @ axes[:2].T, ("first principal component", "second")
        title = f"E[z | x] by two principal components: {share:.0%} of the variance of {len(found.order)} latents"
    with figure(path, 1, (6.6, 5.6)) as (axes,):
        for label, rows in _classes(labels, len(points)):
            colour = BLUE if label is None else f"C{label % 10}"
            axes.scatter(*points[rows].T.numpy(), s=9, alpha=0.75, linewidths=0, color=colour, label=label)
        axes.set(xlabel=names[0], ylabel=names[1], title=title)
        axes.set_aspect("equal", adjustable="datalim")
        axes.axhline(0, color=FAINT, linewidth=0.4, zorder=0)
        axes.axvline(0, color=FAINT, linewidth=0.4, zorder=0)
        if labels is not None:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2, handletextpad=0.1, title="class")


def _classes(labels: Tensor | None, count: int) -> Sequence[tuple[int | None, Tensor]]:
    if labels is None:
        return [(None, torch.arange(count))]
    return [(label, torch.nonzero(labels == label)[:, 0]) for label in labels.unique().tolist()]


def _low(number: int) -> str:
    """A number as an index."""
    return "".join(chr(0x2080 + int(digit)) for digit in str(number))
