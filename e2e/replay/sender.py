"""One request from send to end: written to the wire, its stream read as it comes, its row made. Pilot only."""

from __future__ import annotations

import ssl
import time
from math import nan
from typing import Any

import gevent
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse

from e2e.replay.address import address_of, head_of
from e2e.replay.connections import Connections, TlsWire, Wire
from e2e.replay.plan import Planned, Settings
from e2e.replay.rows import CANCELLED, FAILED, OK, REFUSED, TIMED_OUT, Row
from e2e.replay.sse import Stream, reason_of

PIECE_BYTES = 16 * 1024
MAX_ERROR_BYTES = 64 * 1024
REFUSALS = (429, 503)
"""Answers of a server that will not take the request now."""


class Late(gevent.Timeout):  # type: ignore[misc]
    """The client has waited for its first token as long as it wanted to."""


class Stalled(Exception):
    """Nothing has come for too long."""


class Sender:
    """Sends planned requests and makes a row of each. `zero` is the run's zero on the monotonic clock.

    `sweep` must be called now and then: it ends the streams in which nothing comes any more.
    """

    def __init__(self, settings: Settings) -> None:
        address = address_of(settings.base_url)
        self._settings = settings
        self._connections = Connections(
            address,
            connect_seconds=settings.connect_seconds,
            verify_tls=settings.verify_tls,
            authority=settings.authority,
            connect_to=settings.connect_to,
        )
        self._heads = [head_of(address, settings.path, key) for key in (*settings.keys, None)]
        self._open: dict[Any, Wire | TlsWire] = {}
        """Who waits for bytes on which connection."""
        self.zero = nan

    def send(self, planned: Planned) -> Row:
        """Send a request and stay with it to its end; whatever happens to it is in the row, only a bug is raised."""
        stream = Stream()
        row = Row(planned.index, sent=time.monotonic() - self.zero)
        patience = None
        if planned.deadline_seconds is not None:
            patience = Late.start_new(planned.deadline_seconds, Late(planned.deadline_seconds))
        try:
            self._fly(planned, row, stream, patience)
        except gevent.GreenletExit:
            row.close(CANCELLED, "flight over")
        except gevent.Timeout as timeout:
            if not isinstance(timeout, Late):
                raise
            row.close(TIMED_OUT, "no first token in time")
        except Stalled:
            row.close(FAILED, "stalled" if row.http_status else "no answer in time")
        except TimeoutError:
            row.close(FAILED, "connect timed out")
        except (HTTPParseError, OSError) as error:
            row.close(FAILED, _lost(error, row))
        finally:
            self._open.pop(gevent.getcurrent(), None)
            if patience is not None:
                patience.close()
        row.land(stream, time.monotonic(), self.zero)
        return row

    def sweep(self) -> None:
        """End the streams that have stalled."""
        horizon = time.monotonic() - self._settings.stall_seconds
        for greenlet, wire in list(self._open.items()):
            if wire.heard_at < horizon:
                greenlet.kill(Stalled, block=False)

    def _fly(self, planned: Planned, row: Row, stream: Stream, patience: Late | None) -> None:
        wire, response = self._post(planned)
        row.http_status = response.get_code()
        row.routed(response.get("x-windtunnel-decision"))
        if row.http_status != 200:
            self._refused(response, row)
            return
        readline, feed, times = response.readline, stream.feed, stream.chunk_times
        while line := readline(b"\n"):
            feed(line, wire.heard_at)
            if patience is not None and times:
                patience.close()
                patience = None
            if stream.is_done or stream.error:
                break
        if stream.error:
            row.close(FAILED, stream.error)
        elif not stream.is_done:
            row.close(FAILED, "ended without [DONE]")
        else:
            row.close(OK if times else FAILED, "" if times else "no token came")
        self._finish(response)

    def _post(self, planned: Planned) -> tuple[Wire | TlsWire, Any]:
        key = planned.key if planned.key >= 0 else len(self._heads) - 1
        patience = planned.deadline_seconds
        about = (
            f"X-Request-Id: {self._settings.run_id}-{planned.index}\r\n"
            f"X-Windtunnel-Class: {planned.traffic_class}\r\n"
            f"X-Windtunnel-Priority: {planned.priority}\r\n"
            + (f"X-Windtunnel-Session: {planned.session}\r\n" if planned.session else "")
            + (f"X-Windtunnel-Deadline-Seconds: {patience:g}\r\n" if patience is not None else "")
            + f"Content-Length: {len(planned.body)}\r\n\r\n"
        )
        connections = self._connections
        wire = connections.get_socket()
        self._open[gevent.getcurrent()] = wire
        try:
            wire.sendall(b"".join((self._heads[key], about.encode(), planned.body)))
        except BaseException:
            connections.release_socket(wire)
            raise
        return wire, HTTPSocketPoolResponse(wire, connections, block_size=PIECE_BYTES, method="POST")

    def _refused(self, response: Any, row: Row) -> None:
        """Read why a request was not taken."""
        import orjson

        wait = response.get("retry-after")
        row.retry_after = float(wait) if isinstance(wait, str) and wait.isdecimal() else None
        told = response.read(MAX_ERROR_BYTES)
        response.release()
        try:
            reason = reason_of(orjson.loads(told))
        except orjson.JSONDecodeError:
            reason = told.decode("utf-8", "replace").strip().partition("\n")[0][:200]
        status = REFUSED if row.http_status in REFUSALS else FAILED
        row.close(status, reason or f"HTTP {row.http_status}")

    def _finish(self, response: Any) -> None:
        """Read what follows `[DONE]`, which is the end of the message, so that the connection can be used again."""
        try:
            while response.readline(b"\n"):
                pass
        except (HTTPParseError, OSError):
            return
        finally:
            response.release()


def _lost(error: Exception, row: Row) -> str:
    """Say in a word or two how the connection was lost."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate not trusted"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, HTTPConnectionClosed | ConnectionError | HTTPParseError):
        return "connection closed mid-stream" if row.http_status else "connection closed"
    strerror = getattr(error, "strerror", None)
    return str(strerror or type(error).__name__).lower()
