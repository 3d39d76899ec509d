"""TensorRT-LLM's iterations, read once: however the reads cut them sums lose nothing, and no news is not no load."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reference.worker.trt.metrics import Iterations

entries = st.fixed_dictionaries(
    {
        "iterLatencyMS": st.floats(0, 100),
        "numActiveRequests": st.integers(0, 64),
        "numQueuedRequests": st.integers(0, 64),
        "numCompletedRequests": st.integers(0, 4),
        "inflightBatchingStats": st.fixed_dictionaries(
            {
                "numGenRequests": st.integers(0, 64),
                "numCtxTokens": st.integers(0, 4096),
                "numPausedRequests": st.just(0),
            }
        ),
        "kvCacheStats": st.fixed_dictionaries({"maxNumBlocks": st.integers(0, 9), "usedNumBlocks": st.integers(0, 9)}),
    }
)


def taken(reads: list[list[Any]], in_flight: int = 1000) -> Iterations:
    iterations = Iterations()
    for read in reads:
        iterations.take(read, in_flight)
    return iterations


@given(st.lists(st.lists(entries, max_size=5), max_size=10))
def test_how_the_reads_cut_the_iterations_changes_no_sum(reads: list[list[Any]]) -> None:
    together = [entry for read in reads for entry in read]

    cut, whole = taken(reads), taken([together])

    assert cut.totals.keys() == whole.totals.keys()
    for name, total in cut.totals.items():
        assert abs(total - whole.totals[name]) < 1e-6
    tokens = sum(entry["inflightBatchingStats"]["numGenRequests"] for entry in together)
    assert cut.totals["trtllm_iteration_generation_tokens"] == tokens
    assert cut.totals["trtllm_iterations"] == len(together)


@given(st.lists(entries, min_size=1), st.integers(0, 64))
def test_nothing_new_leaves_the_load_as_it_was_but_for_what_is_not_in_flight(read: list[Any], in_flight: int) -> None:
    before = taken([read])
    after = taken([read, []], in_flight)
    last = read[-1]

    assert before.gauges["trtllm_num_requests_running"] == last["numActiveRequests"]
    assert after.gauges["trtllm_num_requests_running"] == min(last["numActiveRequests"], in_flight)
    assert after.gauges["trtllm_kv_cache_utilization"] == before.gauges["trtllm_kv_cache_utilization"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["iterLatencyMS", "kvCacheStats", "numActiveRequests"]), inner)
        ),
    )
)
def test_whatever_the_page_is_it_is_taken_without_a_fault(page: Any) -> None:
    iterations = taken([page])

    assert all(isinstance(total, float) for total in iterations.totals.values())
