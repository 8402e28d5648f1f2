"""Layers for images without edges, which a cyclic shift moves and does not change: convolution, halving."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..physics.shards import in_parts
from . import cyclic_kernels as kernels

_TOGETHER = 8  # images that one thread works on at a time
_PLANES_TOGETHER = 128  # planes of one channel, likewise


class AdaptivePolyphase(nn.Module):
    """Halve an image by keeping its polyphase component with the largest L2 norm.

    A cyclic shift of the input permutes the four components (each shifted cyclically), so a
    global pooling afterwards is exactly unchanged by every whole-pixel cyclic shift.
    ``(n, c, h, w)`` with h, w even to ``(n, c, h/2, w/2)``. With ``blur`` the image is first
    averaged over 2 x 2 px (cyclic, so as invariant): no pixel is thrown away, which matters
    where the signal is weak.
    Source: Chaman and Dokmanic, Truly shift-invariant convolutional neural networks, CVPR 2021.
    """

    def __init__(self, blur: bool) -> None:
        super().__init__()
        self.blur = blur

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float32:
            halved: Tensor = _Take.apply(x, _strongest(x, self.blur), self.blur)
            return halved
        parts = components(x, self.blur)
        strongest = parts.detach().square().sum(dim=(2, 3, 4)).argmax(dim=1)
        return parts[torch.arange(len(x), device=x.device), strongest]


def components(x: Tensor, blurred: bool) -> Tensor:
    """Components (0, 0), (0, 1), (1, 0), (1, 1) of images ``(n, c, h, w)``: ``(n, 4, c, h/2, w/2)``."""
    if blurred:
        x = x + x.roll(-1, 3)
        x = 0.25 * (x + x.roll(-1, 2))
    return torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)


def _strongest(x: Tensor, blurred: bool) -> Tensor:
    images, chosen = x.detach().contiguous().numpy(), torch.empty(len(x), dtype=torch.int64)
    into = chosen.numpy()
    in_parts(lambda a, b: kernels.strongest(images[a:b], blurred, into[a:b]), len(x), _TOGETHER)
    return chosen


class _Take(torch.autograd.Function):
    """The chosen components; linear in the images, so its adjoint's adjoint is itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, chosen: Tensor, blurred: bool) -> Tensor:
        ctx.chosen, ctx.blurred = chosen, blurred
        images, of = x.contiguous().numpy(), chosen.numpy()
        n, c, h, w = x.shape
        made = torch.empty(n, c, h // 2, w // 2)
        into = made.numpy()
        in_parts(lambda a, b: kernels.take(images[a:b], of[a:b], blurred, into[a:b]), n, _TOGETHER)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Give.apply(gradient, ctx.chosen, ctx.blurred), None, None


class _Give(torch.autograd.Function):
    """Adjoint of ``_Take``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, chosen: Tensor, blurred: bool) -> Tensor:
        ctx.chosen, ctx.blurred = chosen, blurred
        small, of = values.contiguous().numpy(), chosen.numpy()
        n, c, h, w = values.shape
        made = torch.empty(n, c, 2 * h, 2 * w)
        into = made.numpy()
        in_parts(lambda a, b: kernels.give(small[a:b], of[a:b], blurred, into[a:b]), n, _TOGETHER)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Take.apply(gradient, ctx.chosen, ctx.blurred), None, None


class CyclicConv(nn.Conv2d):
    """``nn.Conv2d`` of one size with ``padding_mode="circular"``."""

    def __init__(self, in_channels: int, out_channels: int, kernel_px: int) -> None:
        super().__init__(in_channels, out_channels, kernel_px, padding=kernel_px // 2, padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(cyclic_pad(x, self.kernel_size[0] // 2), self.weight, self.bias)


def cyclic_pad(x: Tensor, margin: int) -> Tensor:
    """Images ``(n, c, h, w)`` continued cyclically by ``margin`` px on all sides."""
    if margin and x.device.type == "cpu" and x.dtype == torch.float32 and margin <= min(x.shape[2:]):
        padded: Tensor = _Pad.apply(x, margin)
        return padded
    return functional.pad(x, (margin,) * 4, mode="circular") if margin else x


class _Pad(torch.autograd.Function):
    """Cyclic padding; linear, so its adjoint's adjoint is itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, margin: int) -> Tensor:
        ctx.margin = margin
        n, c, h, w = x.shape
        made = torch.empty(n, c, h + 2 * margin, w + 2 * margin)
        images, into = x.contiguous().flatten(0, 1).numpy(), made.flatten(0, 1).numpy()
        in_parts(lambda a, b: kernels.pad(images[a:b], margin, into[a:b]), n * c, _PLANES_TOGETHER)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Fold.apply(gradient, ctx.margin), None


class _Fold(torch.autograd.Function):
    """Adjoint of ``_Pad``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, margin: int) -> Tensor:
        ctx.margin = margin
        n, c, h, w = values.shape
        made = torch.empty(n, c, h - 2 * margin, w - 2 * margin)
        wide, into = values.contiguous().flatten(0, 1).numpy(), made.flatten(0, 1).numpy()
        in_parts(lambda a, b: kernels.fold(wide[a:b], margin, into[a:b]), n * c, _PLANES_TOGETHER)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Pad.apply(gradient, ctx.margin), None
