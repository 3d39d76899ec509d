"""What is counted in plain numbers reads as Prometheus' own counters and histograms would."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from reference.wire.metrics import LATENCY_BUCKETS, Counts, Latencies


def text(registry: CollectorRegistry) -> list[str]:
    """The lines of a page, without the times at which a series began."""
    return sorted(line for line in generate_latest(registry).decode().splitlines() if "_created" not in line)


seconds = st.one_of(st.sampled_from(LATENCY_BUCKETS), st.floats(0, 1000, allow_subnormal=False))


@given(observed=st.lists(st.tuples(st.sampled_from(["/a", "/b"]), seconds), max_size=30))
def test_latencies_read_as_a_histogram_does(observed: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    latencies = Latencies("seconds", "About.", "path", ours)
    histogram = Histogram("seconds", "About.", ["path"], buckets=LATENCY_BUCKETS, registry=theirs)

    for path, value in observed:
        latencies.observe(path, value)
        histogram.labels(path).observe(value)

    assert text(ours) == text(theirs)


@given(counted=st.lists(st.tuples(st.sampled_from(["/a", "/b"]), st.integers(1, 5)), max_size=30))
def test_counts_read_as_a_counter_does(counted: list[tuple[str, int]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts = Counts("requests", "About.", ["path"], ours)
    counter = Counter("requests", "About.", ["path"], registry=theirs)

    for path, value in counted:
        counts.add((path,), value)
        counter.labels(path).inc(value)

    assert text(ours) == text(theirs)
