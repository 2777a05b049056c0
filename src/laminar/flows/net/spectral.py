"""Spectral: linear maps of bounded norm (Gouk, Frank, Pfahringer, Cree 2018, https://arxiv.org/abs/1804.04368; at a
convolution's true spatial size, Behrmann et al. 2019, https://arxiv.org/abs/1811.00995)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST, MOST = 30, 2000  # rounds of a thorough refresh
START = 20


class Spectral(nn.Module):
    """y = W' x + b with W' = W min(1, coefficient / sigma) and sigma = u W v, the largest singular value of W.

    u and v follow W by power iteration, only ever in ``refresh``: a forward pass, and its gradient, take them as they are.
    In training a few rounds go on from where they were. In evaluation something of every direction is mixed in first, for one
    that has overtaken u may hardly be in it.

    Args:
        start: gives W and b.
        sides: shapes of u and v.
        coefficient: below 1.
        iterations: of a refresh in training, which waits for no device.
        tolerance: relative change of sigma at which a refresh in evaluation is done.
    """

    def __init__(
        self,
        start: nn.Linear | nn.Conv2d,
        sides: tuple[tuple[int, ...], tuple[int, ...]],
        coefficient: float,
        iterations: int,
        tolerance: float,
    ):
        super().__init__()
        self.weight, self.bias = start.weight, start.bias
        self.coefficient, self.iterations, self.tolerance = coefficient, iterations, tolerance
        for name, shape in zip(("u", "v"), sides, strict=True):
            self.register_buffer(name, F.normalize(torch.randn(shape).flatten(), dim=0).view(shape))
        if not self.weight.is_meta:
            self._iterate(START, None)

    def map(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def transposed(self, y: Tensor) -> Tensor:
        """W^T y."""
        raise NotImplementedError

    def bounded(self) -> Tensor:
        """W', with the gradient of its sigma."""
        sigma = (self.u * self.map(self.v, self.weight)).sum()
        return self.weight / (sigma / self.coefficient).clamp(min=1)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        return self.map(x, self.bounded() if weight is None else weight, self.bias)

    def refresh(self) -> None:
        if self.training:
            self._iterate(self.iterations, None)
            return
        random = torch.randn(self.u.shape, generator=torch.Generator().manual_seed(0), dtype=self.u.dtype, device="cpu")
        self.u.add_(random.to(self.u.device) / random.numel() ** 0.5)
        self._iterate(MOST, self.tolerance)

    @torch.no_grad()
    def _iterate(self, times: int, tolerance: float | None) -> None:
        u, before = self.u, None
        for done in range(times):
            size = (moved := self.map(self.transposed(u), self.weight)).norm()  # sigma^2, if u is the vector
            u = torch.where(size > 0, moved / size, u)  # 0 / 0, where the weight is 0
            if tolerance is not None and done >= LEAST and bool((size - before).abs() <= 2 * tolerance * size):
                break
            before = size
        v = self.transposed(u)
        size = v.norm()
        self.v.copy_(torch.where(size > 0, v / size, self.v))
        self.u.copy_(u)


class SpectralLinear(Spectral):
    """``(B, before) -> (B, after)``."""

    def __init__(self, before: int, after: int, coefficient: float, iterations: int, tolerance: float):
        super().__init__(nn.Linear(before, after), ((1, after), (1, before)), coefficient, iterations, tolerance)

    def map(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, weight, bias)

    def transposed(self, y: Tensor) -> Tensor:
        return y @ self.weight


class SpectralConv(Spectral):
    """``(B, before, H, W) -> (B, after, H, W)``, zeros around the image: its norm depends on ``positions = (H, W)``."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        positions: tuple[int, ...],
        coefficient: float,
        iterations: int,
        tolerance: float,
    ):
        self.padding = kernel // 2
        height, width = positions if kernel > 1 else (1, 1)  # one position is as good as many
        sides = (1, after, height, width), (1, before, height, width)
        super().__init__(nn.Conv2d(before, after, kernel), sides, coefficient, iterations, tolerance)

    def map(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, padding=self.padding)

    def transposed(self, y: Tensor) -> Tensor:
        return F.conv_transpose2d(y, self.weight, padding=self.padding)
