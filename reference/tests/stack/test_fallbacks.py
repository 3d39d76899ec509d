"""A model that is away: the next one of its alias answers, and nobody notices but by its name."""

from __future__ import annotations

from hashlib import sha256


async def test_an_alias_reaches_the_model_that_it_stands_for(build) -> None:
    chain = await build(gateway={"aliases": {"chat": ["nobody-serves-this", "tiny"]}})

    async with chain.ask(model="chat") as answer:
        assert answer.status == 200
        assert (await answer.json())["model"] == "tiny"
    async with chain.client.get(f"{chain.gateway}/v1/models/chat", headers=chain.headers()) as answer:
        assert (await answer.json())["id"] == "chat"


async def test_when_every_model_of_an_alias_is_away_the_last_answer_is_told(build) -> None:
    chain = await build(gateway={"aliases": {"chat": ["gone", "away"]}})

    async with chain.ask(model="chat") as answer:
        assert answer.status == 404
        assert "'away'" in (await answer.json())["error"]["message"]


async def test_a_scope_is_a_name_that_callers_use(build) -> None:
    key = {"sha256": sha256(b"wt-red-secret").hexdigest(), "tenant": "red", "models": ["chat"]}
    chain = await build(gateway={"keys": [key], "aliases": {"chat": ["tiny"]}})

    async with chain.ask(model="chat") as answer:
        assert answer.status == 200
    async with chain.ask(model="tiny") as answer:
        assert answer.status == 403
