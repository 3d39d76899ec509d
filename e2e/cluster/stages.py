"""Stages with a name and a deadline: each is skipped when what it makes is there, so a run that broke off goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from e2e.cluster.programs import StageFailed

POLL_SECONDS = 1.0


@dataclass(slots=True)
class Clock:
    """The time that a stage has, and what it has seen last; who waits for something says here what it is like."""

    ends_at: float
    seen: str = ""

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least one: whoever is asked needs some time to say no."""
        return max(1.0, self.ends_at - time.monotonic())

    def until(self, look: Callable[[], str]) -> None:
        """Look again and again until nothing is missing: `look` returns what is, or "".

        Raises:
            StageFailed: the deadline has passed; with what was missing last.
        """
        while missing := look():
            self.seen = missing
            if time.monotonic() > self.ends_at:
                raise StageFailed(f"not done within its time; last seen: {missing}")
            time.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step towards a cluster that serves. `run` returns in a few words what it did."""

    name: str
    seconds: float
    run: Callable[[Clock], str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Done:
    """How a stage went."""

    name: str
    seconds: float
    told: str


def run(
    stages: Sequence[Stage], say: Callable[[str], None] | None = None, *, on_begin: Callable[[str], None] | None = None
) -> list[Done]:
    """Run stages in order, saying how each went. `on_begin` is told a stage's name before it begins.

    Raises:
        StageFailed: one could not be completed; its name and what was seen last are in the message.
    """
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    done = []
    for number, stage in enumerate(stages, 1):
        say(f"[{number}/{len(stages)}] {stage.name} (at most {stage.seconds:.0f} s)")
        if on_begin is not None:
            on_begin(stage.name)
        began = time.monotonic()
        clock = Clock(began + stage.seconds)
        try:
            told = stage.run(clock)
        except StageFailed as error:
            seen = f"; last seen: {clock.seen}" if clock.seen and clock.seen not in str(error) else ""
            raise StageFailed(f"stage {stage.name}, after {time.monotonic() - began:.0f} s: {error}{seen}") from error
        done.append(Done(stage.name, time.monotonic() - began, told))
        say(f"      {told} ({done[-1].seconds:.0f} s)")
    return done
