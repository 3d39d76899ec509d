"""A recording in any format gives back the cost that made it; what is no recording is told with what was expected."""

from __future__ import annotations

import gzip
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reference.engine import EngineSettings, StepCost
from sim.experiment.errors import InputError
from sim.fidelity.calibrated import Calibrated
from sim.fidelity.calibration import calibrate
from sim.fidelity.recordings import read

costs = st.builds(
    StepCost.linear,
    st.floats(4e-3, 3e-2),
    st.floats(2e-5, 2e-4),
    st.floats(5e-5, 4e-4),
    st.floats(5e-8, 4e-7),
)
few = settings(
    max_examples=4,
    derandomize=True,
    deadline=None,
    # a smaller cost tells no more than another, and each takes a flight
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


PHASES = [(clients, longest) for longest in (100, 1500, 400) for clients in (1, 4, 16, 48, 32)]


def truth(cost: StepCost, found: Calibrated) -> dict[str, float]:
    return {name: getattr(cost, name, 0.004) for name in found.told}


@pytest.mark.parametrize("write", ["vllm_bench", "aiperf", "csv_table", "json_lines"])
@few
@given(cost=costs)
def test_recorded_requests_give_their_cost_back(tmp_path: Path, recorded: Any, write: str, cost: StepCost) -> None:
    path = tmp_path / "recording"
    getattr(recorded, write)(cost, recorded.traffic(150, 1.2), path)

    found = calibrate(read(path), recorded.SETTINGS)

    for name, value in truth(cost, found).items():
        assert abs(found.values[name] - value) <= found.uncertainty[name], name
        assert found.uncertainty[name] < value or name == "request_seconds"
    assert len(found.told) == 5
    assert found.held_out["tpot"].median < 0.01
    assert found.held_out["ttft"].median < 0.02


@few
@given(cost=costs)
def test_a_log_of_vllm_gives_the_cost_within_twice_its_uncertainty_and_predicts_throughput(
    tmp_path: Path, recorded: Any, cost: StepCost
) -> None:
    """Twice, because sixteen intervals of 95 % are looked at."""
    recorded.vllm_log(cost, PHASES, 80, tmp_path / "vllm.log")

    found = calibrate(read(tmp_path / "vllm.log"), recorded.SETTINGS)

    for name, value in truth(cost, found).items():
        assert abs(found.values[name] - value) <= 2 * found.uncertainty[name], name
    assert found.cost.overhead == pytest.approx(cost.overhead, rel=0.03)
    assert found.held_out["throughput"].median < 0.03
    assert found.kv_tokens == recorded.SETTINGS.num_blocks * 16
    assert any("no latency" in doubt for doubt in found.doubts)


def test_context_that_only_follows_the_sequences_is_not_told_apart_from_them(tmp_path: Path, recorded: Any) -> None:
    cost = StepCost.linear(0.004, 2e-5, 5e-5, 5e-8)
    recorded.vllm_log(cost, [(clients, 1500) for clients in (1, 2, 4, 8, 16, 32, 48)], 80, tmp_path / "vllm.log")

    found = calibrate(read(tmp_path / "vllm.log"), recorded.SETTINGS)

    assert "per_context_token" not in found.values
    assert found.cost.per_sequence > 5e-5
    assert found.held_out["throughput"].median < 0.03
    assert any("grew and fell with the sequences" in doubt for doubt in found.doubts)


@few
@given(cost=costs)
def test_iterations_of_tensorrt_llm_give_the_cost_exactly(tmp_path: Path, recorded: Any, cost: StepCost) -> None:
    recorded.trt_iterations(cost, recorded.traffic(80, 0.4), tmp_path / "metrics.json")

    found = calibrate(read(tmp_path / "metrics.json"), recorded.SETTINGS)

    assert found.values == pytest.approx(truth(cost, found), rel=1e-3)
    assert found.held_out["step"].p90 < 1e-3
    assert found.kv_tokens == 4000 * 32


def test_a_log_of_iterations_without_context_says_so(tmp_path: Path, recorded: Any) -> None:
    cost = StepCost.linear(0.012, 6e-5, 2e-4)
    recorded.trt_log(cost, recorded.traffic(80, 0.4), tmp_path / "trt.log")

    found = calibrate(read(tmp_path / "trt.log"), recorded.SETTINGS)

    assert found.values == pytest.approx(truth(cost, found), rel=1e-3)
    assert "per_context_token" not in found.values
    assert any("the context of each step is not told" in doubt for doubt in found.doubts)


def test_the_order_of_lines_does_not_matter_and_gzip_neither(tmp_path: Path, recorded: Any) -> None:
    cost, path = StepCost.linear(0.01, 5e-5), tmp_path / "requests.jsonl"
    recorded.json_lines(cost, recorded.traffic(60, 0.5), path)
    plain = calibrate(read(path), recorded.SETTINGS)
    lines = path.read_text().splitlines()
    (tmp_path / "packed").write_bytes(gzip.compress("\n".join(reversed(lines)).encode()))

    assert calibrate(read(tmp_path / "packed"), recorded.SETTINGS).values == pytest.approx(plain.values, rel=1e-6)


@pytest.mark.parametrize(
    ("card", "seqs", "blocks", "tpot", "ttft"),
    [("RTXPRO6000", 128, 34_680, 0.01, 0.03), ("RTX4090", 256, 2588, 0.06, 0.06)],
)
def test_a_published_run_of_vllm_is_predicted_on_the_half_that_was_not_fitted(
    card: str, seqs: int, blocks: int, tpot: float, ttft: float
) -> None:
    """LLMServingSim's runs: 300 requests at 10/s, more than either card serves; the second one's KV cache is full."""
    path = Path(str(resources.files("sim.fidelity").joinpath(f"data/llmservingsim/{card}/requests.csv.gz")))
    engine = EngineSettings(max_num_seqs=seqs, max_num_batched_tokens=2048, max_model_len=32_768, num_blocks=blocks)

    found = calibrate(read(path), engine)

    assert found.num_rows == 300
    assert found.held_out["tpot"].median < tpot
    assert found.held_out["ttft"].median < ttft
    assert not any("far off" in doubt for doubt in found.doubts)


def test_settings_that_were_not_the_engines_are_suspected() -> None:
    """The run had 128 sequences at most and a queue before them; with room for 256 there would have been none."""
    path = Path(str(resources.files("sim.fidelity").joinpath("data/llmservingsim/RTXPRO6000/requests.csv.gz")))
    engine = EngineSettings(max_num_seqs=256, max_num_batched_tokens=2048, max_model_len=32_768, num_blocks=34_680)

    found = calibrate(read(path), engine)

    assert any("far off" in doubt and "max_num_seqs" in doubt for doubt in found.doubts)


def test_requests_that_failed_are_left_out_and_counted(tmp_path: Path, recorded: Any) -> None:
    path = tmp_path / "result.json"
    recorded.vllm_bench(StepCost.linear(0.01), recorded.traffic(60, 0.5), path)
    result = json.loads(path.read_text())
    result["errors"][3], result["ttfts"][3] = "Timeout", 0.0
    path.write_text(json.dumps(result))

    found = read(path)

    assert len(found.measured) == 59
    assert found.notes == ("1 of 60 requests failed and are left out",)


AIPERF = {"metadata": {"request_start_ns": 1}, "metrics": {"request_latency": {"value": 1, "unit": "ms"}}}
TABLE = "arrival,input_tokens,output_tokens,ttft_seconds,tpot_seconds\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "in no format that is known; expected a run directory, a result of `vllm bench serve"),
        ("hello\nworld", "in no format that is known"),
        ('{"a": 1', ":1: not JSON"),
        ("[1, 2]", "holds JSON that is no object"),
        (
            '{"request_throughput": 1, "total_input_tokens": 5}',
            "has no input_lens; expected a result saved with --save",
        ),
        ('{"input_lens": [1], "ttfts": [0.1], "output_lens": [2], "itls": [[0.1]]}', "has no start_times"),
        (
            '{"input_lens": [1], "ttfts": [0.1], "output_lens": [2, 3], "itls": [[0.1]], "start_times": [0]}',
            "lists of different lengths",
        ),
        (json.dumps(AIPERF), ":1: has no input_sequence_length, output_sequence_length, time_to_first_token"),
        ('{"experiments": []}', "holds texts and no token counts"),
        ('{"iterLatencyMS": 5.0}', "iteration 0: numContextRequests is missing"),
        ("arrival,input_tokens,ttft_seconds\n0,5,0.1", ":2: has no output_tokens (there is arrival, input_tokens"),
        (TABLE + "0,5,4,soon,0.1", ":2: ttft_seconds is 'soon'; expected a number"),
        (TABLE + "0,5,4,-0.2,0.1", "TTFT is -0.2; expected more than 0 seconds"),
        (TABLE + "0,0,4,0.2,0.1", "input_tokens is 0; expected at least 1"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "given").write_text(text)

    with pytest.raises(InputError) as raised:
        read(tmp_path / "given")

    assert said in str(raised.value)
    assert "given" in str(raised.value)


def test_a_log_of_an_engine_that_speculates_is_refused(tmp_path: Path, recorded: Any) -> None:
    recorded.vllm_log(StepCost.linear(0.01), [(2, 100)], 30, tmp_path / "vllm.log")
    with (tmp_path / "vllm.log").open("a") as file:
        file.write("INFO SpecDecoding metrics: Mean acceptance length: 2.3, Accepted throughput: 41.00 tokens/s\n")

    with pytest.raises(InputError, match="the engine speculates"):
        read(tmp_path / "vllm.log")


def test_a_log_of_changing_load_alone_is_told(tmp_path: Path, recorded: Any) -> None:
    recorded.vllm_log(StepCost.linear(0.01), [(1, 100), (4, 100), (16, 100)], 10, tmp_path / "vllm.log")

    with pytest.raises(InputError, match="intervals have steady load"):
        calibrate(read(tmp_path / "vllm.log"), recorded.SETTINGS)
