"""Who is told what the router decided: whoever asks for it, and everybody where the settings say so."""

from __future__ import annotations


async def test_a_decision_is_told_to_who_asks(build, capfdbinary) -> None:
    chain = await build(router={"decision_header": "on_request"})
    url = f"{chain.router}/v1/chat/completions"

    async with chain.client.post(url, json=chain.body()) as answer:
        assert answer.status == 200
        assert "x-windtunnel-decision" not in answer.headers
    async with chain.client.post(url, json=chain.body(), headers={"x-windtunnel-debug": "decision"}) as answer:
        told = answer.headers["x-windtunnel-decision"]

    assert told.startswith("endpoint=vllm-0; attempt=1; reason=")
    assert "scores=vllm-0:" in told
    assert capfdbinary.readouterr().err.count(b'"kind":"dispatch"') == 1


async def test_every_answer_tells_it_where_the_settings_say_so(build) -> None:
    chain = await build(router={"decision_header": "always"})

    async with chain.client.post(f"{chain.router}/v1/chat/completions", json=chain.body()) as answer:
        assert answer.headers["x-windtunnel-decision"].startswith("endpoint=vllm-0;")


async def test_a_client_of_the_gateway_may_ask_too(build) -> None:
    chain = await build(router={"decision_header": "on_request"})

    async with chain.ask() as answer:
        assert "x-windtunnel-decision" not in answer.headers
    async with chain.ask(headers={"x_windtunnel_debug": "decision"}) as answer:
        assert answer.headers["x-windtunnel-decision"].startswith("endpoint=vllm-0;")
