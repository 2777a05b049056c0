"""Flow matching (Lipman et al. 2022, https://arxiv.org/abs/2210.02747) with couplings of data and noise (Tong et al. 2023,
https://arxiv.org/abs/2302.00482)."""

from contextlib import nullcontext

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.dequantization.truncated_normal import TruncatedNormal
from laminar.flows.flow import Flow
from laminar.flows.layer.continuous import Continuous
from laminar.flows.preprocessing.affine import Affine
from laminar.flows.preprocessing.none import Identity
from laminar.flows.reshape.flatten import Flatten
from laminar.flows.reshape.squeeze import Squeeze
from laminar.flows.space import Context
from laminar.refused import Refused
from laminar.training.objective.objective import Objective
from laminar.training.path.path import Path

COUPLINGS = ("independent", "optimal")


class FlowMatching(Objective):
    """-mean_i (v(x_t, t) - dx_t/dt)_i^2, t ~ U[0, 1], over a path from data x to noise z: a regression, nobody solves anything.

    Its minimum is the velocity that carries the data's density to the prior's. What it trains is the one continuous part of a
    flow; x is what the parts before that make of the data, z what those behind it make of the prior's draws, backwards.

    ``optimal`` pairs the rows of a batch with the batch's noise at the least sum of squared distances, within each condition,
    so that paths cross less. It waits for the CPU at each step, and each process pairs its own rows.

    Args:
        path: between x and z.
        coupling: of x and z, ``independent`` or ``optimal``.
        likelihood_every: validations from one that solves for the likelihood to the next; each reports ``val/loss``.
    """

    unit = "loss"

    def __init__(self, path: Path, coupling: str = "independent", likelihood_every: int = 1):
        if coupling not in COUPLINGS:
            raise Refused(f"objective.coupling is one of {', '.join(COUPLINGS)}, not {coupling!r}")
        if likelihood_every < 1:
            raise Refused(f"objective.likelihood_every={likelihood_every} counts validations: take 1 or more")
        self.path, self.coupling, self.likelihood_every = path, coupling, likelihood_every

    def check(self, flow: Flow) -> None:
        before, part, _ = flow.locate(Continuous)
        own = {id(parameter) for parameter in part.parameters()}
        others = [name for name, parameter in flow.named_parameters() if id(parameter) not in own]
        if others:
            raise Refused(
                f"objective=flow_matching trains the continuous part alone, and {others[0]} would never learn: choose parts "
                "without parameters (dequantization=uniform, prior=gaussian), or objective=likelihood"
            )
        apart = sorted(set(flow.context.codomain.context) - {"label"})
        if self.coupling == "optimal" and apart:
            raise Refused(
                f"objective.coupling=optimal pairs rows under one condition, and {apart[0]} is hardly the same twice, so that "
                "it would pair across conditions: choose objective.coupling=independent"
            )
        if self.path.noisy:
            self.path.start = start_of(before)

    def __call__(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        before, part, after = flow.locate(Continuous)
        seen = flow.context(context)
        with noise.centre() if self.path.noisy else nullcontext():  # the path brings the noise
            x = before(x, seen)[0]
        z = after.inverse(flow.prior.sample(len(x)), seen)
        if self.coupling == "optimal":
            z = paired(x, z, seen)
        t = noise.uniform(x.new_empty(len(x)))
        point, slope = self.path(x, z, t.view(-1, *[1] * (x.dim() - 1)))
        return -(part.velocity(point, t, seen).to(slope.dtype) - slope).square().flatten(1).mean(1)


def start_of(before: Chain) -> float:
    """How much of the dequantizer's normal noise a continuous part sees at the data, if that is all that it sees there."""
    links = list(before.parts)
    if not links or not isinstance(links[0], TruncatedNormal):
        raise Refused(
            "this path begins beside the data, and what is scored there is another variable than they are: choose "
            "dequantization=truncated_normal, which draws the path's own noise, or a path that begins at them (path=straight)"
        )
    slope = 1.0
    for part in links[1:]:
        if not isinstance(part, Affine | Identity | Flatten | Squeeze):
            name = type(part).__module__.rpartition(".")[2]
            raise Refused(
                f"dequantization=truncated_normal draws the path's own noise, which {name} would distort: choose "
                "preprocessing=symmetric"
            )
        slope *= part.slope if isinstance(part, Affine) else 1.0
    return links[0].deviation * slope


def paired(x: Tensor, z: Tensor, seen: Context) -> Tensor:
    """The rows of z in the order in which the sum of |x_i - z_i|^2 is least, among rows under the same condition."""
    if seen:
        groups = torch.unique(torch.cat([value.flatten(1) for value in seen.values()], 1), dim=0, return_inverse=True)[1]
    else:
        groups = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    order = torch.arange(len(x), device=x.device)
    for group in groups.unique():
        rows = (groups == group).nonzero().squeeze(1)
        distances = torch.cdist(x[rows].flatten(1).detach().float(), z[rows].flatten(1).float()).square()
        _, partners = linear_sum_assignment(distances.cpu().numpy())
        order[rows] = rows[torch.from_numpy(partners).to(rows.device)]
    return z[order]
