"""Net: a conditioner. It reads what a layer shows it and answers with the parameters of a law."""

import torch
from torch import Tensor, nn

from laminar.flows.net.context import ContextReader
from laminar.flows.space import Context, Space
from laminar.refused import Refused


def drops(net: nn.Module) -> bool:
    """Whether a net drops units while it trains, and so is another function each time it is asked."""
    return any(isinstance(part, nn.Dropout) and part.p > 0 for part in net.modules())


class Net(nn.Module):
    """x of shape ``(B, *seen.event)`` -> parameters of shape ``(B, arity, *asked.event)``.

    The three arguments are its task, which a layer gives; a member of the menu hands them on (``*task``) and names its own
    options behind them. It ends in ``self.head``, a linear or convolutional layer whose ``outputs`` channels are ordered
    (arity, channel) and whose weights start near zero, so that a layer begins at the parameters that ``start`` was given.

    Attributes:
        reader: joins the context to what the net sees.
        rank: of the events that the net can see: 1 for vectors, 3 for images, None for both.
        vector_nets, image_nets: what else to choose.
    """

    rank: int | None = None
    vector_nets, image_nets = "net=mlp or net=residual", "net=convnet, net=resnet or net=residual"
    head: nn.Module

    def __init__(self, seen: Space, asked: Space, arity: int):
        super().__init__()
        if self.rank not in (None, len(seen.event)):
            name = type(self).__module__.rpartition(".")[2]
            reads = {1: "vectors", 3: "images"}[self.rank]
            event, cure = ("an image", self.image_nets) if seen.is_image else ("a vector", self.vector_nets)
            raise Refused(f"net={name} reads {reads}, and the event here is {event} {seen.event}: choose {cure}")
        self.seen, self.asked, self.arity = seen, asked, arity
        self.reader = ContextReader(seen)

    @property
    def outputs(self) -> int:
        """Channels of the head: ``arity`` for each channel (of a vector, each value) of the answer."""
        return self.arity * self.asked.event[0]

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def start(self, params: Tensor) -> None:
        """Fills the head's bias with a law's starting parameters ``(arity,)``."""
        self.head.bias.copy_(params.repeat_interleave(self.head.bias.numel() // self.arity))


def in_place(activation: nn.Module) -> nn.Module:
    """The activation, which overwrites what enters it if that spoils no gradient: for an input that nothing else reads."""
    if isinstance(activation, nn.ReLU):
        activation.inplace = True
    return activation


def by_pixel(images: Tensor) -> Tensor:
    """The same images ``(B, C, H, W)`` with a pixel's channels side by side in memory, as convolutions read them fastest."""
    return images.contiguous(memory_format=torch.channels_last)


def near_zero(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The layer as a head: outputs of about 0.01 for inputs of about 1."""
    nn.init.normal_(layer.weight, std=0.01 * layer.weight[0].numel() ** -0.5)
    nn.init.zeros_(layer.bias)
    return layer
