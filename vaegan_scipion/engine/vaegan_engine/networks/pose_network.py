"""Trainable pose prior: a network that turns normal numbers into rotations (thesis, section 6.4.7)."""
from __future__ import annotations

import torch
from torch import Tensor, nn

CAMERA_LATENT = 64
N_BLOCKS = 2


def gram_schmidt(v: Tensor) -> Tensor:
    """Rotation matrices ``A`` ``(..., 3, 3)`` of 6D vectors ``v = (v1, v2)`` ``(..., 6)`` (thesis, equation 40).

    ``u1 = v1 / |v1|``, ``u2 = w / |w|`` with ``w = v2 - (u1 . v2) u1``, ``u3 = u1 x u2``. The u are the
    rows of ``A``: the image's x and y axes and the direction of view, in the map's (x, y, z) frame
    (the thesis writes them as columns of ``R = A^T``, and its u2 without the normalisation of w).
    Continuous wherever v1 and v2 are not parallel.
    Source: Zhou et al., On the continuity of rotation representations in neural networks, CVPR 2019.
    """
    v1, v2 = v[..., :3], v[..., 3:]
    u1 = v1 / v1.norm(dim=-1, keepdim=True)
    w = v2 - (u1 * v2).sum(-1, keepdim=True) * u1
    u2 = w / w.norm(dim=-1, keepdim=True)
    return torch.stack((u1, u2, torch.linalg.cross(u1, u2)), dim=-2)


class CameraNetwork(nn.Module):
    """``zc (n, 64) ~ N(0, 1)`` to rotations ``(n, 3, 3)``: ``gram_schmidt(zc[:6] + f(zc))``.

    f is a residual network: ``h = W zc``, then ``h <- h + B leaky(A h)`` twice, then six numbers. It perturbs the
    distribution that it starts from: with f = 0 the six normal numbers give rotations that are
    exactly uniform. A and B have He-normal weights, the last layer U(-1/width, 1/width), so that
    training starts near the uniform prior.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(CAMERA_LATENT, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, width))
            for _ in range(N_BLOCKS))
        self.last = nn.Linear(width, 6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, a=0.2, nonlinearity="leaky_relu")
                nn.init.zeros_(module.bias)
        nn.init.uniform_(self.last.weight, -1 / width, 1 / width)

    def forward(self, zc: Tensor) -> Tensor:
        h = self.first(zc)
        for block in self.blocks:
            h = h + block(h)
        return gram_schmidt(zc[:, :6] + self.last(h))

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """New latents ``(n, 64)``; ``rng`` lives on the network's device."""
        return torch.randn(n, CAMERA_LATENT, generator=rng, device=rng.device, dtype=self.last.weight.dtype)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """``(n, 3, 3)`` rotations of new latents."""
        rotations: Tensor = self(self.draw(n, rng))
        return rotations
