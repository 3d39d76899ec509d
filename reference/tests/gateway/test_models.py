"""Names of models: aliases stand for the first model that is there, and a full one is not away."""

from __future__ import annotations

import orjson
import pytest

from reference.gateway.authentication import Caller
from reference.gateway.models import bodies_for, is_away, models_of
from reference.wire.relay import Ending, Relayed

SERVED = [{"id": "large", "object": "model"}, {"id": "small", "object": "model"}]


def test_a_body_goes_on_as_it_came_unless_its_name_is_another() -> None:
    raw = b'{"model": "large",  "n": 1}'

    assert list(bodies_for({}, "large", orjson.loads(raw), raw)) == [raw]
    asked = list(bodies_for({"large": ("large", "small")}, "large", orjson.loads(raw), raw))
    assert asked[0] is raw
    assert orjson.loads(asked[1]) == {"model": "small", "n": 1}


@pytest.mark.parametrize(
    ("relayed", "away"),
    [
        (Relayed(Ending.ERROR_STATUS, 503), True),
        (Relayed(Ending.ERROR_STATUS, 502), True),
        (Relayed(Ending.ERROR_STATUS, 404, b'{"error":{"code":"model_not_found"}}'), True),
        (Relayed(Ending.ERROR_STATUS, 429), False),
        (Relayed(Ending.ERROR_STATUS, 400), False),
        (Relayed(Ending.COMPLETE, 200), False),
        (Relayed(Ending.BROKEN, 200), False),
    ],
)
def test_another_model_is_asked_only_while_nothing_has_been_answered(relayed: Relayed, away: bool) -> None:
    assert is_away(relayed) == away


def test_an_alias_is_a_model_as_long_as_one_that_it_stands_for_is_served() -> None:
    aliases = {"chat": ("gone", "small"), "old": ("gone",)}

    assert [entry["id"] for entry in models_of(Caller("red"), SERVED, aliases)] == ["large", "small", "chat"]
    assert [entry["id"] for entry in models_of(Caller("red", ("chat",)), SERVED, aliases)] == ["chat"]
