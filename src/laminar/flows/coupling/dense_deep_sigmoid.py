"""Dense deep sigmoidal law (DDSF; Neural Autoregressive Flows, Huang et al. 2018, https://arxiv.org/abs/1804.00779)."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from laminar.flows.coupling.deep_sigmoid import MIN_RATE, sigmoids
from laminar.flows.coupling.law import Law
from laminar.flows.numerics import full_precision, invert
from laminar.refused import Refused

MIN_LOG_SHARE = -30.0


class DenseDeepSigmoid(Law):
    """L layers of H sigmoids between dense convex mixtures, from one value to one value::

        h_0 = x,   h_l = logit(W_l sigmoid(z_l)),   z_l = a_l * (U_l h_l-1) + b_l,   y = h_L
        U_l = softmax over columns of (U + u_l),    W_l = softmax over columns of (W + w_l),    a_l > 0

    The tables U (H, in) and W (out, H) are shared; a, b, w (H each) and u (in) are each element's own. Since the softmax of a
    sum is a product of factors, a mixture costs a multiplication by exp(U) or exp(W), and no element has a matrix of its own.
    The slopes of an increasing map from one value travel beside the values as logs. Nothing is clipped: y takes every value.
    An entry of U or W counts as 30 below its row's largest at least.

    x lies where the smallest and the largest of the sigmoids alone would put it, layer by layer from y down; within, by
    safeguarded Newton (``numerics.find_root``).

    Parameters: for each layer a (behind a softplus), b, w, u. Shared: for each layer U, W.

    Args:
        layers: L.
        width: H.
    """

    closed = False

    def __init__(self, layers: int = 2, width: int = 16):
        if min(layers, width) < 1:
            raise Refused(f"coupling.layers={layers} and coupling.width={width} must both be at least 1")
        self.layers, self.width = layers, width
        self.sizes = [1, *[width] * (layers - 1), 1]
        self.arity = sum(3 * width + inputs for inputs in self.sizes[:-1])
        self.shared = sum(width * (inputs + outputs) for inputs, outputs in zip(self.sizes, self.sizes[1:], strict=False))

    def start(self, generator: torch.Generator) -> Tensor:
        """Nearly the identity: sigmoids apart, mixed by almost equal weights."""
        own = [torch.cat([*sigmoids(self.width), torch.zeros(self.width + inputs)]) for inputs in self.sizes[:-1]]
        return torch.cat([*own, torch.empty(self.shared).uniform_(-1e-3, 1e-3, generator=generator)])

    def __call__(self, x: Tensor, params: Tensor, shared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_slope = _through(x.flatten(1), self._layers(params, shared))
        return y.view_as(x), log_slope.view_as(x)

    def inverse(self, y: Tensor, params: Tensor, shared: Tensor | None = None) -> Tensor:
        layers = self._layers(params, shared)
        flat = y.flatten(1)
        low = high = flat.detach()
        for layer in reversed(layers):
            a, b = layer[0].detach().exp(), layer[1].detach()
            low, high = ((low.unsqueeze(-1) - b) / a).amin(-1), ((high.unsqueeze(-1) - b) / a).amax(-1)
        return invert(lambda x: _through(x, layers), flat, low, high, flat.detach()).view_as(y)

    def _layers(self, params: Tensor, shared: Tensor) -> list[tuple[Tensor, ...]]:
        """For each layer log a, b, w ``(B, N, H)``, u ``(B, N, in)`` and the tables exp(U), exp(W), transposed."""
        width, event = self.width, params.shape[2:]
        own = params.flatten(2).transpose(1, 2).contiguous()
        # Tables that all elements share stay without an axis for these.
        shared = shared.flatten() if shared.numel() == self.shared else shared.expand(-1, *event).flatten(1).T
        layers = []
        for inputs, outputs in zip(self.sizes, self.sizes[1:], strict=False):
            a, b, w, u = own[..., : 3 * width + inputs].split([width, width, width, inputs], -1)
            tables = shared[..., : width * (inputs + outputs)].split([width * inputs, width * outputs], -1)
            w, u = (logits - logits.detach().amax(-1, keepdim=True) for logits in (w, u))
            layers.append(((softplus(a) + MIN_RATE).log(), b, w, u, _table(tables[0], inputs), _table(tables[1], width)))
            own, shared = own[..., 3 * width + inputs :], shared[..., width * (inputs + outputs) :]
        return layers


def _table(flat: Tensor, columns: int) -> Tensor:
    """The exponential of a table of logits with its largest entry of a row at 1, transposed: ``(.., columns, rows)``."""
    logits = flat.unflatten(-1, (-1, columns))
    logits = logits - logits.detach().amax(-1, keepdim=True)
    return logits.clamp(min=MIN_LOG_SHARE).exp().transpose(-1, -2)


def _mixed(table: Tensor, *logs: Tensor) -> tuple[Tensor, ...]:
    """log sum_i exp(log_i) table_io of each, ``(B, N, in) -> (B, N, out)``. No sum vanishes: its largest term has a share."""
    stacked = torch.stack(logs, -2)
    peak = stacked.detach().amax(-1, keepdim=True)
    return (torch.exp(stacked - peak) @ table).log().add(peak).unbind(-2)


def _through(x: Tensor, layers: list[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    """y and log dy/dx, for x ``(B, N)``."""
    h, log_slope = x.unsqueeze(-1), x.new_zeros(()).expand(*x.shape, 1)
    with full_precision(x):
        for log_a, b, w, u, table_u, table_w in layers:
            if h.shape[-1] > 1:  # a mixture of one thing is that thing
                share = u.exp()
                total, h = (torch.stack([share, share * h], -2) @ table_u).unbind(-2)
                h = h / total
                (log_slope,) = _mixed(table_u, u + log_slope)
                log_slope = log_slope - total.log()
            z = torch.addcmul(b, log_a.exp(), h)
            below, above = w + logsigmoid(z), w + logsigmoid(-z)
            log_cdf, log_survival, log_density, total = _mixed(table_w, below, above, below + above - w + log_a + log_slope, w)
            h, log_slope = log_cdf - log_survival, log_density - log_cdf - log_survival + total
    return h.squeeze(-1), log_slope.squeeze(-1)
