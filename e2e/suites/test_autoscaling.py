"""The autoscalers have what they decide by, and act on it."""

import json
import time


def test_every_autoscaler_knows_the_load_of_its_pods(kubectl) -> None:
    deadline = time.monotonic() + 180
    while True:
        scalers = json.loads(kubectl("get", "hpa", "-o", "json"))["items"]
        blind = [one["metadata"]["name"] for one in scalers if not one["status"].get("currentMetrics")]
        if not blind:
            break
        assert time.monotonic() < deadline, f"no metrics after 180 s: {blind}"
        time.sleep(3)

    assert {one["metadata"]["name"] for one in scalers} >= {"llm-api", "router", "llm-web"}
