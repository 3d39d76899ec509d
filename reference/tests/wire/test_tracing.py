"""A request keeps its name through every hop, and each hop is a span of its trace."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from reference.wire.tracing import trace_headers


@given(request_id=st.binary(max_size=140), traceparent=st.binary(max_size=60))
def test_what_is_passed_on_is_always_well_formed(request_id: bytes, traceparent: bytes) -> None:
    passed_id, passed_trace = trace_headers({b"x-request-id": request_id, b"traceparent": traceparent})

    assert re.fullmatch(rb"[\w.:-]{1,128}", passed_id)
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", passed_trace)


def test_a_well_formed_name_and_trace_are_kept_with_a_new_span() -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

    passed_id, passed_trace = trace_headers({b"x-request-id": b"mine:1", b"traceparent": trace})

    assert passed_id == b"mine:1"
    assert (passed_trace[:36], passed_trace[52:]) == (trace[:36], trace[52:])
    assert passed_trace != trace


def test_names_are_not_given_twice() -> None:
    assert len({trace_headers({})[0] for _ in range(100)}) == 100
