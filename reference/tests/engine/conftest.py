"""A replica driven as a simulator drives it: sequences are handed in, time passes until nothing is left.

Of the session, because laws over many examples use them, too.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reference.engine import Engine, Event, Sequence


@pytest.fixture(scope="session")
def submit() -> Callable[[Engine, Sequence, float], None]:
    """Hand in a sequence that must not be refused."""

    def hand_in(engine: Engine, sequence: Sequence, at: float) -> None:
        assert engine.submit(sequence, at) is None
        engine.wake_at()

    return hand_in


@pytest.fixture(scope="session")
def drain() -> Callable[[Engine], list[Event]]:
    """Pass the time until nothing is left; give all events."""

    def pass_all(engine: Engine) -> list[Event]:
        events: list[Event] = []
        while (wake := engine.wake_at()) is not None:
            events += engine.advance(wake)
        return events

    return pass_all


@pytest.fixture(scope="session")
def times() -> Callable[[list[Event], str], dict[str | int, float]]:
    """Tell when each sequence had its event of a kind."""

    def when(events: list[Event], kind: str) -> dict[str | int, float]:
        return {event.request_id: event.at for event in events if event.kind == kind}

    return when
