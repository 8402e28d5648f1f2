"""How many poses images were compared with maps at, in this process so far: what a search or a refinement costs.

A search counts every pose of its grid in every map, a refinement of poses every step, a pass at known poses one. Of
several processes each counts the work of all.
"""
from __future__ import annotations

_counted = 0


def count_poses(n: int) -> None:
    """Add ``n`` pairs of an image and a pose."""
    global _counted
    _counted += n


def counted_poses() -> int:
    """All so far."""
    return _counted
