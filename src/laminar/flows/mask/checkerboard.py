"""Checkerboard: the fields of one colour (RealNVP, https://arxiv.org/abs/1605.08803, section 3.4)."""

import torch
from torch import Tensor

from laminar.flows.mask.partition import Partition, images_only
from laminar.flows.space import Space
from laminar.refused import Refused


class Checkerboard(Partition):
    """given are the fields with row + column even, moved those with row + column odd; flipped, the other way round.

    Both parts are dense: ``(C, H, W / 2)``, each row closing up its gaps. A net sees the given part so packed, with a plane
    of row parities, since the rows are shifted against each other: half of the cost. With ``full`` it sees the whole image
    with zeros in place of the moved fields, and the mask as a plane: RealNVP's published view.
    """

    def __init__(self, space: Space, flip: bool = False, full: bool = False):
        super().__init__(space, flip)
        images_only("checkerboard", space)
        if space.event[2] % 2:
            raise Refused(
                f"mask=checkerboard needs an even width, and the event here has shape {space.event}: "
                "use fewer size.levels, multiscale=flat, or pad the data"
            )
        self.full = full
        c, h, w = space.event
        self.given = self.moved = space.reshaped(c, h, w // 2)

    @property
    def seen(self) -> Space:
        c, h, w = self.space.event if self.full else self.given.event
        return self.given.reshaped(c + 1, h, w)

    @property
    def asked(self) -> Space:
        return self.space if self.full else self.moved

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        even, odd = x[..., 0::2], x[..., 1::2]
        straight = self._straight(x)
        return torch.where(straight, even, odd), torch.where(straight, odd, even)

    def merge(self, given: Tensor, moved: Tensor) -> Tensor:
        straight = self._straight(given)
        pair = torch.where(straight, given, moved), torch.where(straight, moved, given)
        return torch.stack(pair, -1).flatten(-2)

    def show(self, given: Tensor) -> Tensor:
        if self.full:
            plane = self.merge(torch.ones_like(given[:, :1]), torch.zeros_like(given[:, :1]))
            given = self.merge(given, torch.zeros_like(given))
        else:
            plane = (2.0 * self._straight(given) - 1.0).to(given.dtype).expand(len(given), 1, -1, given.shape[-1])
        return torch.cat((given, plane), 1)

    def pick(self, params: Tensor) -> Tensor:
        return self.split(params)[1] if self.full else params

    def _straight(self, x: Tensor) -> Tensor:
        """``(H, 1)``: the rows whose first field is given."""
        return (torch.arange(x.shape[-2], device=x.device)[:, None] % 2 == 1) == self.flip
