"""A mixture of full Gaussians, or of Student's t, fitted once to the noise of a flow's start by expectation maximisation
(Dempster, Laird, Rubin 1977; of t, Peel and McLachlan 2000)."""

from collections.abc import Sequence
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
STARTS, CLUSTERED = 8, 20_000  # clusterings to begin with at the most, and how many rows all of them may go through
FREEDOMS = (3, 5, 10, 30, 100)  # degrees of freedom that t may have; the last is a Gaussian but far out
ABSENT = -1e9  # the log-weight of a component that is not there: finite, as all of a checkpoint's numbers are
Parts = tuple[Tensor, Tensor, Tensor]  # log-weights (K,), means (K, D), covariances (K, D, D)


class FittedMixture(SetByData, Prior):
    """log p(z) = log sum_k pi_k N(z; m_k, L_k L_k^T), for events that are vectors; or t_v in place of N.

    The noise that a flow makes of the data when it starts is fitted by expectation maximisation (see ``SetByData``), with the
    number of components, 1, 2, 4 ..., that has the least BIC. They are no parameters: the flow moves, and the mixture is where
    it moves to. Temperature multiplies the components' deviations.

    Args:
        components: the most that there may be.
        tails: ``gaussian``, or ``student``, with the number of degrees of freedom v, the same for all components, whose BIC is
            the least. A row far from all others then costs the logarithm of its distance, not its square.
    """

    thorough = True

    def __init__(self, space: Space, components: int = 16, tails: str = "gaussian"):
        super().__init__(space)
        if tails not in ("gaussian", "student"):
            raise Refused(f"prior.tails is gaussian or student, not {tails!r}")
        if components < 1:
            raise Refused(f"prior.components={components}: a mixture needs at least 1 component")
        if not space.is_vector:
            raise Refused("prior=fitted_mixture is one of vectors: put a flatten before it, or choose prior=mixture")
        self.register_buffer("freedom", torch.tensor(float(FREEDOMS[-1])) if tails == "student" else None)  # v
        self.register_buffer("log_weight", torch.tensor([0.0, *[ABSENT] * (components - 1)]))
        self.register_buffer("mean", torch.zeros(components, space.size))
        self.register_buffer("factor", torch.eye(space.size).repeat(components, 1, 1))

    def log_prob(self, z: Tensor) -> Tensor:
        if self.unset():
            self._look(z)
        with full_precision(z):
            parts = self.log_weight.to(z.dtype), self.mean.to(z.dtype), self.factor.to(z.dtype)
            return log_joint(z, *parts, self.freedom).logsumexp(1)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        if self.unset():
            raise Refused(
                "prior=fitted_mixture is fitted to the noise of data, and there is none yet to draw: score some first"
            )
        like = self.like(n)
        level = noise.uniform(like[:, :1])
        component = (level >= self.log_weight.exp().cumsum(0)[:-1]).sum(1)
        unit = noise.normal(like)
        if self.freedom is not None:
            unit = unit / noise.normal(like.new_empty(n, int(self.freedom))).square().mean(1, keepdim=True).sqrt()
        return self.mean[component] + temperature * torch.einsum("bij,bj->bi", self.factor[component], unit)

    @torch.no_grad()
    def _look(self, batch: Tensor) -> None:
        rows = self.gather(batch.double(), lambda a, b: torch.cat([a, b]))
        freedoms = [None] if self.freedom is None else torch.tensor(FREEDOMS).to(rows)
        (log_weight, mean, covariance), freedom = fit(rows, len(self.log_weight), freedoms)
        count = len(log_weight)
        if freedom is not None:
            self.freedom.copy_(freedom)
        self.log_weight.fill_(ABSENT)[:count] = log_weight.to(self.log_weight)
        self.mean.zero_()[:count] = mean.to(self.mean)
        self.factor.copy_(torch.eye(self.space.size).to(self.factor))[:count] = torch.linalg.cholesky(covariance).to(
            self.factor
        )
        self.settle()


def log_joint(z: Tensor, log_weight: Tensor, mean: Tensor, factor: Tensor, freedom: Tensor | None = None) -> Tensor:
    """log pi_k N(z; m_k, L_k L_k^T), or of t with so many degrees of freedom, ``(B, K)``."""
    return joint_of(squares(z, mean, factor), z.shape[1], log_weight, factor, freedom)


