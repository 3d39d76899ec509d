"""KV blocks of one replica: who holds them, which are free, and which free ones still hold a known prefix.

Every free block stands in one queue, oldest first; new blocks come from its head, so evicting is least recently used.
Blocks without a hash (answers, and prompts that nobody shares) are only counted: a stretch of them in the queue is one
node, so they age and are evicted in turn without costing anything each.

Refuses to know sequences, tokens and time.
"""

from __future__ import annotations


class Block:
    """A node of the pool: one KV block with a hash, or a run of `count` free blocks without.

    Born when a full block is registered under its hash; free blocks stand in the queue, used ones do not; ends when
    evicted. A run that is `kept` belongs to one preempted sequence and is not merged with its neighbours.
    """

    __slots__ = ("after", "before", "count", "hash", "is_kept", "refs")

    def __init__(self, hash_: int | None, count: int) -> None:
        self.hash = hash_
        self.count = count
        self.refs = 0
        self.is_kept = False
        self.before: Block = self
        self.after: Block = self

    def __repr__(self) -> str:
        what = f"run of {self.count}" if self.hash is None else f"{self.hash:#x} held by {self.refs}"
        return f"<Block {what}>"


class BlockPool:
    """The KV blocks of a replica. used + free = total at all times; cached blocks that nobody holds count as free."""

    __slots__ = ("_cached", "_queue", "free", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._cached: dict[int, Block] = {}
        self._queue = Block(None, 0)
        """Head and tail of the ring: `after` is the oldest free block, `before` the youngest."""
        self._append(Block(None, total))

    @property
    def used(self) -> int:
        """Blocks held by sequences."""
        return self.total - self.free

    @property
    def num_cached(self) -> int:
        """Blocks that can be found by hash, held or free."""
        return len(self._cached)

    def match(self, hashes: tuple[int, ...], limit: int) -> list[Block]:
        """Find the longest cached prefix, at most `limit` blocks, without taking it."""
        found: list[Block] = []
        cached = self._cached
        for hash_ in hashes[:limit]:
            block = cached.get(hash_)
            if block is None:
                break
            found.append(block)
        return found

    def hold(self, blocks: list[Block]) -> None:
        """Take cached blocks into use, once more each."""
        for block in blocks:
            if not block.refs:
                self._unlink(block)
                self.free -= 1
            block.refs += 1

    def take(self, count: int) -> None:
        """Take `count` blocks from the head of the queue, forgetting what they cached.

        Raises:
            ValueError: fewer are free.
        """
        if count > self.free:
            raise ValueError(f"{count} blocks wanted, {self.free} of {self.total} free")
        self.free -= count
        queue = self._queue
        while count:
            oldest = queue.after
            if oldest.hash is None and oldest.count > count:
                oldest.count -= count
                return
            count -= oldest.count
            self._unlink(oldest)
            if oldest.hash is None:
                oldest.count = 0
            else:
                del self._cached[oldest.hash]

    def swap(self, taken: int, given: int) -> None:
        """Take `taken` blocks, then free `given` counted ones: `take` and `give_back` in one."""
        run = self._queue.after
        if run is self._queue.before and not run.is_kept and run.hash is None and run.count > taken:
            run.count += given - taken
            self.free += given - taken
            return
        self.take(taken)
        self.give_back(None, given)

    def register(self, hash_: int) -> Block | None:
        """Make one of the counted blocks in use findable under its hash, held once.

        None when another sequence holds a block of the same hash: the new one stays counted. A free block of the same
        hash gives the hash up to the new one, which is the younger.
        """
        twin = self._cached.get(hash_)
        if twin is not None:
            if twin.refs:
                return None
            twin.hash = None
        block = Block(hash_, 1)
        block.refs = 1
        self._cached[hash_] = block
        return block

    def give_back(self, blocks: list[Block] | None, count: int) -> None:
        """Free `count` counted blocks and let go of `blocks`, tail first, so that a prefix outlives what follows it."""
        if count:
            self.free += count
            youngest = self._queue.before
            if youngest.hash is None and not youngest.is_kept and youngest is not self._queue:
                youngest.count += count
            else:
                self._append(Block(None, count))
        if not blocks:
            return
        for block in reversed(blocks):
            if block.refs < 1:
                raise ValueError(f"{block!r} is given back and nobody holds it")
            block.refs -= 1
            if not block.refs:
                self._append(block)
                self.free += 1

    def give_back_kept(self, count: int) -> Block:
        """Free `count` counted blocks as a run of their own, to be asked for again by `reclaim`."""
        run = Block(None, count)
        run.is_kept = True
        self._append(run)
        self.free += count
        return run

    def reclaim(self, run: Block) -> None:
        """Take what is left of a kept run into use."""
        if run.count:
            self._unlink(run)
            self.free -= run.count
        run.is_kept = False

    def forget(self) -> None:
        """Lose everything: no block is held, none is cached."""
        self._cached.clear()
        self._queue = Block(None, 0)
        self.free = self.total
        self._append(Block(None, self.total))

    def _append(self, block: Block) -> None:
        queue = self._queue
        youngest = queue.before
        block.before = youngest
        block.after = queue
        youngest.after = block
        queue.before = block

    def _unlink(self, block: Block) -> None:
        block.before.after = block.after
        block.after.before = block.before
