"""What an engine's metrics page tells a probe: whether others are served, and how many tokens of KV cache there are."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass
from typing import Final

from e2e.replay.address import address_of
from e2e.replay.preflight import tls_context
from e2e.rungs.endpoint_watch import PATHS, gauges_of

_CACHE: Final = re.compile(r"cache_config_info\{([^}]*)\}")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePage:
    """A look at the page."""

    in_flight: int
    """Running and waiting, whoever sent them."""
    kv_tokens: int | None
    """Of one engine; None where the page does not say."""
    num_engines: int


def look(url: str, *, verify_tls: bool = True) -> EnginePage | None:
    """Read the page; None where there is none, as behind a gateway."""
    base = address_of(url).url
    for path in PATHS:
        try:
            with urllib.request.urlopen(base + path, timeout=2, context=tls_context(verify_tls)) as answer:
                page = answer.read(1 << 20).decode("utf-8", "replace")
        except OSError:
            continue
        if gauges := gauges_of(page):
            capacities = [_tokens(found[1]) for found in _CACHE.finditer(page)]
            return EnginePage(
                in_flight=round(gauges.get("running", 0) + gauges.get("queue_depth", 0)),
                kv_tokens=next(iter(capacities), None),
                num_engines=max(1, len(capacities)),
            )
    return None


def _tokens(labels: str) -> int | None:
    """Give blocks times block size from the labels of vLLM's `cache_config_info`."""
    found = dict(_LABEL.findall(labels))
    blocks, size = found.get("num_gpu_blocks", ""), found.get("block_size", "")
    return int(blocks) * int(size) if blocks.isdecimal() and size.isdecimal() else None
