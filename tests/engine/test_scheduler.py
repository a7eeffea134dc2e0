"""Blocks and scheduling, with a fake model: nothing leaks, nothing is shared wrongly, first come is first served."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine.blocks import BlockPool, chain_hash
from planner.engine.detokenize import Detokenizer
from planner.engine.params import QueueFullError, SamplingParams
from planner.engine.scheduler import Limits, Scheduler
from planner.engine.sequence import Sequence


def sequence(number: int, tokens: list[int], max_tokens: int = 4) -> Sequence:
    return Sequence(
        number, list(tokens), len(tokens), max_tokens, SamplingParams(), np.random.default_rng(0), Detokenizer()
    )


def check(scheduler: Scheduler, work: list[tuple[Sequence, int]]) -> None:
    """What must hold in every step."""
    pool, limits = scheduler.pool, scheduler.limits
    assert sum(n for _, n in work) <= limits.max_num_batched_tokens
    assert len(scheduler.running) <= limits.max_num_seqs
    holders: dict[int, list[Sequence]] = {}
    for s in scheduler.running:
        for block in s.blocks:
            holders.setdefault(block, []).append(s)
    assert all(not s.blocks and s.computed == 0 for s in scheduler.waiting)
    assert pool.n_used == len(holders)
    for block, owners in holders.items():
        assert pool.users(block) == len(owners)
        places = {s.blocks.index(block) for s in owners}
        assert len(places) == 1, "a shared block stands at one place"
        end = (places.pop() + 1) * pool.block_size
        prefixes = {tuple(s.tokens[:end]) for s in owners}
        assert len(owners) == 1 or len(prefixes) == 1, "only equal prefixes share a block"
    for s, n in work:
        assert 0 < n <= s.pending
        assert len(s.blocks) * pool.block_size >= s.computed + n


def drive(scheduler: Scheduler, arrivals: list[tuple[int, Sequence]], cancel: dict[int, int]) -> list[int]:
    """Run to the end, one fake token per complete row; the order in which sequences first ran."""
    first_run: list[int] = []
    step = 0
    pending = sorted(arrivals, key=lambda a: a[0])
    while pending or scheduler.waiting or scheduler.running:
        while pending and pending[0][0] <= step:
            scheduler.add(pending.pop(0)[1])
        work = scheduler.schedule()
        check(scheduler, [(w.sequence, w.n_tokens) for w in work])
        assert work or not (scheduler.running or scheduler.waiting), "there is work and none was scheduled"
        for item in work:
            s = item.sequence
            if s.id not in first_run:
                first_run.append(s.id)
            complete = item.n_tokens == s.pending
            scheduler.computed(item)
            if complete:
                s.tokens.append((s.id * 31 + len(s.tokens)) % 5)
                if s.n_output >= s.max_tokens or cancel.get(s.id) == s.n_output:
                    scheduler.finish(s)
        step += 1
        assert step < 5000, "a request never ends"
    return first_run


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_request_ends_in_order_and_every_block_comes_back(data: st.DataObject) -> None:
    block_size = data.draw(st.integers(1, 4))
    longest = 24
    n_blocks = -(-longest // block_size) + data.draw(st.integers(0, 12))
    limits = Limits(longest, data.draw(st.integers(1, 5)), data.draw(st.integers(1, 16)))
    scheduler = Scheduler(limits, BlockPool(n_blocks, block_size, prefix_caching=data.draw(st.booleans())))
    arrivals, cancel = [], {}
    for i in range(data.draw(st.integers(1, 8))):
        tokens = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=16))
        arrivals.append((data.draw(st.integers(0, 6)), sequence(i, tokens, data.draw(st.integers(1, 8)))))
        if data.draw(st.booleans()):
            cancel[i] = data.draw(st.integers(1, 4))
    order = drive(scheduler, arrivals, cancel)
    assert order == [s.id for _, s in sorted(arrivals, key=lambda a: a[0])]
    assert scheduler.pool.n_free == n_blocks


def test_preemption_takes_the_youngest_and_it_comes_back_first() -> None:
    scheduler = Scheduler(Limits(16, 3, 64), BlockPool(5, 4, prefix_caching=False))
    sequences = [sequence(i, [i] * 7, 6) for i in range(3)]
    order = drive(scheduler, [(0, s) for s in sequences], {})
    assert order == [0, 1, 2]
    assert scheduler.n_preemptions > 0
    assert all(s.n_output == 6 for s in sequences)


def test_long_prompts_are_chunked_beside_running_sequences() -> None:
    scheduler = Scheduler(Limits(64, 4, 8), BlockPool(64, 4))
    old, new = sequence(0, [1] * 4), sequence(1, [2] * 20)
    scheduler.add(old)
    (item,) = scheduler.schedule()
    scheduler.computed(item)
    old.tokens.append(3)
    scheduler.add(new)
    assert [(w.sequence.id, w.n_tokens) for w in scheduler.schedule()] == [(0, 1), (1, 7)]


def test_the_queue_is_bounded_beyond_the_free_seats() -> None:
    scheduler = Scheduler(Limits(16, 2, 8, queue=1), BlockPool(8, 4))
    for i in range(3):
        scheduler.add(sequence(i, [1]))
    with pytest.raises(QueueFullError, match="at most 2 running and 1 waiting"):
        scheduler.add(sequence(3, [1]))


def test_a_remembered_prefix_is_shared_and_forgotten_when_taken() -> None:
    pool = BlockPool(2, 2)
    key = chain_hash(b"", [1, 2])
    block = pool.take()
    pool.remember(block, key)
    pool.release([block])
    assert pool.match([key]) == [block] and pool.n_free == 2
    pool.share(block)
    assert pool.n_free == 1 and pool.users(block) == 1
    pool.release([block])
    taken = {pool.take(), pool.take()}
    assert taken == {0, 1} and pool.match([key]) == []


def test_hashes_depend_on_everything_before() -> None:
    assert chain_hash(b"", [1, 2]) != chain_hash(b"x", [1, 2]) != chain_hash(b"x", [2, 1])
