"""The whole stack on real models: gateway and router before vLLM and two encoders, started by `windtunnel serve`."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from sim.hardware.profile import read_profile

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

SENTENCES = ["the air flows", "over a wing and lifts it while gusts turn", "calm", "drag " * 120]
CHAT = {"model": "tiny-llama", "messages": [{"role": "user", "content": "the air flows over the wing"}]}


def ask(client: aiohttp.ClientSession, served: Any, path: str, body: dict[str, Any]) -> Any:
    return client.post(served.gateway + path, json=body, headers=served.headers)


async def page_of(client: aiohttp.ClientSession, url: str) -> str:
    async with client.get(f"{url}/metrics") as answer:
        return await answer.text()


def value(page: str, name: str, **labels: str) -> float:
    """Sum the series of a metric that have the labels."""
    found = [
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if re.match(rf"{re.escape(name)}[{{ ]", line) and all(f'{key}="{text}"' in line for key, text in labels.items())
    ]
    assert found, f"no {name} with {labels}"
    return sum(found)


async def events(answer: aiohttp.ClientResponse) -> list[tuple[float, str]]:
    """Read a stream; each event's data with the time it came."""
    lines = answer.content
    return [(time.monotonic(), line[6:].decode().strip()) async for line in lines if line.startswith(b"data: ")]


async def test_a_chat_answer_streams_token_by_token(served: Any) -> None:
    # so many that a machine with other work, too, cannot hold all of them up until the last has come
    body = {**CHAT, "stream": True, "max_tokens": 96, "ignore_eos": True, "stream_options": {"include_usage": True}}
    async with aiohttp.ClientSession() as client, ask(client, served, "/v1/chat/completions", body) as answer:
        assert answer.status == 200, await answer.text()
        came = await events(answer)

    assert came[-1][1] == "[DONE]"
    parsed = [json.loads(text) for _, text in came[:-1]]
    assert parsed[-1]["usage"]["completion_tokens"] == 96
    assert [part["choices"][0]["finish_reason"] for part in parsed if part["choices"]][-1] == "length"
    instants = [at for at, _ in came]
    assert len({round(at, 3) for at in instants}) > 8, "the answer came in lumps"


