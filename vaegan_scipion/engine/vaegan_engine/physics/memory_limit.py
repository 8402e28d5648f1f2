"""How much memory a run may hold of what grows with its particles; set once, asked by whoever holds much.

What does not fit is read again from disk, or kept in a file: results are the same bits with any limit.
"""
from __future__ import annotations

GB = 2 ** 30
_limit_bytes: float = float("inf")


def use_memory(gb: float) -> None:
    """Let a run hold so much from now on."""
    global _limit_bytes
    _limit_bytes = gb * GB


def share_bytes(part: float) -> float:
    """A part of what a run may hold."""
    return part * _limit_bytes
