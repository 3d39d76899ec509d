"""What a rung of processes and a rung of pods have in common: servers that can be started, asked, told and lost.

Faults, autoscaling and sampling are written against these, so that they are the same on every rung.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from sim.experiment.schema import Pool


class Server(Protocol):
    """One server of the stack: a process, or a pod."""

    @property
    def name(self) -> str:
        """Such as `vllm-0`: the name of the replica in the scenario."""

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""

    def state(self) -> str:
        """Return `ready`, or what keeps it from being so."""

    def page(self) -> str:
        """Return its metrics page; empty when it does not answer."""

    def post(self, path: str, payload: dict[str, Any]) -> None:
        """Tell it something on a control route.

        Raises:
            OSError: it did not answer 2xx.
        """

    def set_partitioned(self, is_partitioned: bool) -> None:
        """Cut it off from the router, or join it again.

        Raises:
            OSError: it could not be done.
        """


S = TypeVar("S", bound=Server)
Taken = TypeVar("Taken", bound=Server, contravariant=True)


class Hands(Protocol[Taken]):
    """Who starts and ends servers."""

    def start(self, server: Taken, /) -> None:
        """Start a server, again if it had ended; its readiness is not waited for."""

    def kill(self, server: Taken, /) -> None:
        """End it as a crash does."""

    def stop(self, servers: Iterable[Taken], /) -> None:
        """Ask servers to end, and see that they do."""


class Deployed(Protocol[S]):
    """The stack of a flight."""

    @property
    def workers(self) -> Mapping[str, S]:
        """By name of the replica."""

    @property
    def router(self) -> Server:
        """The router."""

    @property
    def gateway(self) -> Server:
        """The gateway."""

    @property
    def pools(self) -> Mapping[str, Pool]:
        """By name."""

    @property
    def nodes(self) -> Mapping[str, tuple[str, ...]]:
        """Names of replicas by node of the scenario."""

    def workers_of(self, pool: str) -> list[S]:
        """The workers of a pool, in order."""

    def pool_of(self, worker: str) -> Pool:
        """The pool that a worker belongs to."""

    def add_worker(self, pool: str) -> S:
        """Work out one more worker of a pool; it is not started yet."""

    def remove_worker(self, name: str) -> None:
        """Forget a worker that has ended."""

    def list_workers(self, leaving: Collection[str] = ()) -> None:
        """Let the router know every worker that has been started and is not leaving."""
