"""A mixture of full Gaussians, fitted once to the noise of a flow's start by EM (Dempster, Laird, Rubin 1977)."""

from math import inf, log, pi

import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.initialise import SetByData
from laminar.flows.numerics import full_precision
from laminar.flows.prior.prior import Prior
from laminar.flows.space import Space
from laminar.refused import Refused

ROUNDS, CLOSE, RIDGE = 200, 1e-4, 1e-3
ABSENT = -1e9  # the log-weight of a component that is not there: finite, as all of a checkpoint's numbers are
Parts = tuple[Tensor, Tensor, Tensor]  # log-weights (K,), means (K, D), covariances (K, D, D)


class FittedMixture(SetByData, Prior):
    """log p(z) = log sum_k pi_k N(z; m_k, L_k L_k^T), for events that are vectors.

    The noise that a flow makes of the data when it starts is fitted by expectation maximisation (see ``SetByData``), with the
    number of components, 1, 2, 4 ..., that has the least BIC. They are no parameters: the flow moves, and the mixture is where
    it moves to. Temperature multiplies the components' deviations.

    Args:
        components: the most that there may be.
    """

    thorough = True

    def __init__(self, space: Space, components: int = 16):
        super().__init__(space)
        if components < 1:
            raise Refused(f"prior.components={components}: a mixture needs at least 1 component")
        if not space.is_vector:
            raise Refused("prior=fitted_mixture is one of vectors: put a flatten before it, or choose prior=mixture")
        self.register_buffer("log_weight", torch.tensor([0.0, *[ABSENT] * (components - 1)]))
        self.register_buffer("mean", torch.zeros(components, space.size))
        self.register_buffer("factor", torch.eye(space.size).repeat(components, 1, 1))

    def log_prob(self, z: Tensor) -> Tensor:
        if self.unset():
            self._look(z)
        with full_precision(z):
            return log_joint(z, self.log_weight.to(z.dtype), self.mean.to(z.dtype), self.factor.to(z.dtype)).logsumexp(1)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        if self.unset():
            raise Refused(
                "prior=fitted_mixture is fitted to the noise of data, and there is none yet to draw: score some first"
            )
        like = self.like(n)
        level = noise.uniform(like[:, :1])
        component = (level >= self.log_weight.exp().cumsum(0)[:-1]).sum(1)
        return self.mean[component] + temperature * torch.einsum("bij,bj->bi", self.factor[component], noise.normal(like))

    @torch.no_grad()
    def _look(self, batch: Tensor) -> None:
        rows = self.gather(batch.double(), lambda a, b: torch.cat([a, b]))
        log_weight, mean, covariance = fit(rows, len(self.log_weight))
        count = len(log_weight)
        self.log_weight.fill_(ABSENT)[:count] = log_weight.to(self.log_weight)
        self.mean.zero_()[:count] = mean.to(self.mean)
        self.factor.copy_(torch.eye(self.space.size).to(self.factor))[:count] = torch.linalg.cholesky(covariance).to(
            self.factor
        )
        self.settle()


def log_joint(z: Tensor, log_weight: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """log pi_k N(z; m_k, L_k L_k^T), ``(B, K)``."""
    unit = torch.linalg.solve_triangular(factor, (z[None] - mean[:, None]).mT, upper=False)  # (K, D, B)
    constant = factor.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * z.shape[1] * log(2 * pi)
    return log_weight - constant - 0.5 * unit.square().sum(1).T


def fit(rows: Tensor, most: int) -> Parts:
    """The mixture of 1, 2, 4 ... up to ``most`` components whose BIC is the least, the number growing while it falls."""
    (count, dims), best, least, components = rows.shape, None, inf, 1
    while components <= most and (best is None or 2 * components <= count):
        parts, score = expect_and_maximise(rows, components)
        size = components * (1 + dims + dims * (dims + 1) // 2) - 1
        if (bic := size * log(count) - 2 * score) >= least:
            break
        best, least, components = parts, bic, 2 * components
    return best


def expect_and_maximise(rows: Tensor, components: int) -> tuple[Parts, float]:
    """Expectation maximisation from the clusters of k-means, and the rows' log-likelihood."""
    share = torch.nn.functional.one_hot(clusters(rows, components), components).to(rows)
    before = -inf
    for _ in range(ROUNDS):
        parts = maximise(rows, share)
        joint = log_joint(rows, parts[0], parts[1], torch.linalg.cholesky(parts[2]))
        total = joint.logsumexp(1)
        share, score = (joint - total[:, None]).exp(), total.mean().item()
        if score - before < CLOSE:
            break
        before = score
    return parts, score * len(rows)


def maximise(rows: Tensor, share: Tensor) -> Parts:
    """The parts that fit best, where so much of each row belongs to each component."""
    weight = share.sum(0) + 1e-9
    mean = share.T @ rows / weight[:, None]
    centred = rows[None] - mean[:, None]
    covariance = torch.einsum("nk,kni,knj->kij", share, centred, centred) / weight[:, None, None]
    return (weight / weight.sum()).log(), mean, covariance + RIDGE * torch.eye(rows.shape[1]).to(rows)


def clusters(rows: Tensor, count: int) -> Tensor:
    """The number of each row's cluster by k-means, whose centres start at rows far apart (Arthur and Vassilvitskii 2007)."""
    generator = torch.Generator().manual_seed(0)
    centres = rows[torch.randint(len(rows), (1,), generator=generator)]
    for _ in range(count - 1):
        far = torch.cdist(rows, centres).amin(1).square().cpu() + 1e-12
        centres = torch.cat([centres, rows[torch.multinomial(far, 1, generator=generator)]])
    for _ in range(50):
        own = torch.cdist(rows, centres).argmin(1)
        share = torch.nn.functional.one_hot(own, count).to(rows)
        size = share.sum(0)[:, None]
        centres = torch.where(size > 0, share.T @ rows / size.clamp(min=1), centres)
    return own
