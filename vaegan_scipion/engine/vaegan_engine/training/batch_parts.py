"""A step on a batch, part by part: parts are shared by processes, and no bit depends on their number (on a CPU).

A loss is a mean over the images of a batch. Every part makes the gradient of its images' share of it, and these are
added in the order of the parts. What images of a batch have in common (maps that they are slices of, what is normalised
over a batch) is made of the whole batch by every process (``Whole``): a part says what the gradient is there, and every
process takes the sum back through it.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..physics.shards import n_processes, shared_parts

PART_IMAGES = 16  # of a batch, on a CPU
ENCODER_PART_IMAGES = 32  # where the encoder alone is trained: its convolutions are a tenth slower 16 images at a time
Rows = Tensor  # row numbers (m,) of a batch


@dataclass(frozen=True, eq=False)
class Whole:
    """Something made of the whole batch, with the graph that it was made by."""

    value: Tensor
    by_image: bool = True  # row i is image i's; else all images share it


@dataclass(frozen=True)
class Part:
    """One of the parts of a batch, and what it took of what was made of the whole batch."""

    number: int
    rows: Rows
    taken: dict[Whole, Tensor] = field(default_factory=dict)

    def take(self, whole: Whole | None) -> Tensor | None:
        """The rows of this part, or all of it where images share it: values that gradients are asked for."""
        if whole is None:
            return None
        if whole not in self.taken:
            value = whole.value.detach()
            value = value[self.rows] if whole.by_image else value.view_as(value)
            self.taken[whole] = value.requires_grad_(whole.value.requires_grad)
        return self.taken[whole]


Work = Callable[[Part], tuple[Tensor, dict[str, Tensor]]]  # mean loss and statistics of a part's images


def count_parts(n: int, device: torch.device, encoder_alone: bool = False) -> int:
    """Of a batch of n images: on a CPU parts have about one size, on GPUs every process has one."""
    size = ENCODER_PART_IMAGES if encoder_alone else PART_IMAGES
    return max(1, round(n / size)) if device.type == "cpu" else min(n, n_processes())


def rows_of_parts(n: int, device: torch.device, encoder_alone: bool = False) -> list[Rows]:
    """A batch of n images in about equal parts, in their order."""
    count = count_parts(n, device, encoder_alone)
    every = torch.arange(n, device=device)
    return [every[first:end] for first, end in pairwise(n * k // count for k in range(count + 1))]


def gradients(work: Work, rows: Sequence[Rows], parameters: Sequence[nn.Parameter], alone: Tensor | None = None,
              ) -> dict[str, Tensor]:
    """Leave the gradient of a batch's mean loss in ``grad`` of all that it depends on; returns mean statistics.

    Parameters
    ----------
    work : mean loss and statistics of one part
    rows : of each part
    parameters : that parts use; others are reached through what the parts take (``Whole``)
    alone : a term of the loss that is made of the whole batch
    """
    n = sum(map(len, rows))
    asked: list[Whole] = []
    names: list[str] = []

    def of_part(first: int, _: int) -> tuple[Tensor, ...]:
        part = Part(first, rows[first])
        share = len(part.rows) / n
        loss, stats = work(part)
        asked[:], names[:] = [whole for whole, value in part.taken.items() if value.requires_grad], stats
        inputs = [*parameters, *(part.taken[whole] for whole in asked)]
        found = torch.autograd.grad(share * loss, inputs, materialize_grads=True)
        return (*found, *(share * value.detach() for value in stats.values()))

    columns = list(zip(*shared_parts(of_part, len(rows), 1, threads=False), strict=True))
    for parameter, values in zip(parameters, columns, strict=False):
        parameter.grad = added(values)
    at = len(parameters)
    roots = [whole.value for whole in asked] + ([] if alone is None else [alone])
    above = [joined(values, rows) if whole.by_image else added(values)
             for whole, values in zip(asked, columns[at:], strict=False)]
    if roots:
        torch.autograd.backward(roots, [*above, *([] if alone is None else [torch.ones_like(alone)])])
    return {name: added(values) for name, values in zip(names, columns[at + len(asked):], strict=True)}


def added(values: Sequence[Tensor]) -> Tensor:
    """The sum, in this order."""
    total = values[0]
    for k, value in enumerate(values[1:]):
        total = total.add_(value) if k else total + value
    return total


def joined(values: Sequence[Tensor], rows: Sequence[Rows]) -> Tensor:
    """Rows of all parts in the order of the batch."""
    made = torch.cat(list(values))
    return torch.empty_like(made).index_copy_(0, torch.cat(list(rows)), made)
