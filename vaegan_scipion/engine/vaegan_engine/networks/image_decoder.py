"""The image decoder of the 2D model (DCGAN)."""
from __future__ import annotations

import torch
from torch import Tensor, nn


class DcGan(nn.Module):
    """DC-GAN: a vector to an image by transposed convolutions, batch norm and ReLU.

    ``(n, k)`` to ``(n, d, d)`` for every even ``d``: the first block is ``ceil(d/8)`` px wide and the
    last image is cut to ``d``. Source: Radford, Metz and Chintala, ICLR 2016.
    """

    def __init__(self, n_inputs: int, width: int, box_px: int) -> None:
        super().__init__()
        self.box_px, self.start_px, self.width = box_px, -(-box_px // 8), width
        self.project = nn.Linear(n_inputs, 4 * width * self.start_px**2)
        blocks: list[nn.Module] = [nn.BatchNorm2d(4 * width), nn.ReLU()]
        for i, o in ((4 * width, 2 * width), (2 * width, width)):
            blocks += [nn.ConvTranspose2d(i, o, 4, 2, 1), nn.BatchNorm2d(o), nn.ReLU()]
        blocks.append(nn.ConvTranspose2d(width, 1, 4, 2, 1))
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, (nn.ConvTranspose2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    @torch.no_grad()
    def start_at(self, deviation: float) -> None:
        """Narrow the last layer until images have this standard deviation; He-normal weights make it sqrt(width)/2."""
        last = self.blocks[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        last.weight.mul_(2 * deviation / self.width**0.5)

    def forward(self, z: Tensor) -> Tensor:
        x = self.project(z).reshape(len(z), 4 * self.width, self.start_px, self.start_px)
        return self.blocks(x)[:, 0, :self.box_px, :self.box_px]
