"""`--trace` and `--trace-window`: a timeline of a flight, and of a run that was flown before on any rung."""

import gzip
import json


def test_a_flight_and_its_run_give_the_same_timeline_but_for_the_steps(windtunnel, scenario):
    told = windtunnel("replay", scenario, "--out", "run", "--trace", "flown.json.gz", "--no-open")
    assert told.returncode == 0, told.stderr
    again = windtunnel("report", "run", "--trace", "stored.json")
    assert again.returncode == 0, again.stderr
    assert "without steps" in again.stderr
    flown = json.loads(gzip.decompress((scenario.parent / "flown.json.gz").read_bytes()))["traceEvents"]
    stored = json.loads((scenario.parent / "stored.json").read_text())["traceEvents"]
    assert any(event.get("cat") == "step" for event in flown)
    assert [event for event in flown if event.get("cat") == "request"] == [
        event for event in stored if event.get("cat") == "request"
    ]


def test_a_window_that_cannot_be_is_refused_before_anything_flies(windtunnel, scenario):
    for options, message in (
        (("--trace", "t.json", "--trace-window", "5"), "--trace-window 5: expected two durations"),
        (("--trace-window", "1s,2s"), "--trace-window 1s,2s: is a part of a timeline; expected --trace FILE"),
        (("--trace", "nowhere/t.json"), "--trace nowhere/t.json: there is no directory nowhere"),
    ):
        told = windtunnel("replay", scenario, "--out", "run", *options)
        assert told.returncode == 2
        assert message in told.stderr
        assert not (scenario.parent / "run").exists()
