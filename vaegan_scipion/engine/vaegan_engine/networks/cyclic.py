"""Layers for images without edges, which a cyclic shift moves and does not change: convolution, halving."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..physics.shards import in_parts
from . import cyclic_kernels as kernels

Pass = Callable[[Tensor], Tensor]
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
            chosen, blurred = _strongest(x, self.blur), self.blur
            halved: Tensor = _Linear.apply(x, partial(_taken, chosen=chosen, blurred=blurred),
                                           partial(_given, chosen=chosen, blurred=blurred))
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


class _Linear(torch.autograd.Function):
    """A linear pass ``there`` and its adjoint ``back``; the adjoint's adjoint is the pass itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Pass, back: Pass) -> Tensor:
        ctx.there, ctx.back = there, back
        return there(x.contiguous())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Linear.apply(gradient, ctx.back, ctx.there), None, None


def _taken(x: Tensor, chosen: Tensor, blurred: bool) -> Tensor:
    n, c, h, w = x.shape
    made = torch.empty(n, c, h // 2, w // 2)
    images, of, into = x.numpy(), chosen.numpy(), made.numpy()
    in_parts(lambda a, b: kernels.take(images[a:b], of[a:b], blurred, into[a:b]), n, _TOGETHER)
    return made


def _given(values: Tensor, chosen: Tensor, blurred: bool) -> Tensor:
    n, c, h, w = values.shape
    made = torch.empty(n, c, 2 * h, 2 * w)
    small, of, into = values.numpy(), chosen.numpy(), made.numpy()
    in_parts(lambda a, b: kernels.give(small[a:b], of[a:b], blurred, into[a:b]), n, _TOGETHER)
    return made


class CyclicConv(nn.Conv2d):
    """``nn.Conv2d`` of one size with ``padding_mode="circular"``."""

    def __init__(self, in_channels: int, out_channels: int, kernel_px: int) -> None:
        super().__init__(in_channels, out_channels, kernel_px, padding=kernel_px // 2, padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(cyclic_pad(x, self.kernel_size[0] // 2), self.weight, self.bias)


def cyclic_pad(x: Tensor, margin: int) -> Tensor:
    """Images ``(n, c, h, w)`` continued cyclically by ``margin`` px on all sides."""
    if margin and x.device.type == "cpu" and x.dtype == torch.float32 and margin <= min(x.shape[2:]):
        padded: Tensor = _Linear.apply(x, partial(_padded, margin=margin), partial(_folded, margin=margin))
        return padded
    return functional.pad(x, (margin,) * 4, mode="circular") if margin else x


def _padded(x: Tensor, margin: int) -> Tensor:
    n, c, h, w = x.shape
    made = torch.empty(n, c, h + 2 * margin, w + 2 * margin)
    images, into = x.flatten(0, 1).numpy(), made.flatten(0, 1).numpy()
    in_parts(lambda a, b: kernels.pad(images[a:b], margin, into[a:b]), n * c, _PLANES_TOGETHER)
    return made


def _folded(values: Tensor, margin: int) -> Tensor:
    n, c, h, w = values.shape
    made = torch.empty(n, c, h - 2 * margin, w - 2 * margin)
    wide, into = values.flatten(0, 1).numpy(), made.flatten(0, 1).numpy()
    in_parts(lambda a, b: kernels.fold(wide[a:b], margin, into[a:b]), n * c, _PLANES_TOGETHER)
    return made
