"""OwnDraws: what objectives share that train a flow on draws of its own."""

from torch import Tensor

from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.flow import Flow
from laminar.flows.space import Context, repeated
from laminar.refused import Refused
from laminar.training.objective.objective import Objective


class OwnDraws(Objective):
    """log Z - KL(q || p) for the flow's density q and p = exp(log_target) / Z: the mean of log_target(x) - log q(x), x ~ q.

    Every row of a batch stands for ``num_samples`` draws, functions of its noise key. A draw and its density are one pass of
    a flow whose cheap direction leads from noise to data; gradients reach the flow through the draws.

    -E log q(x) = H(prior) + E log|det dx/dz|, with the prior's entropy H in closed form where there is one: the gradient is
    that of -log q(x) itself. ``log_weights`` are the draws' own log_target(x) - log q(x).

    Args:
        num_samples: draws for each row of a batch.
    """

    draws = True

    def __init__(self, num_samples: int = 1):
        if num_samples < 1:
            raise Refused(f"objective.num_samples={num_samples} leaves nothing to average: give 1 or more")
        self.num_samples = num_samples

    def way(self, flow: Flow) -> Chain:
        """From the space of the target to noise."""
        return flow.density().transform

    def log_target(self, x: Tensor, context: Context) -> Tensor:
        """log p(x) up to a constant, ``(B,)``, with its gradient."""
        raise NotImplementedError

    def check(self, flow: Flow) -> None:
        if flow.density().stochastic or flow.noisy or not flow.density().invertible:
            raise Refused(f"train/{self.unit} needs the exact log-det of the flow's own draws, and a part of it has none")
        if any(True for _ in flow.prior.parameters()):
            raise Refused("draws of a learned prior carry no gradient to all that it learns: choose prior=gaussian")

    def __call__(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        z, log_det, log_target = self._draw(flow, x, context)
        entropy = flow.prior.entropy()
        surprise = log_det - flow.prior.log_prob(z) if entropy is None else log_det + entropy
        return (log_target + surprise).view(self.num_samples, -1).mean(0)

    def log_weights(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        """log_target(y) - log q(y) of the flow's draws y, ``(K, B)``."""
        z, log_det, log_target = self._draw(flow, x, context)
        return (log_target + log_det - flow.prior.log_prob(z)).view(self.num_samples, -1)

    def _draw(self, flow: Flow, x: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Noise z ``(K B, *event)``, log|det dx/dz| and log_target(x) ``(K B,)`` of K draws x for each row."""
        seen = repeated(flow.context(context), self.num_samples)
        with noise.copies(0, self.num_samples):
            z = flow.prior.sample(self.num_samples * len(x))
        drawn, log_det = self.way(flow).inverse_with_log_det(z, seen)
        return z, log_det, self.log_target(drawn, repeated(context, self.num_samples))
