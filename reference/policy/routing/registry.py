"""The built-in routing policies by name: what each knows, what it does, and its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from reference.policy.routing.affinity import SessionAffinity
from reference.policy.routing.load import LeastInFlight, LeastKvUsage, PowerOfTwo, RoundRobin
from reference.policy.routing.prefix import PrefixAware
from reference.policy.routing.protocol import RoutingPolicy
from reference.policy.routing.weighted import Weighted


class UnknownPolicy(ValueError):
    """No such policy, or no such option of it; the message names the nearest."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A policy as `windtunnel policies` shows it."""

    make: Callable[..., RoutingPolicy]
    knows: str
    does: str
    options: Mapping[str, str]


_GUARD = {
    "load_factor": "pass over endpoints above this multiple of the mean in flight …",
    "load_slack": "… plus this many",
}

ROUTING_POLICIES: Mapping[str, BuiltIn] = {
    "round_robin": BuiltIn(RoundRobin, "nothing", "each endpoint in turn", {}),
    "least_in_flight": BuiltIn(LeastInFlight, "in flight (fresh)", "the endpoint with the fewest in flight", {}),
    "power_of_two": BuiltIn(PowerOfTwo, "in flight (fresh) of two", "the less loaded of two drawn at random", {}),
    "least_kv_usage": BuiltIn(
        LeastKvUsage,
        "KV cache usage (stale), in flight (fresh)",
        "the lowest KV cache usage as last scraped, then the fewest in flight",
        {"step": "usages within this fraction count as equal (0.05)"},
    ),
    "prefix_aware": BuiltIn(
        PrefixAware,
        "where each prompt prefix was sent, in flight (fresh)",
        "the endpoint that probably holds most of the prompt, unless overloaded; else least in flight",
        {
            "max_blocks": "blocks remembered per endpoint (200000)",
            "stride": "remember every so many blocks (4)",
            **_GUARD,
            "min_match": "share of the prompt from which a match counts (0.1)",
        },
    ),
    "session_affinity": BuiltIn(
        SessionAffinity,
        "the session's name, in flight (fresh)",
        "the session's own endpoint by rendezvous hash, the next one when that is overloaded",
        _GUARD,
    ),
    "weighted": BuiltIn(
        Weighted,
        "prefixes, in flight (fresh), queue depth and KV cache usage (stale)",
        "the best weighted mean of scorers",
        {
            "prefix": "weight of the share of the prompt held (2)",
            "in_flight": "weight of few in flight (1)",
            "queue_depth": "weight of a short queue (1)",
            "kv_usage": "weight of low KV cache usage (1)",
        },
    ),
}


def build_routing(name: str, options: Mapping[str, Any] | None = None, *, explain: bool = False) -> RoutingPolicy:
    """Make a built-in policy; with `explain` its decisions carry scores.

    Raises:
        UnknownPolicy: no such name or option, or a value the policy refuses.
    """
    built_in = ROUTING_POLICIES.get(name)
    if built_in is None:
        raise UnknownPolicy(
            f"policy {name!r} is not known{nearest(name, ROUTING_POLICIES)}; "
            f"there are {', '.join(ROUTING_POLICIES)}, or file.py:Class for your own"
        )
    given = dict(options or {})
    for option in given:
        if option not in built_in.options:
            known = ", ".join(built_in.options) or "none"
            raise UnknownPolicy(f"{name} has no option {option!r}{nearest(option, built_in.options)}; it has: {known}")
    try:
        return built_in.make(**given, explain=explain)
    except (TypeError, ValueError) as error:
        raise UnknownPolicy(f"{name} cannot be made with {given}: {error}") from error


def nearest(word: str, known: Mapping[str, object]) -> str:
    """Return ` (did you mean …?)` when something known is near, else nothing."""
    close = get_close_matches(word, list(known), 1, 0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
