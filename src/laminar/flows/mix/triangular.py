"""Triangular: the linear map behind a Gaussian, x = A z + b, which starts at the Gaussian that fits the data best."""

from math import prod

import torch
from torch import Tensor, nn

from laminar.flows.initialise import SetByData
from laminar.flows.numerics import full_precision
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform

Moments = tuple[int, Tensor, Tensor]


class Triangular(SetByData, Transform):
    """z = A^-1 (x - b), A lower triangular with a diagonal exp(d); log-det = -positions * sum d. x = A z + b.

    Over the first axis of an event, like every mix, at every position of an image. It starts (see ``SetByData``) at b the mean
    and A the Cholesky factor of the covariance of all rows that it is shown: with a Gaussian prior that is the maximum of the
    likelihood, in closed form. The sums run in float64.

    Args:
        ridge: where the covariance is singular, as of pixels that never vary, so that some value has less than this share of
            the mean variance left given those before it, the share is added to every variance.
    """

    thorough = True

    def __init__(self, space: Space, ridge: float = 1e-6):
        super().__init__(space, space.within(None))
        n = space.event[0]
        self.positions, self.ridge = prod(space.event[1:]), ridge
        self.bias = nn.Parameter(torch.zeros(n))
        self.log_diagonal = nn.Parameter(torch.zeros(n))
        self.lower = nn.Parameter(torch.zeros(n * (n - 1) // 2))  # row after row
        self.register_buffer("places", torch.tril_indices(n, n, -1, device="cpu"), persistent=False)

    def factor(self) -> Tensor:
        """A, ``(C, C)``."""
        return self.log_diagonal.exp().diag().index_put(tuple(self.places), self.lower)

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        if self.unset():
            self._look(x)
        with full_precision(x):
            centred = _columns(x) - self.bias.to(x.dtype)[:, None]
            z = torch.linalg.solve_triangular(self.factor().to(x.dtype), centred, upper=False)
        return _rows(z, x), -self._log_det(x)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        if self.unset():
            self._look(z, forth=False)
        with full_precision(z):
            return _rows(torch.addmm(self.bias.to(z.dtype)[:, None], self.factor().to(z.dtype), _columns(z)), z)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), self._log_det(z)

    def _log_det(self, like: Tensor) -> Tensor:
        return (self.positions * self.log_diagonal.sum()).to(like.dtype).expand(len(like))

    @torch.no_grad()
    def _look(self, batch: Tensor, forth: bool = True) -> None:
        count, mean, scatter = self.gather(moments(_columns(batch)), merged)
        factor = cholesky(scatter / count, self.ridge)
        if not forth:  # what comes in is z, and x shall be standard: A = C^-1, b = -C^-1 mean
            factor = torch.linalg.solve_triangular(factor, torch.eye(len(mean)).to(factor), upper=False)
            mean = -factor @ mean
        self.bias.copy_(mean)
        self.log_diagonal.copy_(factor.diagonal().log())
        self.lower.copy_(factor[tuple(self.places)])
        self.settle()


def moments(columns: Tensor) -> Moments:
    """Count, mean ``(C,)`` and scatter ``(C, C)``, sum of (x - mean)(x - mean)^T, of ``(C, N)``, in float64."""
    columns = columns.double()
    mean = columns.mean(1)
    centred = columns - mean[:, None]
    return columns.shape[1], mean, centred @ centred.T


def merged(a: Moments, b: Moments) -> Moments:
    """The moments of both parts (Chan, Golub and LeVeque 1983)."""
    count, apart = a[0] + b[0], b[1] - a[1]
    mean = a[1] + apart * (b[0] / count)
    return count, mean, a[2] + b[2] + torch.outer(apart, apart) * (a[0] * b[0] / count)


def cholesky(covariance: Tensor, ridge: float) -> Tensor:
    """The lower Cholesky factor, with a ridge where the matrix is singular: see ``Triangular``."""
    least = ridge * covariance.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed or factor.diagonal().square().min() < least:
        factor = torch.linalg.cholesky(covariance + least * torch.eye(len(covariance)).to(covariance))
    return factor


def _columns(x: Tensor) -> Tensor:
    """``(B, C, ...)`` -> ``(C, B * positions)``."""
    return x.movedim(1, 0).flatten(1)


def _rows(columns: Tensor, like: Tensor) -> Tensor:
    return columns.view(like.shape[1], len(like), *like.shape[2:]).movedim(0, 1)
