"""The sender's process: `python -m e2e.replay.pilot --plan DIRECTORY --out rows.jsonl [--share 0/2]`.

A process of its own, because a sender that shares an interpreter with anything else lags, and because locust's gevent
should not meet anybody else's sockets. A locust environment with one user that owns the schedule and spawns a greenlet
per arrival: locust's users wait for their answers, and its load shapes set how many users there are, not when a request
leaves, so neither is open loop.

Spoken over pipes: it says `ready`, is told `go ZERO` (seconds on the monotonic clock), says how far it is in a line of
JSON now and then, and ends when all requests have. It stops when its standard input is closed: its parent has gone.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import gevent
import gevent.os
import locust
from gevent.event import Event
from gevent.pool import Group
from locust.env import Environment

from e2e.replay.persistence import Persistence
from e2e.replay.plan import Planned, Settings, read_plan
from e2e.replay.rows import OK
from e2e.replay.sender import Sender

TELL_EVERY_SECONDS = 0.5
YIELD_EVERY = 8
"""When late, let the spawned ones go after so many."""
SELDOM_SECONDS = 0.02
"""Gaps between arrivals that are longer are worth an exact awakening."""


class Flight:
    """One replay in this process. Built, told its zero, flown once."""

    def __init__(self, settings: Settings, plan: list[Planned], rows: BinaryIO) -> None:
        self._settings = settings
        self._plan = plan
        self._rows = rows
        self._open: Group = Group()
        self.sender = Sender(settings)
        self._persistence = Persistence(self.sender, settings.retries, settings.run_id)
        self.num_sent = self.num_ended = 0
        self.landed = Event()

    def fly(self, requests: Any) -> None:
        """Send everything on time, then wait for what is open until overtime is over. `requests` is locust's event."""
        teller = gevent.spawn(self._tell)
        send_at = self.sender.zero
        for number, planned in enumerate(self._plan):
            _sleep_until(send_at + planned.scheduled, may_yield=not number % YIELD_EVERY)
            self._open.start(gevent.Greenlet(self._one, planned, requests))
            self.num_sent += 1
        overtime = send_at + self._settings.duration_seconds + self._settings.overtime_seconds
        self._open.join(timeout=max(0.0, overtime - time.monotonic()))
        self._open.kill(block=True, timeout=5)
        self.landed.set()
        teller.kill()

    def _one(self, planned: Planned, requests: Any) -> None:
        row = self._persistence.send(planned)
        self.num_ended += 1
        self._rows.write(row.line())
        requests.fire(
            request_type="POST",
            name=planned.traffic_class,
            response_time=((row.ended or 0.0) - row.sent) * 1000,
            response_length=0,
            exception=None if row.status == OK else RuntimeError(row.reason),
            context={},
        )

    def _tell(self) -> None:
        while True:
            _say(json.dumps({"sent": self.num_sent, "ended": self.num_ended}))
            self.sender.sweep()
            gevent.sleep(TELL_EVERY_SECONDS)


def main() -> int:
    """Fly one plan, or a share of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", default="0/1")
    arguments = parser.parse_args()
    part, parts = (int(number) for number in arguments.share.split("/"))
    _raise_descriptor_limit()
    settings, plan = read_plan(arguments.plan, (part, parts))
    with arguments.out.open("wb", buffering=1 << 20) as rows:
        flight = Flight(settings, plan, rows)
        crashed = _watch_for_crashes()
        start_up = time.process_time()
        gc.collect()
        gc.freeze()
        # a collection walks every open stream; they hold no cycles, so seldom is enough
        gc.set_threshold(100_000, 50, 1000)
        _say("ready")
        order = sys.stdin.readline().split()
        if len(order) != 2 or order[0] != "go":
            return 1
        flight.sender.zero = float(order[1])
        precedence = _take_precedence()
        _fly_under_locust(flight)
    spent = resource.getrusage(resource.RUSAGE_SELF)
    account = {"cpu": spent.ru_utime + spent.ru_stime - start_up, "precedence": precedence}
    _say(json.dumps({"sent": flight.num_sent, "ended": flight.num_ended, **account}))
    return 1 if crashed or not flight.landed.is_set() else 0


def _fly_under_locust(flight: Flight) -> None:
    class OpenLoop(locust.User):  # type: ignore[misc]
        """The one user: it owns the schedule."""

        @locust.task  # type: ignore[untyped-decorator]
        def schedule(self) -> None:
            """Fly, and be done."""
            flight.fly(self.environment.events.request)
            raise locust.exception.StopUser

    environment = Environment(user_classes=[OpenLoop], events=locust.events)
    runner = environment.create_local_runner()
    runner.start(1, spawn_rate=1)
    orphaned = gevent.spawn(_wait_for_end_of_input)
    gevent.wait([flight.landed, orphaned], count=1)
    runner.quit()


def _wait_for_end_of_input() -> None:
    gevent.os.make_nonblocking(0)
    while gevent.os.nb_read(0, 1024):
        pass


def _sleep_until(when: float, may_yield: bool) -> None:
    wait = when - time.monotonic()
    if wait > SELDOM_SECONDS:
        # the loop sleeps in whole milliseconds, rounded up: the last one is spent looking at the clock
        gevent.sleep(wait - 0.001)
        while time.monotonic() < when:
            gevent.sleep(0)
    elif wait > 0:
        gevent.sleep(wait)
    elif may_yield:
        gevent.sleep(0)


def _take_precedence() -> str:
    """Run before everything else on this machine, where that is allowed: a sender that waits for a core is a late one.

    It takes a few per cent of one, and the kernel keeps a twentieth of the time for the others whatever it does.
    """
    if not hasattr(os, "sched_setscheduler"):
        return "usual"
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return "usual"
    return "real-time"


def _watch_for_crashes() -> list[Any]:
    """Return a list that fills when a greenlet dies of an error; gevent itself would only print it."""
    crashed: list[Any] = []
    hub = gevent.get_hub()
    told = hub.handle_error

    def handle_error(context: Any, kind: Any, value: Any, trace: Any) -> None:
        if not issubclass(kind, (*hub.NOT_ERROR, KeyboardInterrupt)):
            crashed.append(value)
        told(context, kind, value, trace)

    hub.handle_error = handle_error
    return crashed


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
