"""What the router reads: gauges of real engines' pages, and requests as policies may know them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.router.requests import prompt_text, view_of
from reference.router.signals import read_observation
from reference.wire.errors import ApiError

VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 2.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 1e+06
"""
TRT = b"""trtllm_num_requests_running{model="tiny"} 4
trtllm_num_requests_waiting{model="tiny"} 1
trtllm_kv_cache_utilization{model="tiny"} 0.5
"""


def test_vllms_page_is_read_and_its_engines_are_added_up() -> None:
    seen = read_observation(VLLM, 5.0)

    assert seen is not None
    assert (seen.observed_at, seen.running, seen.queue_depth, seen.kv_usage) == (5.0, 5, 7, 0.25)


def test_tensorrt_llms_page_is_read() -> None:
    seen = read_observation(TRT, 5.0)

    assert seen is not None
    assert (seen.running, seen.queue_depth, seen.kv_usage) == (4, 1, 0.5)


def test_vllms_older_name_of_kv_usage_is_known() -> None:
    seen = read_observation(VLLM.replace(b"kv_cache_usage_perc", b"gpu_cache_usage_perc"), 0.0)

    assert seen is not None
    assert seen.kv_usage == 0.25


ITERATIONS = b"""[{"iter": 6, "numActiveRequests": 9, "numQueuedRequests": 9},
{"iter": 7, "iterLatencyMS": 15.5, "gpuMemUsage": 4000000000, "numActiveRequests": 5, "numQueuedRequests": 3,
 "kvCacheStats": {"maxNumBlocks": 1000, "freeNumBlocks": 400, "usedNumBlocks": 600, "tokensPerBlock": 64},
 "inflightBatchingStats": {"numContextRequests": 2, "numGenRequests": 3, "numPausedRequests": 1}}]"""


def test_tensorrt_llms_last_iteration_is_how_things_are() -> None:
    seen = read_observation(ITERATIONS, 5.0)

    assert seen is not None
    assert (seen.observed_at, seen.running, seen.queue_depth, seen.kv_usage) == (5.0, 5, 3, 0.6)


@pytest.mark.parametrize(
    "page", [b"[]", b"[{}]", b"{}", b"[1]", b'{"error": "no"}', ITERATIONS[:100], b"", b"# HELP x\n"]
)
def test_a_page_without_news_is_not_a_page_without_load(page: bytes) -> None:
    assert read_observation(page, 0.0) is None


def test_of_several_engines_counts_add_up_and_usage_is_the_mean() -> None:
    second = b'vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.75\n'

    assert read_observation(VLLM + second, 0.0) == (0.0, 5, 7, 0.5)


@given(text=st.binary(max_size=200) | st.binary(max_size=20).map(b"vllm:num_requests_running ".__add__))
def test_no_page_breaks_the_scraper(text: bytes) -> None:
    seen = read_observation(text, 0.0)

    assert seen is None or seen.running >= 0


@given(end=st.integers(0, len(VLLM)))
def test_a_page_that_was_cut_off_is_read_as_far_as_it_goes(end: int) -> None:
    seen = read_observation(VLLM[:end], 0.0)

    assert seen is None or seen.running <= 5


def test_a_request_is_seen_as_it_was_declared() -> None:
    body = {
        "model": "tiny",
        "max_tokens": 9,
        "user": "someone",
        "messages": [
            {"role": "system", "content": "a b"},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "image_url"}]},
        ],
    }
    headers = [(b"x-windtunnel-tenant", b"red"), (b"x-windtunnel-priority", b"2"), (b"x-windtunnel-class", b"chat")]

    view = view_of("r-1", body, headers, 2, hashes_prompts=True)

    assert (view.model, view.max_output_tokens, view.session) == ("tiny", 9, "someone")
    assert (view.tenant, view.priority, view.traffic_class) == ("red", 2, "chat")
    assert len(view.block_hashes) == 1
    assert view.block_hashes == view_of("r-2", {"prompt": "a b x"}, [], 2, hashes_prompts=True).block_hashes


def test_a_priority_that_is_no_number_is_refused() -> None:
    with pytest.raises(ApiError) as refused:
        view_of("r", {"prompt": "a"}, [(b"x-windtunnel-priority", b"high")], 16, hashes_prompts=False)
    assert (refused.value.status, refused.value.param) == (400, "x-windtunnel-priority")


values = st.none() | st.booleans() | st.integers() | st.text(max_size=4)


@given(
    body=st.dictionaries(
        st.sampled_from(["messages", "prompt", "input", "user"]),
        st.recursive(
            values, lambda v: st.lists(v, max_size=2) | st.dictionaries(st.just("content"), v, max_size=1), max_leaves=4
        ),
    )
)
def test_any_object_has_a_text(body: dict) -> None:
    assert isinstance(prompt_text(body), str)
