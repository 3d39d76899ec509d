"""Continuous traffic through the front door, and what its clients saw around each mark: a pod killed, a node drained.

New requests are sent at a steady rate, each on a connection of its own, so that a place that is gone is noticed.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from e2e.cluster.stack import MODEL, FrontDoor

TYPED = ("upstream_lost", "upstream_unreachable", "no_endpoint")
"""Codes of error events by which a stream that was under way may end when its worker is taken away."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: when it was sent, seconds from the start, how long it took, and what came."""

    sent_at: float
    seconds: float
    status: int
    """0: no answer at all."""
    problem: str = ""
    code: str = ""
    """The code of a typed error."""

    @property
    def is_good(self) -> bool:
        """Whether the answer came whole."""
        return self.status == 200 and not self.problem

    @property
    def is_typed_loss(self) -> bool:
        """Whether it was under way, was lost, and said so by a typed event."""
        return self.status == 200 and self.code in TYPED


@dataclass(slots=True)
class Traffic:
    """What has been sent and what has been marked. Read it when the traffic has ended."""

    began: float
    answered: list[Answered] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)

    def mark(self, what: str) -> None:
        """Note that something is done to the cluster now."""
        self.marks.append((time.monotonic() - self.began, what))

    @property
    def errors(self) -> list[Answered]:
        """What a client would call an error: everything but a whole answer, and but a typed loss in mid-stream."""
        return [one for one in self.answered if not one.is_good and not one.is_typed_loss]

    def __str__(self) -> str:
        lost = sum(one.is_typed_loss for one in self.answered)
        seen = "; ".join(f"{one.sent_at:.1f} s: {one.status} {one.problem}" for one in self.errors[:5])
        marks = ", ".join(f"{what} at {at:.1f} s" for at, what in self.marks)
        return f"{len(self.answered)} requests, {len(self.errors)} errors, {lost} typed losses ({marks}) {seen}"


def ask(door: FrontDoor, *, max_tokens: int = 8, model: str = MODEL, timeout: float = 20.0) -> tuple[int, str, str]:
    """Ask for a streamed answer; return its status, what is wrong with it, and the code of a typed error."""
    body: dict[str, Any] = {"model": model, "stream": True, "max_tokens": max_tokens}
    body["messages"] = [{"role": "user", "content": "how does lift come about"}]
    headers = {"authorization": f"Bearer {door.place.api_key}", "content-type": "application/json"}
    connection = door.connect(timeout=timeout)
    status = 0
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        status = answer.status
        told = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return status, f"{type(error).__name__}: {error}", ""
    finally:
        connection.close()
    if status == 200 and told.rstrip().endswith("data: [DONE]"):
        return 200, "", ""
    return status, told[-200:], _code(told)


def _code(told: str) -> str:
    for line in reversed(told.strip().splitlines()):
        try:
            return str(json.loads(line.removeprefix("data: "))["error"]["code"])
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return ""


@contextmanager
def flowing(door: FrontDoor, *, per_second: float = 5.0, max_tokens: int = 8) -> Iterator[Traffic]:
    """Keep traffic flowing while the block runs; afterwards every answer has come."""
    traffic = Traffic(time.monotonic())
    stop = threading.Event()

    def one(sent_at: float) -> None:
        began = time.monotonic()
        status, problem, code = ask(door, max_tokens=max_tokens)
        traffic.answered.append(Answered(sent_at, time.monotonic() - began, status, problem, code))

    def send(crew: ThreadPoolExecutor) -> None:
        number = 0
        while not stop.wait(max(0.0, traffic.began + number / per_second - time.monotonic())):
            crew.submit(one, time.monotonic() - traffic.began)
            number += 1

    with ThreadPoolExecutor(64, thread_name_prefix="client") as crew:
        sender = threading.Thread(target=send, args=(crew,), daemon=True)
        sender.start()
        try:
            yield traffic
        finally:
            stop.set()
            sender.join()
    traffic.answered.sort(key=lambda one: one.sent_at)


WIDTH, ROW, LEFT = 960, 22, 270
COLOURS = ("#2a9d5c", "#e09f1f", "#d3222a")
KINDS = ("answered whole", "lost under way, by a typed error", "error")


def picture(flights: Sequence[tuple[str, Traffic]]) -> str:
    """Return the timelines of several tests as one SVG: a dot a request, red where a client saw an error; marks."""
    longest = max((one.sent_at for _, traffic in flights for one in traffic.answered), default=1.0)
    scale = (WIDTH - LEFT - 20) / max(longest, 1.0)
    height = 60 + len(flights) * 3 * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for place, (colour, kind) in enumerate(zip(COLOURS, KINDS, strict=True)):
        x = LEFT + place * 200
        parts.append(f'<circle cx="{x}" cy="12" r="4" fill="{colour}"/><text x="{x + 9}" y="16">{kind}</text>')
    for row, (name, traffic) in enumerate(flights):
        y = 45 + row * 3 * ROW
        told = f"{len(traffic.answered)} requests, {len(traffic.errors)} errors"
        parts.append(f'<text x="8" y="{y + 16}">{name}</text><text x="8" y="{y + 32}" fill="#667">{told}</text>')
        for number, (at, what) in enumerate(traffic.marks):
            x = LEFT + at * scale
            # neighbours' words would stand on each other
            beside = y + (2 * ROW + 2 if number % 2 else 0)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 2 * ROW}" stroke="#99a"/>')
            parts.append(f'<text x="{x + 3:.1f}" y="{beside}" fill="#667" font-size="10">{what}</text>')
        for one in traffic.answered:
            colour = COLOURS[0 if one.is_good else 1 if one.is_typed_loss else 2]
            below = 0 if one.is_good else 8
            parts.append(
                f'<circle cx="{LEFT + one.sent_at * scale:.1f}" cy="{y + ROW + below}" r="2.2" fill="{colour}"/>'
            )
    seconds = [
        f'<text x="{LEFT + second * scale:.1f}" y="{height - 6}" fill="#667">{second} s</text>'
        for second in range(0, int(longest) + 1, 10)
    ]
    return "\n".join([*parts, *seconds, "</svg>"])
