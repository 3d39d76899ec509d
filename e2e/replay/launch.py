"""Replaying a workload: write the plan, start the senders, give them one zero, watch them, read the rows.

The calling process never imports gevent or locust.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from e2e.replay.address import address_of
from e2e.replay.persistence import account_of
from e2e.replay.plan import Settings, write_plan
from e2e.replay.prompts import Wording
from e2e.replay.result import ReplayResult
from e2e.replay.rows import Row, read_row
from sim.experiment.errors import InputError
from sim.experiment.schema import ClientRetry
from sim.experiment.workload import Workload

PILOT = "e2e.replay.pilot"
LEAD_SECONDS = 0.3
"""From the moment that every sender is ready to zero."""
READY_SECONDS = 120.0
LANDING_SECONDS = 60.0
"""How long after overtime a sender may take to write its rows and end."""
RATE_PER_SENDER = 1500.0


class ReplayError(RuntimeError):
    """The sender itself broke; the message ends with the last lines that it wrote."""


def replay(
    workload: Workload,
    base_url: str,
    *,
    api_keys: Mapping[str, str] | None = None,
    models: Mapping[str, str] | None = None,
    wording: Wording | None = None,
    salt: int = 0,
    exact_lengths: bool = True,
    out_dir: Path | None = None,
    progress: Callable[[float], None] | None = None,
    on_start: Callable[[float], None] | None = None,
    stall_seconds: float = 60.0,
    overtime_seconds: float = 120.0,
    verify_tls: bool = True,
    authority: Path | None = None,
    connect_to: str = "",
    num_senders: int | None = None,
    retries: Mapping[str, ClientRetry] | None = None,
) -> ReplayResult:
    """Send every request of a workload to an OpenAI-compatible endpoint when the workload says, and record what came.

    `api_keys` is by tenant, `models` maps the workload's models to those asked for. `salt` moves every prompt, so that
    a prefix cache warmed by an earlier run does not help this one; prompts that share a prefix still do.
    `exact_lengths` asks for as many output tokens as the workload has, in words that not every server knows. `out_dir`
    keeps the senders' logs (None: nowhere). `on_start` is told the run's zero on the monotonic clock, a moment ahead.
    `progress` is told the share of the window that has passed. `authority` is the certificate by which the endpoint is
    trusted (None: the system's); `connect_to` an address to use instead of the one that its name resolves to. `retries`
    is by class: how clients send again what brought no token; a budget is each sender's own.

    Raises:
        InputError: locust is not installed, or the URL cannot be used. ReplayError: the sender broke.
    """
    if find_spec("locust") is None or find_spec("orjson") is None:
        raise InputError("replaying against a server needs locust and orjson: pip install 'windtunnel[load]'")
    senders = num_senders or 1 + (len(workload.requests) > RATE_PER_SENDER * workload.duration_seconds)
    keys = dict(api_keys or {})
    settings = Settings(
        base_url=address_of(base_url).url,
        run_id=f"{workload.content_hash[:8]}-{time.time_ns() // 1_000_000 % 10**8:08d}",
        stall_seconds=stall_seconds,
        overtime_seconds=overtime_seconds,
        duration_seconds=workload.duration_seconds,
        verify_tls=verify_tls,
        authority=str(authority or ""),
        connect_to=connect_to,
        keys=tuple(sorted(set(keys.values()))),
        retries={name: rule.model_dump() for name, rule in (retries or {}).items()},
    )
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="windtunnel-replay-", dir=out_dir)))
        write_plan(
            scratch,
            workload,
            settings,
            api_keys=keys,
            models=models or {},
            wording=wording or Wording(),
            salt=salt,
            exact_lengths=exact_lengths,
        )
        crew = [stack.enter_context(Pilot(scratch, number, senders, out_dir)) for number in range(senders)]
        for pilot in crew:
            pilot.wait_until_ready()
        zero = time.monotonic() + LEAD_SECONDS
        if on_start is not None:
            on_start(zero)
        for pilot in crew:
            pilot.go(zero)
        end = zero + workload.duration_seconds + overtime_seconds + LANDING_SECONDS
        _watch(crew, zero, workload.duration_seconds, end, progress)
        rows = _rows(workload, crew)
    return ReplayResult(
        workload=workload,
        rows=rows,
        zero=zero,
        wall_seconds=time.monotonic() - zero,
        cpu_seconds=sum(pilot.account.get("cpu", 0.0) for pilot in crew),
        precedence=", ".join(sorted({pilot.account.get("precedence", "usual") for pilot in crew})),
        num_senders=senders,
        facts={"client_retries": account_of(rows, workload, retries)} if retries else {},
    )


def _watch(
    crew: Iterable[Pilot],
    zero: float,
    duration: float,
    end: float,
    progress: Callable[[float], None] | None,
) -> None:
    for pilot in crew:
        while pilot.is_flying():
            now = time.monotonic()
            if now > end:
                raise ReplayError(f"the sender did not end with its flight; {pilot.last_words()}")
            if progress is not None:
                progress(min(1.0, max(0.0, (now - zero) / duration)))


def _rows(workload: Workload, crew: Iterable[Pilot]) -> tuple[Row, ...]:
    found: dict[int, Row] = {}
    for pilot in crew:
        with pilot.rows_path.open("rb") as lines:
            for line in lines:
                row = read_row(line)
                found[row.index] = row
    missing = [request.index for request in workload.requests if request.index not in found]
    if missing:
        raise ReplayError(f"{len(missing)} requests have no row, the first is {missing[0]}")
    return tuple(found[request.index] for request in workload.requests)


class Pilot:
    """One sender's process. Started on entry, gone on exit: asked to stop by closing its input, then made to."""

    def __init__(self, plan: Path, number: int, of: int, log_dir: Path | None) -> None:
        self.rows_path = plan / f"rows-{number}.jsonl"
        self.account: dict[str, Any] = {}
        """What it said of itself last: requests `sent` and `ended`, and at the end `cpu` seconds and `precedence`."""
        self._command = [sys.executable, "-P", "-m", PILOT]
        self._command += ["--plan", str(plan), "--out", str(self.rows_path), "--share", f"{number}/{of}"]
        self._log_path = (log_dir or plan) / f"sender-{number}.log"
        self._said: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> Pilot:
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # everything that waits in there is gevent's own already
                env=os.environ | {"LOCUST_SKIP_MONKEY_PATCH": "1"},
                # Ctrl-C is ours to handle: the sender ends when its input does
                start_new_session=True,
            )
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close_input()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        if self._process.stdout:
            self._process.stdout.close()

    def wait_until_ready(self) -> None:
        """Wait until everything is read and imported.

        Raises:
            ReplayError: it broke, or took too long.
        """
        try:
            word = self._said.get(timeout=READY_SECONDS)
        except queue.Empty:
            raise ReplayError(f"the sender was not ready in {READY_SECONDS:g} s; {self.last_words()}") from None
        if word != "ready":
            self._process.wait(timeout=5)
            raise ReplayError(f"the sender broke before it was ready; {self.last_words()}")

    def go(self, zero: float) -> None:
        """Tell it the run's zero."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"go {zero!r}\n")
        self._process.stdin.flush()

    def is_flying(self) -> bool:
        """Wait a moment and say whether it still flies.

        Raises:
            ReplayError: it broke.
        """
        try:
            word = self._said.get(timeout=0.5)
        except queue.Empty:
            return True
        if word is not None:
            self.account |= json.loads(word)
            return True
        code = self._process.wait(timeout=30)
        if code:
            raise ReplayError(f"the sender broke (exit {code}); {self.last_words()}")
        return False

    def last_words(self) -> str:
        """Return the end of its log."""
        lines = self._log_path.read_text(errors="replace").strip().splitlines()
        return "its last words: " + ("\n".join(lines[-12:]) or "none")

    def _close_input(self) -> None:
        if self._process.stdin is None or self._process.stdin.closed:
            return
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            # it has gone already, with something unread
            return

    def _listen(self, out: IO[str] | Any) -> None:
        for line in out:
            self._said.put(line.strip())
        self._said.put(None)
