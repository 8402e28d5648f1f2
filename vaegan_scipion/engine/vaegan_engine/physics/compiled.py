"""Compiled loops: numba functions that are kept on disk where a folder for them can be written."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

# Sums may be regrouped and multiplications fused, the same in every run; infinities and NaN keep their meaning.
_MATH = {"contract", "reassoc", "nsz", "arcp"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled when it is first called, without Python's lock; its code is kept beside the source.

    numba keeps it in the user's cache folder where the source's is read-only. Where neither can be written nothing is
    kept, and each process compiles it anew.
    """
    try:
        return njit(nogil=True, cache=True, fastmath=_MATH)(function)
    except RuntimeError:  # no folder to keep it in
        return njit(nogil=True, fastmath=_MATH)(function)
