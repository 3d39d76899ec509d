"""The metrics of a bert worker: requests, tokens, batches and their sizes, waiting and computing times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from reference.wire.metrics import LATENCY_BUCKETS
from reference.worker.bert.batching import Text

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class BertMetrics:
    """The registry of one bert worker. Tokens per second are the rate of `bert_tokens_total`."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"model_name": model}
        self._requests = Counter(
            "bert_requests", "Requests answered.", ["model_name", "path", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "bert_request_seconds",
            "From arrival to the answer.",
            ["model_name", "path"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.running = self._gauge("bert_num_requests_running", "Requests under way.")
        self.tokens = self._counter("bert_tokens", "Tokens computed, without padding.")
        self.padding = self._counter("bert_padding_tokens", "Padding computed with them.")
        self.texts = self._counter("bert_texts", "Texts computed.")
        self.failed_batches = self._counter("bert_failed_batches", "Batches that could not be computed.")
        self.busy = self._counter("bert_compute_seconds", "Time spent computing; its rate is how busy the device is.")
        self._batch_texts = self._histogram("bert_batch_texts", "Texts in a batch.", _SIZES)
        self._batch_seconds = self._histogram("bert_batch_seconds", "How long a batch computes.", LATENCY_BUCKETS)
        self._wait = self._histogram("bert_queue_seconds", "How long a text waits for its batch.", LATENCY_BUCKETS)

    def watch_queue(self, num_texts: Callable[[], float], num_tokens: Callable[[], float]) -> None:
        """Let the queue be read when it is asked for."""
        self._gauge("bert_queue_texts", "Texts that wait.").set_function(num_texts)
        self._gauge("bert_queue_tokens", "Tokens that wait.").set_function(num_tokens)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one request; 499 is a client that left."""
        self._requests.labels(**self._labels, path=path, status=str(status)).inc()
        self._seconds.labels(**self._labels, path=path).observe(seconds)

    def computed(self, batch: Sequence[Text], began: float, ended: float) -> None:
        """Count one batch. Seconds on the monotonic clock."""
        lengths = [len(text.tokens) for text in batch]
        self.texts.inc(len(batch))
        self.tokens.inc(sum(lengths))
        self.padding.inc(max(lengths) * len(lengths) - sum(lengths))
        self.busy.inc(ended - began)
        self._batch_texts.observe(len(batch))
        self._batch_seconds.observe(ended - began)
        for text in batch:
            self._wait.observe(began - text.came_at)

    def _counter(self, name: str, about: str) -> Counter:
        return Counter(name, about, ["model_name"], registry=self.registry).labels(**self._labels)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(name, about, ["model_name"], registry=self.registry).labels(**self._labels)

    def _histogram(self, name: str, about: str, buckets: Sequence[float]) -> Histogram:
        histogram = Histogram(name, about, ["model_name"], buckets=buckets, registry=self.registry)
        return histogram.labels(**self._labels)
