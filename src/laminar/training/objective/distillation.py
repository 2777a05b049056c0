"""Density distillation (Parallel WaveNet, van den Oord et al. 2017, https://arxiv.org/abs/1711.10433)."""

from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor, nn

from laminar.flows.compose.chain import Chain, links_of
from laminar.flows.dequantization.dequantization import Dequantization
from laminar.flows.flow import Flow
from laminar.flows.preprocessing.logit import Logit
from laminar.flows.space import Context
from laminar.refused import Refused
from laminar.training.checkpoint import load
from laminar.training.objective.own_draws import OwnDraws


class Distillation(OwnDraws):
    """-KL(flow || teacher): the flow, a student that samples fast, learns the density of one that scores fast.

    The parts that both begin with and nobody trains (dequantizer, preprocessing, reshapes) cancel, and the KL is that of the
    densities behind them. The teacher is frozen, in evaluation mode, and in no checkpoint of the student's.

    Args:
        teacher: the run folder of a flow on the same data, of which the best weights are taken.
        num_samples: draws for each row of a batch.
    """

    unit = "kl"

    def __init__(self, teacher: str | None = None, num_samples: int = 1):
        super().__init__(num_samples)
        if teacher is None:
            raise Refused("objective=distillation learns from a flow that is trained: give its folder, objective.teacher=<run>")
        self.name, best = f"objective.teacher={teacher}", Path(teacher) / "checkpoints" / "best.ckpt"
        if not best.is_file():
            raise Refused(f"{self.name} has no checkpoints/best.ckpt: give the run folder of a flow that was validated")
        self.teacher, _ = load(best, None)
        self.teacher.requires_grad_(False)
        self.shared, self.body = 0, self.teacher.density()

    def to(self, device: torch.device) -> None:
        self.teacher.to(device)

    def check(self, flow: Flow) -> None:
        """Refuses a teacher of other data, of another dequantization, or whose support is the smaller one."""
        super().check(flow)
        ours, theirs = flow.space, self.teacher.space
        if (ours.event, ours.levels, ours.upper) != (theirs.event, theirs.levels, theirs.upper):
            raise Refused(
                f"{self.name} is a density of events of shape {theirs.event} with levels {theirs.levels}, and these data have "
                f"{ours.event} and {ours.levels}: distil on the teacher's own data"
            )
        if flow.conditional != self.teacher.conditional or getattr(flow.context, "dropout", 0):
            raise Refused(f"{self.name} and its student must see the same context, in every row: choose the teacher's context")
        links, others = [*links_of(flow.transform)], [*links_of(self.teacher.transform)]
        self.shared = sum(1 for _ in takewhile(lambda pair: alike(*pair), zip(links, others, strict=False)))
        for part in (*links[self.shared :], *others[self.shared :]):
            if isinstance(part, Dequantization):
                raise Refused(
                    f"{self.name} makes reals of integers by {type(others[0]).__name__}, and this flow by "
                    f"{type(links[0]).__name__}: give both the same dequantization, one without a net (dequantization=uniform)"
                )
        behind = Chain.of(others[self.shared - 1].codomain if self.shared else theirs, others[self.shared :])
        self.body = Flow(behind.domain, lambda space: behind, lambda s: self.teacher.prior, lambda s: self.teacher.context)
        self.body.eval()
        if any(isinstance(part, Logit) for part in behind.parts) or (flow.prior.low == -torch.inf and self.ends()):
            raise Refused(
                f"{self.name} has no density outside a box, and this flow has some there, so the KL would be infinite: give "
                "both the same preprocessing, or take a teacher with prior=gaussian"
            )

    def ends(self) -> bool:
        """Whether the teacher has no density beyond the known range of what its body reads."""
        space = self.body.space
        if space.top is None or self.teacher.conditional:
            return False
        around = torch.rand(64, *space.event, generator=torch.Generator().manual_seed(0)) * 3 - 1
        with torch.no_grad():
            return not self.body.log_prob(space.top * around.to(self.body.prior.anchor)).isfinite().any()

    def way(self, flow: Flow) -> Chain:
        return Chain.of(self.body.space, [*links_of(flow.transform)][self.shared :])

    def log_target(self, x: Tensor, context: Context) -> Tensor:
        return self.body.log_prob(x.to(self.body.prior.anchor.dtype), context).to(x.dtype)


def alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two parts are the same fixed map: of one kind, without parts or parameters, all settings equal."""

    def settings(part: nn.Module) -> dict:
        return {name: value for name, value in vars(part).items() if not name.startswith("_") and name != "training"}

    if type(one) is not type(other) or any(True for part in (one, other) for _ in (*part.children(), *part.parameters())):
        return False
    buffers = dict(other.named_buffers())
    same = all(torch.equal(value.double().cpu(), buffers[name].double().cpu()) for name, value in one.named_buffers())
    return same and settings(one) == settings(other)