def joint_of(square: Tensor, dims: int, log_weight: Tensor, factor: Tensor, freedom: Tensor | None) -> Tensor:
    """The same of squared distances to the components, ``(B, K)``."""
    v, constant = freedom, log_weight - factor.diagonal(dim1=1, dim2=2).log().sum(1)
    if v is None:
        return constant - 0.5 * (square + dims * log(2 * pi))
    constant = constant + torch.lgamma((v + dims) / 2) - torch.lgamma(v / 2) - 0.5 * dims * torch.log(v * pi)
    return constant - 0.5 * (v + dims) * torch.log1p(square / v)


def squares(z: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Squared distances to the components in units of their deviations, ``(B, K)``."""
    return torch.linalg.solve_triangular(factor, (z[None] - mean[:, None]).mT, upper=False).square().sum(1).T


def fit(rows: Tensor, most: int, freedoms: Sequence[Tensor | None] = (None,)) -> tuple[Parts, Tensor | None]:
    """The mixture whose BIC is the least, the number of components, 1, 2, 4 ... up to ``most``, growing while it falls; and its
    degrees of freedom. Of several clusterings to start from, the one that fits best in the middle of these counts for all."""
    (count, dims), best, least, components = rows.shape, None, inf, 1
    while components <= most and (best is None or 2 * components <= count):
        tries = 1 if components == 1 else max(1, min(STARTS, CLUSTERED // count))
        middle = freedoms[len(freedoms) // 2]
        starts = [clusters(rows, components, seed) for seed in range(tries)]
        first, start = max(((expect_and_maximise(rows, start, middle), start) for start in starts), key=lambda one: one[0][1])
        others = [(*expect_and_maximise(rows, start, freedom), freedom) for freedom in freedoms if freedom is not middle]
        parts, score, freedom = max([(*first, middle), *others], key=lambda one: one[1])
        size = components * (1 + dims + dims * (dims + 1) // 2) - 1
        if (bic := size * log(count) - 2 * score) >= least:
            break
        best, least, components = (parts, freedom), bic, 2 * components
    return best


def expect_and_maximise(rows: Tensor, share: Tensor, freedom: Tensor | None) -> tuple[Parts, float]:
    """Expectation maximisation from so much of each row in each component ``(N, K)``, and the rows' log-likelihood."""
    before, near = -inf, share
    for _ in range(ROUNDS):
        parts = maximise(rows, share, near)
        factor = torch.linalg.cholesky(parts[2])
        square = squares(rows, parts[1], factor)
        joint = joint_of(square, rows.shape[1], parts[0], factor, freedom)
        total = joint.logsumexp(1)
        near = share = (joint - total[:, None]).exp()
        if freedom is not None:  # a row far away says less of where the centre is
            near = share * (freedom + rows.shape[1]) / (freedom + square)
        score = total.mean().item()
        if score - before < CLOSE:
            break
        before = score
    return parts, score * len(rows)


def maximise(rows: Tensor, share: Tensor, near: Tensor) -> Parts:
    """The parts that fit best, where so much of each row belongs to each component, and counts so much for its place."""
    weight = share.sum(0) + 1e-9
    mean = near.T @ rows / (near.sum(0) + 1e-9)[:, None]
    centred = rows[None] - mean[:, None]
    covariance = torch.einsum("nk,kni,knj->kij", near, centred, centred) / weight[:, None, None]
    return (weight / weight.sum()).log(), mean, covariance + RIDGE * torch.eye(rows.shape[1]).to(rows)


def clusters(rows: Tensor, count: int, seed: int) -> Tensor:
    """Which cluster each row is in ``(N, K)``, by k-means whose centres start far apart (Arthur and Vassilvitskii 2007)."""
    generator = torch.Generator().manual_seed(seed)
    centres = rows[torch.randint(len(rows), (1,), generator=generator)]
    for _ in range(count - 1):
        far = torch.cdist(rows, centres).amin(1).square().cpu() + 1e-12
        centres = torch.cat([centres, rows[torch.multinomial(far, 1, generator=generator)]])
    for _ in range(50):
        share = torch.nn.functional.one_hot(torch.cdist(rows, centres).argmin(1), count).to(rows)
        size, before = share.sum(0)[:, None], centres
        centres = torch.where(size > 0, share.T @ rows / size.clamp(min=1), centres)
        if torch.equal(centres, before):
            break
    return share
