"""Vidur on the benchmark's load, with a trimmed fit.

Run by a Python that has `vidur`: `vidur_peer.py REPLICAS ROUTER COUNT` prints requests per CPU second of one flight.
The package has no profiles; it would ask a hub for them and fit forests for minutes, to fill the tables in which its
predictor looks up step times. Here a closed form fills them, no larger than this load needs: 8 ms a step, 30 µs a
token, 60 ns a token of context, an 8B model on an H100. Look-up, scheduler (Sarathi's chunks, a budget of 2,048 tokens)
and events are its own, its native predictor is on, and of its metrics only those of requests are kept.
"""

from __future__ import annotations

import sys
import time
from typing import Any

LAYERS = 32
STEP_MS, TOKEN_MS, CONTEXT_MS = 8.0, 0.03, 6e-5
FREE = (
    "attn_pre_proj", "attn_post_proj", "mlp_down_proj", "mlp_act", "attn_rope", "attn_kv_cache_save",
    "input_layernorm", "post_attention_layernorm", "add",
)  # fmt: skip
"""Operators that the closed form does not tell apart from the rest."""

LEFT_OUT = (
    "write_json_trace", "enable_chrome_trace", "store_plots", "store_operation_metrics",
    "store_token_completion_metrics", "store_batch_metrics", "store_utilization_metrics",
    "keep_individual_batch_metrics",
)  # fmt: skip


def tables(predictor: Any) -> dict[str, dict[tuple[int, ...], float]]:
    """Fill the tables that a fit would: milliseconds a layer."""
    limits = predictor._config
    longest, step = limits.prediction_max_tokens_per_request, limits.kv_cache_prediction_granularity
    counts, contexts = range(1, longest + 1), range(0, longest + 1, step)
    chunks, batches = range(32, limits.prediction_max_prefill_chunk_size + 1, 32), limits.prediction_max_batch_size
    nothing: dict[tuple[int, ...], float] = {(count,): 0.0 for count in counts}
    return {
        **dict.fromkeys(FREE, nothing),
        "mlp_up_proj": {(count,): (STEP_MS + TOKEN_MS * count) / LAYERS for count in counts},
        "attn_prefill": {(context, chunk): 0.0 for context in contexts for chunk in chunks},
        "attn_decode": {
            (batch, context): batch * context * CONTEXT_MS / LAYERS
            for batch in range(1, batches + 1)
            for context in contexts
        },
    }


def simulator(replicas: int, count: int) -> Any:
    """Make a simulator of the load."""
    from vidur import config as of
    from vidur.execution_time_predictor import random_forrest_execution_time_predictor as forest
    from vidur.simulator import Simulator

    forest.RandomForrestExecutionTimePredictor._load_predictions_from_hf = tables
    replica = of.ReplicaConfig(model_name="meta-llama/Llama-3-8B", num_pipeline_stages=1, tensor_parallel_size=1)
    lengths = of.FixedRequestLengthGeneratorConfig(prefill_tokens=512, decode_tokens=128)
    return Simulator(
        of.SimulationConfig(
            log_level="error",
            cluster_config=of.ClusterConfig(
                num_replicas=replicas,
                replica_config=replica,
                cache_config=of.CacheConfig(num_blocks=16_384),
                replica_scheduler_config=of.SarathiSchedulerConfig(batch_size_cap=256, chunk_size=2048),
            ),
            request_generator_config=of.SyntheticRequestGeneratorConfig(
                num_requests=count,
                length_generator_config=lengths,
                interval_generator_config=of.PoissonRequestIntervalGeneratorConfig(qps=8.0 * replicas),
            ),
            execution_time_predictor_config=of.RandomForrestExecutionTimePredictorConfig(
                prediction_max_tokens_per_request=4096,
                prediction_max_prefill_chunk_size=2048,
                prediction_max_batch_size=256,
                use_native_execution_time_predictor=True,
                no_cache=True,
            ),
            metrics_config=of.MetricsConfig(**dict.fromkeys(LEFT_OUT, False)),
        )
    )


def main(replicas: int, count: int) -> None:
    """Fly and print."""
    flight = simulator(replicas, count)
    began = time.process_time()
    flight.run()
    print(count / (time.process_time() - began))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[3]))