async def test_embeddings_through_the_stack_equal_transformers_own(served: Any, minilm: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm, local_files_only=True)
    model = AutoModel.from_pretrained(minilm, local_files_only=True, use_safetensors=True).eval()
    with torch.inference_mode():
        hidden = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in SENTENCES]
    direct = np.stack([torch.nn.functional.normalize(rows.mean(dim=0), dim=0).numpy() for rows in hidden])

    async with (
        aiohttp.ClientSession() as client,
        ask(client, served, "/v1/embeddings", {"model": "minilm", "input": SENTENCES}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        told = await answer.json()

    found = np.array([entry["embedding"] for entry in told["data"]])
    assert np.abs(found - direct).max() < 1e-5
    assert told["usage"]["prompt_tokens"] == sum(len(tokenizer(text).input_ids) for text in SENTENCES)


async def test_labels_come_with_their_scores(served: Any) -> None:
    async with (
        aiohttp.ClientSession() as client,
        ask(client, served, "/v1/classify", {"model": "tiny-classifier", "input": SENTENCES}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        told = await answer.json()

    assert len(told["data"]) == len(SENTENCES)
    for entry in told["data"]:
        assert {score["label"] for score in entry["scores"]} == {"lift", "drag"}
        assert sum(entry["probs"]) == pytest.approx(1.0, abs=1e-5)


async def test_stopping_a_stream_frees_the_engines_seat(served: Any) -> None:
    worker = served.workers["chat-0"]
    async with aiohttp.ClientSession() as client:
        body = {**CHAT, "stream": True, "max_tokens": 1900, "ignore_eos": True}
        async with ask(client, served, "/v1/chat/completions", body) as answer:
            await answer.content.readline()
            assert value(await page_of(client, worker), "vllm:num_requests_running") == 1
            answer.close()
        left_at = time.monotonic()
        while value(await page_of(client, worker), "vllm:num_requests_running"):
            assert time.monotonic() - left_at < 3.0, "the engine goes on for a client that has left"
            await asyncio.sleep(0.01)

        assert value(await page_of(client, worker), "windtunnel_worker_requests_total", status="499") >= 1


async def test_the_engines_refusals_are_openais_errors(served: Any) -> None:
    async with (
        aiohttp.ClientSession() as client,
        ask(client, served, "/v1/chat/completions", {**CHAT, "max_tokens": 20_000}) as answer,
    ):
        error = (await answer.json())["error"]

    assert answer.status == 400
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["code"] is None or isinstance(error["code"], str)


async def test_the_router_sees_the_engines_signals(served: Any) -> None:
    async with aiohttp.ClientSession() as client:
        body = {**CHAT, "stream": True, "max_tokens": 1900, "ignore_eos": True}
        async with ask(client, served, "/v1/chat/completions", body) as answer:
            await answer.content.readline()
            deadline = time.monotonic() + 10
            while True:
                page = await page_of(client, served.router)
                running = value(page, "windtunnel_router_observed", endpoint="chat-0", signal="running")
                usage = value(page, "windtunnel_router_observed", endpoint="chat-0", signal="kv_usage")
                if running == 1 and usage > 0:
                    break
                assert time.monotonic() < deadline, f"running {running}, KV usage {usage}"
                await asyncio.sleep(0.2)
            answer.close()


async def test_readiness_took_a_first_token_and_its_time_is_told(served: Any, record_property: Any) -> None:
    async with aiohttp.ClientSession() as client:
        page = await page_of(client, served.workers["chat-0"])
    took = value(page, "windtunnel_worker_engine_start_seconds")

    record_property("vllm_seconds_to_first_token", took)
    print(f"vLLM: {took:.1f} s to its first token")
    assert took > 1.0
    # the first request was the supervisor's own
    assert value(page, "vllm:generation_tokens_total") >= 1
    assert value(page, "windtunnel_worker_engine_state", state="ready") == 1


def test_a_scenario_replayed_on_it_by_url_is_a_valid_run(served: Any, tmp_path: Path) -> None:
    scenario = str(Path(__file__).with_name("tiny_chat.yaml"))
    command = [sys.executable, "-m", "e2e.cli", "replay", scenario, "--on", served.gateway, "--api-key", served.key]
    command += ["--out", str(tmp_path / "run"), "--no-open"]

    flown = subprocess.run(command, capture_output=True, text=True, timeout=400)

    assert flown.returncode == 0, flown.stdout + flown.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    print(flown.stdout)
    assert summary["validity"]["is_valid"], summary["validity"]


FLIGHT = """\
windtunnel: 1
name: by-profile
workload: {arrivals: {process: poisson, rate: 1/s}, duration: 20s, lengths: {input: 60, output: 12}}
cluster: {pools: [{model: tiny-llama, replicas: 1, max_model_len: 2048, profile: engine.yaml}]}
"""


def test_calibrate_finds_a_cost_that_predicts_what_it_did_not_fit_and_that_flies(served: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "e2e.cli"]
    probe = ["calibrate", served.workers["chat-0"], "--longest", "1024", "--max-streams", "4", "--max-requests", "90"]

    told = subprocess.run(
        [*command, *probe, "--out", "engine.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=400
    )

    print(told.stdout)
    assert told.returncode == 0, told.stdout + told.stderr
    profile = read_profile(tmp_path / "engine.yaml")
    # steps of a toy model take milliseconds on cores that others use, too: of the right size is what can be asked
    assert profile.residuals["tpot_held_out"] < 0.6
    assert profile.kv_tokens is not None
    assert profile.kv_tokens >= 2048
    (tmp_path / "flight.yaml").write_text(FLIGHT)
    flown = subprocess.run(
        [*command, "replay", "flight.yaml", "--out", "run", "--no-open"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert flown.returncode == 0, flown.stdout + flown.stderr
