"""Images that a step makes of the generator: what is drawn and made for the whole batch, and the images of a part."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..networks import latent_vector
from ..networks.generators import Generator, VoxelGenerator
from ..networks.noise import diversity
from ..networks.vae_gan import Given, ImageNumbers, VaeGan
from .batch_parts import Part, Rows, Whole, count_parts, rows_of_parts


@dataclass(frozen=True)
class MapGroups:
    """Maps of categories in as many groups as a batch has parts, where an image shows one map and no other.

    The images of a part are those that show maps of its group: it transforms these itself, and no other part does. The
    transforms are kept for the steps that are taken before the maps change.
    """

    generator: VoxelGenerator
    categories: list[slice]  # of each group
    kept: dict[int, Tensor] = field(default_factory=dict)
    still: bool = False  # whether no gradients of the maps are made

    def rows(self, z: Tensor) -> list[Rows]:
        """Rows of one-hot z ``(n, c)`` that show maps of each group."""
        return [torch.nonzero(z[:, group].sum(1)).squeeze(1) for group in self.categories]

    def of(self, part: Part) -> Tensor:
        """Transforms ``(m, s, s, s//2 + 1)`` of the maps of a part's group."""
        if part.number not in self.kept:
            with torch.enable_grad():
                self.kept[part.number] = self.generator.source(categories=self.categories[part.number])
        made = self.kept[part.number]
        return made.detach() if self.still else made


def groups_of_maps(generator: Generator, n: int, device: torch.device) -> MapGroups | None:
    """For a batch of n images; None where an image may show several maps, a map no image, or there is one part."""
    count = count_parts(n, device)
    if not isinstance(generator, VoxelGenerator) or generator.model.n_normal or device.type != "cpu":
        return None
    c = generator.model.n_categories
    count = min(count, c)
    return None if count < 2 or n < c else MapGroups(
        generator, [slice(first, end) for first, end in pairwise(c * k // count for k in range(count + 1))])


@dataclass(frozen=True)
class Fakes:
    """Images to be made. Random numbers are of the whole batch, whoever makes its parts."""

    z: Tensor  # (n, k) of the prior, or the normal numbers that a z of the posterior is made with
    numbers: ImageNumbers
    source: Whole | MapGroups | None  # the generator's
    sigma: Whole | None  # of the noise
    head: Whole | None = None  # of the encoder, where it says what z is, and says it of the whole batch
    of_prior: bool = True

    @property
    def rows(self) -> list[Rows]:
        """Of each part."""
        if isinstance(self.source, MapGroups):
            return self.source.rows(self.z)
        return rows_of_parts(len(self.z), self.z.device)

    @property
    def diversity(self) -> Tensor | None:
        """Of the sigma maps (``noise.diversity``); None where there are none."""
        latent = self.numbers.noise.latent
        return None if self.sigma is None or latent is None else diversity(latent, self.sigma.value)

    def images(self, vae_gan: VaeGan, part: Part, ctf: Tensor, head: Tensor | None = None) -> Tensor:
        """Those of a part ``(m, d, d)``; of the posterior, whose parameters ``head`` holds, where z is not drawn."""
        z = self.z[part.rows]
        if head is not None:
            z = latent_vector.of_posterior(head, z, vae_gan.model)
        if isinstance(self.source, MapGroups):
            given = Given(self.source.of(part), part.take(self.sigma))
            z = z[:, self.source.categories[part.number]]
        else:
            given = Given(part.take(self.source), part.take(self.sigma), self.of_prior)
        return vae_gan.images(z, ctf, self.numbers.of(part.rows), given)


Shared = Whole | MapGroups | None  # source of a generator that has one for all images


def fakes_of_prior(vae_gan: VaeGan, n: int, shared: Shared) -> Fakes:
    """Images of z from the prior; ``shared`` is the source of a generator that has one for all images."""
    z = vae_gan.sample_prior(n)
    numbers = vae_gan.draw(n)
    return Fakes(z, numbers, source_of(vae_gan, z, shared), sigma_of(vae_gan, numbers))


def fakes_of_posterior(vae_gan: VaeGan, n: int, shared: Shared, head: Tensor | None) -> Fakes:
    """Images of z from the posterior; ``head`` where the encoder has said it of the whole batch."""
    eps = torch.randn(n, vae_gan.model.n_normal, generator=vae_gan.rng, device=vae_gan.device,
                      dtype=torch.get_default_dtype())
    numbers = vae_gan.draw(n)
    source = shared if head is None else source_of(
        vae_gan, latent_vector.of_posterior(head, eps, vae_gan.model), shared)
    return Fakes(eps, numbers, source, sigma_of(vae_gan, numbers), None if head is None else Whole(head), False)


def source_of(vae_gan: VaeGan, z: Tensor, shared: Shared) -> Shared:
    """The generator's source for all z of a batch."""
    return Whole(vae_gan.generator.source(z)) if vae_gan.generator.by_image else shared  # type: ignore[arg-type]


def sigma_of(vae_gan: VaeGan, numbers: ImageNumbers) -> Whole | None:
    """Sigma maps of a batch, where the noise has them."""
    latent = numbers.noise.latent
    return None if latent is None else Whole(vae_gan.noise.sigma_map(latent))


@contextmanager
def fixed(*parts: nn.Module | None) -> Iterator[None]:
    """Within, no gradients of these networks' weights are made."""
    present = [part for part in parts if part is not None]
    for part in present:
        part.requires_grad_(False)
    try:
        yield
    finally:
        for part in present:
            part.requires_grad_(True)
