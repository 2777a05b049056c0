"""BatchNorm as a flow layer (RealNVP, https://arxiv.org/abs/1605.08803, section 3.7 and appendix E)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from laminar.flows.initialise import SetByData
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform

_calibrating = False


@contextmanager
def calibrating() -> Iterator[None]:
    """Inside, a pass sets the averages to its own batch's statistics, also in evaluation mode. No gradients.

    Norm after norm: each sees rows that the norms before it have normalised by theirs.
    """
    global _calibrating
    _calibrating = True
    try:
        with torch.no_grad():
            yield
    finally:
        _calibrating = False


@contextmanager
def frozen_batch_statistics(flow: nn.Module) -> Iterator[None]:
    """Batch norms, torch's own too, use their running averages inside: copies of one example are no batch."""
    norms = [m for m in flow.modules() if isinstance(m, BatchNorm | nn.modules.batchnorm._BatchNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


class BatchNorm(SetByData, Transform):
    """z = (x - mean) / sqrt(var + eps), per channel; log-det = -positions / 2 * sum log(var + eps).

    In training mode mean and variance are the batch's own, so an example's number depends on its batch; running averages
    follow and serve evaluation and the inverse. The first batch (see ``SetByData``) starts the averages; in the inverse
    direction so that x has mean 0 and variance 1 over it.

    Args:
        affine: learn a scale exp(g) and a shift after it (MAF's batch norm).
        rows: of the training split whose statistics evaluation uses in place of running averages (MAF), taken before each
            validation by one pass inside ``calibrating()``; None for the averages.
    """

    def __init__(self, space: Space, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False, rows: int | None = None):
        super().__init__(space, space.within(None))
        shape = (space.event[0], *[1] * (len(space.event) - 1))
        self.positions = space.size // space.event[0]
        self.eps, self.momentum, self.rows = eps, momentum, rows
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))
        self.log_gain = nn.Parameter(torch.zeros(shape)) if affine else None
        self.bias = nn.Parameter(torch.zeros(shape)) if affine else None

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first = self.unset()
        if self.training or first or _calibrating:
            var, mean = self._moments(x)
            with torch.no_grad():
                momentum = 1.0 if first or _calibrating else self.momentum
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(var, momentum)
            if first:
                self.settle()
        else:
            mean, var = self.running_mean, self.running_var
        log_scale = self._log_scale(var)
        z = (x - mean) * log_scale.exp()
        if self.bias is not None:
            z = z + self.bias
        return z, (self.positions * log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return self.inverse_with_log_det(z)[0]

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        if self.unset():
            var, mean = self._moments(z.detach())
            self.running_var.copy_(1 / (var + self.eps))
            self.running_mean.copy_(-mean * (self.running_var + self.eps).sqrt())
            self.settle()
        log_scale = self._log_scale(self.running_var)
        if self.bias is not None:
            z = z - self.bias
        x = z * torch.exp(-log_scale) + self.running_mean
        return x, -(self.positions * log_scale.sum()).expand(len(z))

    def _moments(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        over = [0, *range(2, batch.dim())]
        rows = batch.double() if _calibrating else batch
        return tuple(m.view_as(self.running_mean).to(batch.dtype) for m in torch.var_mean(rows, over, correction=0))

    def _log_scale(self, var: Tensor) -> Tensor:
        log_scale = -0.5 * torch.log(var + self.eps)
        return log_scale if self.log_gain is None else log_scale + self.log_gain
