"""The feature network of the FID: a VGG-19-shaped classifier trained on the data set's own images and labels.

VGG-19 (Simonyan and Zisserman, ICLR 2015): 16 convolutions of 3 x 3 px in five blocks (2, 2, 4, 4, 4) of width w, 2w,
4w, 8w, 8w, each block ended by max pooling, then three linear layers; w = 64 is the original. Here the last feature
maps are averaged before the linear layers, so any box is possible. Trained as in the thesis (13.1): squared hinge
loss, Adam, random shift, scale and contrast. No weight comes from anywhere else.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..runtime.progress import progress_bar

BLOCKS = ((1, 2), (2, 2), (4, 4), (8, 4), (8, 4))  # (width / w, convolutions)
SCALE_RANGE = 0.1
CONTRAST_RANGE = 0.2


class FeatureNetwork(nn.Module):
    """``(n, 1, d, d)`` to scores ``(n, classes)``; ``features`` gives ``(n, 8 w)`` before the linear layers."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for factor, count in BLOCKS:
            for _ in range(count):
                layers += [nn.Conv2d(channels, factor * width, 3, padding=1), nn.BatchNorm2d(factor * width), nn.ReLU()]
                channels = factor * width
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU(),
                                  nn.Linear(channels, n_classes))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def features(self, x: Tensor) -> Tensor:
        """Average of the last feature maps ``(n, 8 w)``."""
        return self.trunk(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@dataclass(frozen=True)
class Training:
    """How the classifier is trained."""

    width: int = 64
    steps: int = 20000
    batch: int = 128
    learning_rate: float = 1e-4
    seed: int = 0


def squared_hinge(scores: Tensor, target: Tensor) -> Tensor:
    """``mean sum_c max(0, 1 - y_c s_c)^2`` with y = +1 for the true class and -1 for the others."""
    sign = 2 * functional.one_hot(target, scores.shape[1]).to(scores.dtype) - 1
    return (1 - sign * scores).clamp_min(0).square().sum(1).mean()


def augmented(images: Tensor, rng: torch.Generator) -> Tensor:
    """Images ``(n, 1, d, d)`` each shifted (up to 1/16 of the box), scaled and changed in contrast at random."""
    n = len(images)
    uniform = 2 * torch.rand(4, n, generator=rng) - 1
    scale = 1 + SCALE_RANGE * uniform[0]
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = uniform[1:3].T / 8
    grid = functional.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return moved * (1 + CONTRAST_RANGE * uniform[3])[:, None, None, None].to(images.device)


def train_network(images: np.ndarray, label: np.ndarray, training: Training,
                  device: torch.device) -> tuple[FeatureNetwork, float]:
    """Train on nine tenths of the images ``(n, d, d)``; also returns the accuracy on the rest."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = FeatureNetwork(training.width, int(label.max()) + 1).to(device)
    rng, order = torch.Generator().manual_seed(training.seed), np.random.default_rng(training.seed)
    rows = order.permutation(len(images))
    held_out, rows = np.sort(rows[:max(1, len(rows) // 10)]), rows[max(1, len(rows) // 10):]
    target = torch.from_numpy(np.asarray(label, np.int64)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, training.steps + 1,
                                                   cycle_momentum=False)
    with progress_bar(training.steps, "feature network", "batches") as bar:
        for _ in range(training.steps):
            batch = np.sort(order.choice(rows, min(training.batch, len(rows)), replace=False))
            x = torch.from_numpy(np.asarray(images[batch], np.float32))[:, None].to(device)
            loss = squared_hinge(network(augmented(x, rng)), target[torch.from_numpy(batch).to(device)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update(1)
    network.eval()
    with torch.no_grad():
        predicted = torch.cat([network(torch.from_numpy(np.asarray(images[held_out[i:i + 256]], np.float32))[:, None]
                                       .to(device)).argmax(1) for i in range(0, len(held_out), 256)])
    return network, float((predicted.cpu().numpy() == label[held_out]).mean())


@torch.no_grad()
def features(network: FeatureNetwork, images: np.ndarray, device: torch.device) -> np.ndarray:
    """``(n, 8 w)`` float64 features of images ``(n, d, d)``."""
    made = [network.features(torch.from_numpy(np.asarray(images[i:i + 256], np.float32))[:, None].to(device))
            for i in range(0, len(images), 256)]
    return torch.cat(made).double().cpu().numpy()
