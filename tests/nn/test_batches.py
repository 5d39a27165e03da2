"""Batches: every item once an epoch, in an order that the seed alone decides."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.nn.batches import epoch_order, minibatches

seeds = st.integers(0, 2**64 - 1)


@given(st.integers(0, 300), seeds, seeds)
def test_an_epoch_meets_each_item_once(n: int, seed: int, epoch: int) -> None:
    assert sorted(epoch_order(n, seed, epoch).tolist()) == list(range(n))


@given(seeds, seeds)
def test_equal_seeds_give_equal_orders(seed: int, epoch: int) -> None:
    assert epoch_order(50, seed, epoch).tolist() == epoch_order(50, seed, epoch).tolist()


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    orders = {tuple(epoch_order(50, s, e).tolist()) for s in range(20) for e in range(20)}
    assert len(orders) == 400


def test_an_order_is_the_same_on_every_machine_and_in_every_release() -> None:
    assert epoch_order(8, 1, 2).tolist() == [7, 0, 5, 4, 6, 2, 3, 1]


def test_the_first_place_is_taken_by_each_item_about_as_often() -> None:
    first = [int(epoch_order(10, 7, epoch)[0]) for epoch in range(2000)]
    assert np.bincount(first, minlength=10).min() > 140  # of 200 expected


@given(st.integers(0, 500), st.integers(1, 70))
def test_batches_cover_all_items_in_turn_and_only_the_last_is_shorter(n: int, size: int) -> None:
    batches = list(minibatches(n, size))
    assert [i for at in batches for i in range(n)[at]] == list(range(n))
    assert all(at.stop - at.start == size for at in batches[:-1])
    assert all(1 <= at.stop - at.start <= size for at in batches)
