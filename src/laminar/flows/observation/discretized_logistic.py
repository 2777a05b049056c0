"""The discretized logistic of IAF (Kingma et al. 2016, https://arxiv.org/abs/1606.04934) and PixelCNN++."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from laminar.flows.numerics import inside
from laminar.flows.observation.observation import Integers
from laminar.flows.space import Space

NARROW, WIDE = -7.0, 40.0  # bounds of the log-scale; the published one keeps a value from costing nothing at all


class DiscretizedLogistic(Integers):
    """The mass that a logistic of mean m and scale exp(s) has in each level's bin, the outer bins reaching to infinity::

        P(x) = sigmoid(b) - sigmoid(a),   a, b = (v -+ h - m) exp(-s),   v = 2x / (levels - 1) - 1,   h = 1 / (levels - 1)

    computed as log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b)), which is exact in the tails. Parameters m, s.

    Args:
        one_scale: s is one number for all values, learned beside the decoder (IAF).
    """

    start = -1.0  # about as wide as the values of images are spread; from 0 that is 500 of Adam's steps at 0.002 away

    def __init__(self, space: Space, one_scale: bool = False):
        super().__init__(space)
        self.arity, self.shared = (1, 1) if one_scale else (2, 0)

    def _read(self, params: Tensor) -> tuple[Tensor, Tensor]:
        return params[:, 0], params[:, 1].clamp(NARROW, WIDE)

    def log_probs(self, x: Tensor, params: Tensor) -> Tensor:
        mean, log_scale = self._read(params)
        rate, half = (-log_scale).exp(), 1 / (self.levels - 1)
        centred = x * (2 * half) - 1 - mean
        first, last = x <= 0, x >= self.levels - 1
        below = logsigmoid((centred + half) * rate).masked_fill(last, 0.0)
        above = logsigmoid((half - centred) * rate).masked_fill(first, 0.0)
        return below + above + (-(-2 * half * rate).expm1()).log().masked_fill(first | last, 0.0)

    def quantile(self, u: Tensor, params: Tensor) -> Tensor:
        mean, log_scale = self._read(params)
        v = mean + log_scale.exp() * inside(u).logit()
        return ((v + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1)

    def mean(self, params: Tensor) -> Tensor:
        mean, log_scale = self._read(params)
        rate, half = (-log_scale).exp(), 1 / (self.levels - 1)
        return sum(((mean - (2 * k - 1) * half + 1) * rate).sigmoid() for k in range(1, self.levels))  # of P(x >= k)
