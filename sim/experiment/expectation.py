"""The language of `expect`: `<class or all>.<measure> <comparison> <number or duration>`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from sim.experiment.suggest import meant
from sim.experiment.units import per_second, seconds

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
PLAIN_MEASURES = ("slo_attainment", "error_rate", "refused_rate", "goodput", "throughput", "output_tokens_per_second")
SHARES = ("slo_attainment", "error_rate", "refused_rate")
LATENCY_MEASURES = ("ttft", "tpot", "itl", "e2e")

_SENTENCE = re.compile(r"\s*([\w-]+)\.(\w+)\s*(>=|<=|>|<)\s*(\S+)\s*")
_PERCENTILE = re.compile(r"(ttft|tpot|itl|e2e)_p(?!0+(?:\.0+)?$)(\d{1,2}(?:\.\d+)?)")


class NotAnExpectation(ValueError):
    """The text says nothing that a run could be held to; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One sentence that a run makes true or false. Latencies in seconds, rates per second, shares 0 to 1."""

    text: str
    subject: str
    """A traffic class, or `all`."""
    measure: str
    comparison: str
    threshold: float

    def holds(self, value: float | None) -> bool:
        """Say whether a value satisfies it; one that could not be measured does not."""
        return value is not None and COMPARISONS[self.comparison](value, self.threshold)

    @property
    def percentile(self) -> tuple[str, float] | None:
        """Return (latency, percentile) of a latency measure, None of a plain one."""
        match = _PERCENTILE.fullmatch(self.measure)
        return (match[1], float(match[2])) if match else None


def parse(text: str) -> Expectation:
    """Read one expectation.

    Raises:
        NotAnExpectation: with the nearest measure.
    """
    match = _SENTENCE.fullmatch(text)
    if match is None:
        raise NotAnExpectation("expected a sentence such as `chat.slo_attainment >= 0.95` or `all.ttft_p95 <= 800ms`")
    subject, measure, comparison, value = match.groups()
    latency = _PERCENTILE.fullmatch(measure)
    if latency is None and measure not in PLAIN_MEASURES:
        known = [*PLAIN_MEASURES, *(f"{name}_p{p}" for name in LATENCY_MEASURES for p in (50, 90, 95, 99))]
        raise NotAnExpectation(
            f"there is no measure {measure!r}{meant(measure, known, 0.4)}; "
            f"there are {', '.join(PLAIN_MEASURES)}, and ttft_p95, tpot_p50 and the like"
        )
    return Expectation(text.strip(), subject, measure, comparison, _threshold(value, measure, is_latency=bool(latency)))


def _threshold(value: str, measure: str, *, is_latency: bool) -> float:
    wanted = "a duration such as 800ms" if is_latency else "a number such as 0.95, or a rate such as 4/s"
    try:
        threshold = seconds(value) if is_latency else per_second(value) if "/" in value else float(value)
    except ValueError as error:
        raise NotAnExpectation(f"{measure} is compared with {value!r}; expected {wanted}") from error
    if not isfinite(threshold) or threshold < 0:
        raise NotAnExpectation(f"{measure} is compared with {value!r}; expected {wanted}")
    if measure in SHARES and threshold > 1:
        raise NotAnExpectation(f"{measure} is a share and is compared with {value}; expected 0 to 1, such as 0.95")
    return threshold
