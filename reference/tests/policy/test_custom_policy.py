"""A user's own policy: loaded alike by simulator and router, and refused with a lesson when it breaks the contract."""

from pathlib import Path

import pytest

from reference.custom_policy import PolicyError, load_policy_class, routing_for

GOOD = """
from reference.policy.view import Decision

class Mine:
    def __init__(self, factor=1):
        self.factor = factor
    def route(self, request, endpoints, now, chance):
        return Decision(endpoints[-1].name, "the last")
"""

ROUTE = "def route(self, request, endpoints, now, chance):"
CASES = {
    "import": ("import time\n" + GOOD, "policies.py:1: imports time; a policy knows no clock"),
    "from import": ("from random import random\n" + GOOD, "imports random"),
    "file access": (GOOD + "\nopen('x')", r"calls open\(\)"),
    "hash": (GOOD.replace("endpoints[-1]", "endpoints[hash(request.tenant) % 1]"), r"policies.py:8: calls hash\(\)"),
    "null byte": (GOOD + "\0", "this is not Python"),
    "making": (GOOD.replace("self.factor = factor", "self.factor = {}['x']"), "cannot be made with options .*KeyError"),
    "syntax": ("class Mine(:", "policies.py:1: this is not Python"),
    "no class": (GOOD.replace("Mine", "Nine"), "defines no class 'Mine' .did you mean 'Nine'"),
    "no route": (GOOD.replace("def route", "def rout"), "has no method `route`; expected route"),
    "parameters": (GOOD.replace("now, chance", "when"), r"takes \(self, request, endpoints, when\); expected"),
    "async": (GOOD.replace("def route", "async def route"), "is async"),
    "no decision": (GOOD.replace('Decision(endpoints[-1].name, "the last")', "endpoints[0]"), "expected a Decision"),
    "stranger": (GOOD.replace("endpoints[-1].name", "'nobody'"), "chose 'nobody'; expected one of"),
    "mutation": (GOOD.replace(ROUTE, ROUTE + "\n        endpoints[0].in_flight += 1"), "changes the endpoints"),
    "raises": (GOOD.replace(ROUTE, ROUTE + "\n        1 / 0"), "raised ZeroDivisionError"),
    "indeterminate": (
        GOOD.replace("class Mine:", "COUNT = [0]\nclass Mine:").replace(
            "return Decision(endpoints[-1].name",
            "COUNT[0] += 1\n        return Decision(endpoints[COUNT[0] % len(endpoints)].name",
        ),
        "for the same question",
    ),
}


@pytest.mark.parametrize(("source", "lesson"), CASES.values(), ids=CASES)
def test_a_broken_policy_is_refused_with_what_was_expected(tmp_path: Path, source: str, lesson: str) -> None:
    (tmp_path / "policies.py").write_text(source)

    with pytest.raises(PolicyError, match=lesson):
        load_policy_class("policies.py:Mine", tmp_path)


def test_a_good_policy_is_made_with_its_options(tmp_path: Path) -> None:
    (tmp_path / "policies.py").write_text(GOOD)

    assert routing_for("policies.py:Mine", {"factor": 3}, tmp_path).factor == 3
    with pytest.raises(PolicyError, match="cannot be made with options"):
        routing_for("policies.py:Mine", {"faktor": 3}, tmp_path)


def test_a_policy_is_asked_for_decisions_as_its_options_make_it(tmp_path: Path) -> None:
    (tmp_path / "policies.py").write_text(
        GOOD.replace("factor=1", "factor").replace("endpoints[-1]", "endpoints[self.factor]")
    )

    assert load_policy_class("policies.py:Mine", tmp_path).__name__ == "Mine"
    assert routing_for("policies.py:Mine", {"factor": -1}, tmp_path).factor == -1
    with pytest.raises(PolicyError, match="route raised IndexError"):
        routing_for("policies.py:Mine", {"factor": 4}, tmp_path)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "policies.py").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(PolicyError, match="byte 0 is not UTF-8"):
        load_policy_class("policies.py:Mine", tmp_path)


def test_a_missing_file_or_class_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        routing_for("absent.py:Mine", {}, tmp_path)
    with pytest.raises(PolicyError, match="names no class"):
        routing_for("policies.py", {}, tmp_path)
