"""Who flies the candidates: this process alone, a process for each core, or the machines of a Ray cluster.

A flight depends on its candidate and seed only, so it does not matter who flew it, or when. The search asks for one
flight at a time and says which ones it will probably ask for next; a crew with hands free flies those ahead.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Protocol

from sim.capacity.search import Candidate, Probe
from sim.experiment.errors import InputError

WORTH_A_CREW_SECONDS = 0.5
"""A flight shorter than this is flown sooner than a crew is called together."""

Fly = Callable[[Candidate, int], Probe]
Key = tuple[Candidate, int]


class Handle(Protocol):
    """A flight under way."""

    def done(self) -> bool:
        """Say whether it is over."""

    def result(self) -> Probe:
        """Wait for it."""


class Hands(Protocol):
    """What starts flights elsewhere."""

    size: int
    """Flights at a time."""

    def start(self, candidate: Candidate, seed: int) -> Handle:
        """Start one."""

    def leave(self) -> None:
        """Begin nothing more, and let go."""


class Crew:
    """Flies what is asked for, and ahead of that what is expected, as long as hands are free.

    `hands` None: everything is flown here, until a flight has taken long enough for more hands to be called.
    """

    def __init__(self, fly: Fly, call: Callable[[Fly], Hands] | None = None) -> None:
        self._fly = fly
        self._call = call
        self._hands: Hands | None = None
        self._under_way: dict[Key, Handle] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        if self._hands is not None:
            self._hands.leave()

    def expect(self, keys: Iterable[Key]) -> None:
        """Fly these ahead, the first ones first, as far as hands are free."""
        if self._hands is None:
            return
        idle = self._hands.size - sum(not handle.done() for handle in self._under_way.values())
        for key in keys:
            if idle <= 0:
                return
            if key not in self._under_way:
                self._under_way[key] = self._hands.start(*key)
                idle -= 1

    def fly(self, candidate: Candidate, seed: int) -> Probe:
        """Give the flight of a candidate under a seed."""
        key = (candidate, seed)
        if self._hands is not None:
            if key not in self._under_way:
                self._under_way[key] = self._hands.start(candidate, seed)
            return self._under_way.pop(key).result()
        began = time.monotonic()
        probe = self._fly(candidate, seed)
        if self._call is not None and time.monotonic() - began > WORTH_A_CREW_SECONDS:
            self._hands = self._call(self._fly)
        return probe


class Processes:
    """A process for each core of this machine."""

    def __init__(self, fly: Fly, size: int) -> None:
        self.size = size
        self._pool = ProcessPoolExecutor(size, get_context("spawn"), initializer=_take, initargs=(fly,))

    def start(self, candidate: Candidate, seed: int) -> Handle:
        """Start a flight in one of them."""
        return self._pool.submit(_fly_here, candidate, seed)

    def leave(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class RayCluster:
    """The cores of a Ray cluster: `address` as `ray.init` takes it, `local` for one on this machine.

    Raises:
        InputError: ray is not installed, or nobody answers at the address.
    """

    def __init__(self, fly: Fly, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError("--ray: ray is not installed; expected pip install 'windtunnel[ray]'") from error
        self._ray = ray
        _knock(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"--ray {address}: no Ray cluster answers there: {error}") from error
        self.size = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._flown_by = ray.put(fly)
        self._task = ray.remote(_fly_with)

    def start(self, candidate: Candidate, seed: int) -> Handle:
        """Start a flight somewhere."""
        return _RayHandle(self._ray, self._task.remote(self._flown_by, candidate, seed))

    def leave(self) -> None:
        """Leave the cluster; it stays."""
        self._ray.shutdown()


def _knock(address: str) -> None:
    """Make sure that somebody listens there: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise InputError(f"--ray {address}: no Ray cluster answers there: {error.strerror or error}") from error


class _RayHandle:
    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference

    def done(self) -> bool:
        ready, _ = self._ray.wait([self._reference], timeout=0)
        return bool(ready)

    def result(self) -> Probe:
        probe: Probe = self._ray.get(self._reference)
        return probe


def hands_for(jobs: int | None, ray_address: str | None) -> Callable[[Fly], Hands] | None:
    """Return how to call a crew: on Ray, or on `jobs` cores of this machine (default: all); None for one."""
    if ray_address is not None:
        return lambda fly: RayCluster(fly, ray_address)
    size = jobs if jobs is not None else _cores()
    return None if size == 1 else lambda fly: Processes(fly, size)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_mine: list[Fly] = []
"""In a process of a crew: how it flies."""


def _take(fly: Fly) -> None:
    # Ctrl-C goes to the whole group; the process that searches is the one to act on it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _mine[:] = [fly]


def _fly_here(candidate: Candidate, seed: int) -> Probe:
    return _mine[0](candidate, seed)


def _fly_with(fly: Fly, candidate: Candidate, seed: int) -> Probe:
    return fly(candidate, seed)
