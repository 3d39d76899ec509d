"""Keys and limits that change while the gateway runs, and how long a request may take."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from reference.gateway.policy_file import PolicyFile
from reference.gateway.settings import Policy
from reference.wire.settings import SettingsError


def key(secret: str, tenant: str = "red", **more: Any) -> dict[str, Any]:
    return {"sha256": sha256(secret.encode()).hexdigest(), "tenant": tenant, **more}


class Written:
    """A policy file in a test, looked at when the test says so."""

    def __init__(self, path: Path, **policy: Any) -> None:
        self.path = path
        self.write(**policy)

    def write(self, **policy: Any) -> None:
        self.path.write_text(json.dumps(policy))


async def status(chain, secret: str) -> int:
    async with chain.ask(headers={"authorization": f"Bearer {secret}"}, max_tokens=2) as answer:
        return answer.status


@pytest.fixture
async def chain_of(build, tmp_path: Path):
    async def make(**policy: Any):
        written = Written(tmp_path / "policy.json", **policy)
        chain = await build(gateway={"keys": [], "policy_file": str(written.path)})
        return chain, written, chain.serving_gateway.policy_file

    return make


async def test_keys_are_changed_without_a_gap(chain_of) -> None:
    chain, written, file = await chain_of(keys=[key("old")])
    assert [await status(chain, "old"), await status(chain, "new")] == [200, 401]

    written.write(keys=[key("old"), key("new")])
    file.look()
    assert [await status(chain, "old"), await status(chain, "new")] == [200, 200]

    written.write(keys=[key("new")])
    file.look()
    assert [await status(chain, "old"), await status(chain, "new")] == [401, 200]


async def test_a_file_that_cannot_be_used_is_kept_out_and_told_of_once(chain_of, capsys) -> None:
    chain, written, file = await chain_of(keys=[key("old")])
    for text in ("{", '{"keys": [{"sha256": "short", "tenant": "red"}]}', '{"kees": []}'):
        written.path.write_text(text)
        file.look()
        file.look()
        told = capsys.readouterr().err
        assert told.count("keys and limits stay as they were") == 1
        assert str(written.path) in told
        assert await status(chain, "old") == 200
    written.path.unlink()
    file.look()
    file.look()
    assert capsys.readouterr().err.count("stay as they were") == 1
    assert await status(chain, "old") == 200

    written.write(keys=[key("new")])
    file.look()
    assert await status(chain, "new") == 200


async def test_a_new_limit_counts_what_was_used_under_the_old_one(chain_of) -> None:
    slow = {"requests_per_second": 0.001, "request_burst": 5}
    chain, written, file = await chain_of(keys=[key("k")], limits={"red": slow})
    assert [await status(chain, "k") for _ in range(3)] == [200] * 3

    written.write(keys=[key("k")], limits={"red": {**slow, "request_burst": 3}})
    file.look()
    assert [await status(chain, "k") for _ in range(3)] == [200, 200, 429]


async def test_a_key_may_have_less_than_its_tenant(chain_of) -> None:
    of_key, of_tenant = ({"requests_per_second": 0.001, "request_burst": burst} for burst in (1, 3))
    keys = [key("small", limit=of_key), key("large")]
    chain, _, _ = await chain_of(keys=keys, limits={"red": of_tenant})

    assert [await status(chain, "small"), await status(chain, "small")] == [200, 429]
    assert [await status(chain, "large") for _ in range(3)] == [200, 200, 429], "what was refused took nothing"


def test_a_gateway_does_not_start_with_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text('{"limits": {"red": {"concurrency": "many"}}}')
    with pytest.raises(SettingsError, match=r"policy\.json: limits\.red\.concurrency: "):
        PolicyFile(path, lambda policy: None).read()
    path.write_text('{"limits": {"red": {"concurrency": 2}}}')
    assert PolicyFile(path, lambda policy: None).read() == Policy(limits={"red": {"concurrency": 2}})


async def test_an_answer_that_does_not_begin_in_time_is_504(build) -> None:
    chain = await build(gateway={"max_seconds": 0.15})
    await chain.fault(0, first_byte_delay_seconds=1.0)
    async with chain.ask() as answer:
        assert answer.status == 504
        assert (await answer.json())["error"]["code"] == "request_timeout"


async def test_a_stream_that_lasts_too_long_ends_with_an_error_and_frees_its_seat(build, until) -> None:
    chain = await build(gateway={"max_seconds": 0.3})
    async with chain.ask(max_tokens=3000, stream=True) as answer:
        text = await answer.text()

    assert answer.status == 200
    assert '"error"' in text
    assert "[DONE]" not in text
    assert '"finish_reason":"' not in text
    await until(lambda: chain.num_running == 0)


async def test_tokens_are_accounted_for_by_tenant_and_key(build) -> None:
    chain = await build()
    async with chain.ask() as answer:
        usage = (await answer.json())["usage"]
    async with chain.client.get(f"{chain.gateway}/metrics") as answer:
        text = await answer.text()

    name = sha256(b"wt-red-secret").hexdigest()[:12]
    labels = f'key="{name}",kind="output",tenant="red"'
    assert f"windtunnel_gateway_tokens_total{{{labels}}} {float(usage['completion_tokens'])}" in text
    assert "wt-red-secret" not in text
