"""Transform: the one contract. Every stop between stored data and noise is one."""

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from laminar.flows.space import Context, Space
from laminar.refused import Refused


class Transform(nn.Module):
    """A stop on the way from data x to noise z.

    ``forward``              x -> z, with the stop's contribution to log p(x) in nats, shape (B,)
    ``inverse``              z -> x, without a log-det
    ``inverse_with_log_det`` z -> x, with log|det dx/dz|, shape (B,)

    For a bijection the contribution is log|det dz/dx|, and ``inverse_with_log_det`` gives its negative.

    Facts are asked, never stored: a transform made of transforms answers by its parts, at the moment of asking. A leaf says
    its own, by an attribute of its class or a property::

        stochastic   it draws on its way: log p(x) becomes a lower bound, and there is no inverse log-det
        noisy        its contribution is an estimate
        biased       that estimate's mean is another number: a series broken off
        invertible   ``inverse(forward(x))`` is x; false where the way back draws (an absolute value, a maximum, a sorting)
        closed       and that in one pass, by a formula: it costs what forward does, and is as accurate

    Attributes:
        domain: the Space of x.
        codomain: the Space of z.
    """

    def __init__(self, domain: Space, codomain: Space | None = None):
        if not isinstance(domain, Space):
            raise Refused(
                f"layer={_page(self)} works on whole events, and this step splits its event by a mask: choose layer=coupling, "
                "or a flow that repeats whole-event layers (flow=gaussianization)"
            )
        super().__init__()
        self.domain = domain
        self.codomain = codomain or domain

    @property
    def stochastic(self) -> bool:
        return any(part.stochastic for part in parts_of(self))

    @property
    def noisy(self) -> bool:
        return any(part.noisy for part in parts_of(self))

    @property
    def biased(self) -> bool:
        return any(part.biased for part in parts_of(self))

    @property
    def invertible(self) -> bool:
        return all(part.invertible for part in parts_of(self))

    @property
    def closed(self) -> bool:
        return self.invertible and all(part.closed for part in parts_of(self))

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        raise NotImplementedError

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        if self.stochastic or not self.invertible:
            raise Refused(
                f"{type(self).__name__} draws on its way, so its inverse has no log-det: samples carry their log-prob behind "
                "it alone, by flow.density()"
            )
        raise NotImplementedError

    def refresh(self) -> None:
        """Brings what follows the weights up to them, as a power iteration does; a part that has such state extends it.

        Called before each optimizer step, after an average was swapped in, and when weights are loaded to evaluate; what a
        validation refreshed is put back after it. Never by a resume: one iteration more is another run. Thorough in
        evaluation mode; in training it waits for no device.
        """
        for part in parts_of(self):
            part.refresh()


def parts_of(module: nn.Module) -> Iterator[Transform]:
    """The nearest transforms below a module, wherever they sit: in lists, couplings, flows within flows."""
    for child in module.children():
        if isinstance(child, Transform):
            yield child
        else:
            yield from parts_of(child)


def _page(part: nn.Module) -> str:
    """The name under which a member of a group is ordered."""
    return type(part).__module__.rpartition(".")[2]


Recipe = Callable[[Space], Transform]
