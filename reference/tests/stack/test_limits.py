"""What a gateway allows whom: sizes, scopes, requests and tokens."""

from __future__ import annotations

from hashlib import sha256


async def test_a_large_body_is_413(build) -> None:
    chain = await build(gateway={"max_body_bytes": 2000})
    async with chain.ask(messages=[{"role": "user", "content": "x" * 3000}]) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "request_too_large"


async def test_a_key_with_scopes_opens_its_models_only(build) -> None:
    key = {"sha256": sha256(b"wt-red-secret").hexdigest(), "tenant": "red", "models": ["another"]}
    chain = await build(gateway={"keys": [key]})

    async with chain.ask() as answer:
        assert answer.status == 403
        assert (await answer.json())["error"]["code"] == "model_not_allowed"
    async with chain.client.get(f"{chain.gateway}/v1/models", headers=chain.headers()) as answer:
        assert (await answer.json())["data"] == []


async def test_a_tenant_over_its_limit_is_told_when_to_come_back(build) -> None:
    chain = await build(gateway={"limits": {"red": {"requests_per_second": 0.1, "request_burst": 2}}})

    left = []
    for _ in range(2):
        async with chain.ask() as answer:
            assert answer.status == 200
            left.append(answer.headers["x-ratelimit-remaining-requests"])
            assert answer.headers["x-ratelimit-limit-requests"] == "2"
    async with chain.ask() as answer:
        assert answer.status == 429
        assert (await answer.json())["error"]["type"] == "rate_limit_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert left == ["1", "0"]


async def test_tokens_are_reserved_and_what_was_not_used_is_given_back(build) -> None:
    chain = await build(gateway={"limits": {"red": {"tokens_per_second": 0.001, "token_burst": 600}}})

    async with chain.ask(
        max_tokens=500, ignore_eos=False, stream=True, stream_options={"include_usage": True}
    ) as answer:
        text = await answer.text()
    async with chain.ask(max_tokens=4) as answer:
        left = int(answer.headers["x-ratelimit-remaining-tokens"])

    used = int(text.rpartition('"total_tokens":')[2].partition(",")[0])
    reserved_for_the_second = 4 + 25 // 4 + 1
    assert used < 300
    assert left == 600 - used - reserved_for_the_second
