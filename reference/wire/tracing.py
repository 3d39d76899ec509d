"""The names that follow a request through every hop: X-Request-Id and W3C trace context."""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Mapping

REQUEST_ID = b"x-request-id"
TRACEPARENT = b"traceparent"

_chance = random.Random(secrets.randbits(256))
"""Names have to be unlike others, not secret: the kernel is asked once, and not for each."""

_REQUEST_ID = re.compile(rb"[\w.:-]{1,128}")
_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_headers(headers: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return (request id, traceparent) to pass on: those that came when they are well-formed, else new ones.

    The parent id is a new one in any case: each hop is a span of the trace.
    """
    request_id, traceparent = headers.get(REQUEST_ID, b""), headers.get(TRACEPARENT, b"")
    fresh = b"%072x" % _chance.getrandbits(288)
    span = fresh[:16]
    if not request_id or not _REQUEST_ID.fullmatch(request_id):
        request_id = b"req-" + fresh[16:40]
    if traceparent and _TRACEPARENT.fullmatch(traceparent):
        return request_id, traceparent[:36] + span + traceparent[52:]
    return request_id, b"00-" + fresh[40:] + b"-" + span + b"-01"
