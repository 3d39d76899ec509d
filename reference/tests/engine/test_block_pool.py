"""The block pool against a model that knows every block by name."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reference.engine.block_pool import Block, BlockPool

TOTAL = 12


class Holder:
    """Somebody who holds blocks: with a hash, and counted ones; the model knows the counted ones by name."""

    def __init__(self, blocks: list[Block], named: list[str], counted: list[str]) -> None:
        self.blocks = blocks
        self.named = named
        self.counted = counted


class PoolMachine(RuleBasedStateMachine):
    """The model: a list of free block names, oldest first, and which name holds which hash."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(TOTAL)
        self.free = [f"b{index}" for index in range(TOTAL)]
        self.hash_of: dict[str, int] = {}
        self.refs: dict[str, int] = {}
        self.holders: list[Holder] = []
        self.kept: list[tuple[Block, list[str]]] = []

    @initialize()
    def start(self) -> None:
        assert self.pool.free == TOTAL

    def name_with(self, hash_: int) -> str | None:
        return next((name for name, known in self.hash_of.items() if known == hash_), None)

    def take_names(self, count: int) -> list[str]:
        taken, self.free = self.free[:count], self.free[count:]
        for name in taken:
            self.hash_of.pop(name, None)
        for _, names in self.kept:
            names[:] = [name for name in names if name not in taken]
        return taken

    @precondition(lambda self: self.pool.free)
    @rule(data=st.data(), share=st.integers(0, 4), start=st.integers(0, 2), limit=st.integers(0, 4))
    def admit(self, data: st.DataObject, share: int, start: int, limit: int) -> None:
        """Match a prefix, hold it, take the rest, register what has a hash: what a sequence does."""
        hashes = tuple(range(start * 10, start * 10 + share))
        hits = self.pool.match(hashes, limit)
        names = []
        for hash_ in hashes[:limit]:
            name = self.name_with(hash_)
            if name is None:
                break
            names.append(name)
        assert [block.hash for block in hits] == [self.hash_of[name] for name in names]
        idle = [name for name in names if not self.refs.get(name)]
        room = self.pool.free - len(idle)
        if room < share - len(hits):
            return
        count = data.draw(st.integers(share - len(hits), room))
        self.pool.hold(hits)
        for name in names:
            self.refs[name] = self.refs.get(name, 0) + 1
        self.free = [name for name in self.free if name not in idle]
        self.pool.take(count)
        counted = self.take_names(count)
        for hash_ in hashes[len(hits) :]:
            block = self.pool.register(hash_)
            twin = self.name_with(hash_)
            if block is None:
                assert twin is not None
                assert self.refs.get(twin)
                break
            if twin is not None:
                assert not self.refs.get(twin), "a block in use keeps its hash"
                del self.hash_of[twin]
            name = counted.pop(0)
            self.hash_of[name], self.refs[name] = hash_, 1
            hits.append(block)
            names.append(name)
        self.holders.append(Holder(hits, names, counted))

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), keep=st.booleans())
    def end(self, data: st.DataObject, keep: bool) -> None:
        holder = self.holders.pop(data.draw(st.integers(0, len(self.holders) - 1)))
        if keep and holder.counted:
            self.kept.append((self.pool.give_back_kept(len(holder.counted)), holder.counted[::-1]))
            self.free += holder.counted[::-1]
            self.pool.give_back(holder.blocks, 0)
        else:
            self.pool.give_back(holder.blocks, 0) if not holder.counted else self.pool.give_back(
                holder.blocks, len(holder.counted)
            )
            self.free += holder.counted[::-1]
        for name in reversed(holder.named):
            self.refs[name] -= 1
            if not self.refs[name]:
                self.free.append(name)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        run, names = self.kept.pop(data.draw(st.integers(0, len(self.kept) - 1)))
        assert run.count == len(names)
        self.pool.reclaim(run)
        self.free = [name for name in self.free if name not in names]
        self.holders.append(Holder([], [], names))

    @rule(taken=st.integers(0, 3), given=st.integers(0, 3))
    def swap(self, taken: int, given: int) -> None:
        holder = next((holder for holder in self.holders if len(holder.counted) + taken >= given), None)
        if holder is None or taken > self.pool.free:
            return
        self.pool.swap(taken, given)
        counted = holder.counted + self.take_names(taken)
        self.free += counted[:given]
        holder.counted = counted[given:]

    @invariant()
    def free_and_used_blocks_are_all_blocks(self) -> None:
        named = {name for holder in self.holders for name in holder.named}
        counted = [name for holder in self.holders for name in holder.counted]
        assert len(counted) == len(set(counted))
        assert self.pool.used == len(named) + len(counted)
        assert self.pool.free == len(self.free) == TOTAL - self.pool.used

    @invariant()
    def the_queue_holds_the_free_blocks_oldest_first(self) -> None:
        queue = []
        node = self.pool._queue.after
        while node is not self.pool._queue:
            queue += [node.hash] * node.count
            node = node.after
        assert queue == [self.hash_of.get(name) for name in self.free]

    @invariant()
    def every_cached_block_is_found_and_counted_right(self) -> None:
        assert self.pool.num_cached == len(self.hash_of)
        for name, hash_ in self.hash_of.items():
            (block,) = self.pool.match((hash_,), 1)
            assert block.refs == self.refs[name]


PoolMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestTheBlockPool = PoolMachine.TestCase


def test_more_blocks_than_are_free_cannot_be_taken() -> None:
    pool = BlockPool(3)
    pool.take(2)
    with pytest.raises(ValueError, match="2 blocks wanted, 1 of 3 free"):
        pool.take(2)


def test_a_block_cannot_be_freed_twice() -> None:
    pool = BlockPool(3)
    pool.take(1)
    block = pool.register(7)
    assert block is not None
    pool.give_back([block], 0)
    with pytest.raises(ValueError, match="nobody holds it"):
        pool.give_back([block], 0)


def test_the_tail_of_a_prompt_is_evicted_before_its_head() -> None:
    pool = BlockPool(4)
    pool.take(3)
    blocks = [block for hash_ in (1, 2, 3) if (block := pool.register(hash_)) is not None]
    pool.give_back(blocks, 0)
    pool.take(2)
    assert len(pool.match((1, 2, 3), 3)) == 2
    pool.take(1)
    assert len(pool.match((1, 2, 3), 3)) == 1
