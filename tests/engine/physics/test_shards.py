"""Large results of parts come in the order of the parts, and are let go as they are used."""
from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest
from threadpoolctl import threadpool_info
from vaegan_engine.physics import shards


@pytest.fixture(params=[1, 2])
def threads(request):
    before = shards.n_threads()
    shards.use_threads(request.param)
    yield request.param
    shards.use_threads(before)


def test_parts_in_turn_are_those_of_shared_parts_and_few_are_held(threads):
    """The first part is used before the last is begun."""
    alive, most, used = list[weakref.ref](), [0], threading.Event()

    def work(first, end):
        if first >= 10 * threads + 10:
            assert used.wait(10)  # as many parts as threads may be under way before any is used
        return np.arange(first, end)

    made = []
    for part in shards.shared_parts_in_turn(work, 95, 10):
        used.set()
        made.append(part.copy())
        alive.append(weakref.ref(part))
        del part
        most[0] = max(most[0], sum(one() is not None for one in alive))
    assert most[0] <= 1
    for one, other in zip(made, shards.shared_parts(lambda *at: np.arange(*at), 95, 10), strict=True):
        np.testing.assert_array_equal(one, other)


def test_blas_has_one_thread_beside_the_parts_own(threads):
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
