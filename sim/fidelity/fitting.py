"""Fits a correction to each group of rows, by flying them: `windtunnel fidelity --refit`.

The errors are those of log TTFT and log TPOT, so 10 % too much and 10 % too little of anything weigh the same, and the
loss is robust: a row measured in saturation, where everything hangs on a KV capacity that nobody wrote down, must not
bend the others. Weak priors (scale 1, no overhead) decide what the rows of a group cannot tell apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.fidelity.carrying import all_carried
from sim.fidelity.correction import NAMES, Carried, Correction, Drive, Fit, Fits, Group
from sim.fidelity.harness import drives_of
from sim.fidelity.prediction import predict
from sim.fidelity.rows import Row

FILE: Final = "corrections.yaml"
KEYS: Final = ("engine", "gpu", "family", "harness")
MOST_ROWS: Final = 24
"""Of a group that are flown to fit it, spread evenly over its rows in order of load; more rows hardly change a fit."""
FEWEST_ROWS: Final = 10
"""A group with fewer tells too little about four numbers to be anybody's relative."""
MOST_IN_FLIGHT: Final = 128
"""Rows beyond it were measured under a limit of running sequences that is not in them."""
PRIOR_LOG_SCALE: Final = 1.0
PRIOR_OVERHEAD: Final = 0.002
PRIOR_REQUEST: Final = 0.03
START: Final = np.array([0.0, 0.0, 0.0005, 0.01])
LOWEST: Final = np.array([-1.5, -1.5, 0.0, 0.0])
HIGHEST: Final = np.array([1.5, 1.5, 0.05, 0.5])
SCALE: Final = np.array([0.3, 0.3, 0.002, 0.03])


def by_group(rows: Iterable[Row]) -> dict[Group, list[Row]]:
    """Sort rows into groups, the rows of each by load."""
    groups: dict[Group, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    for members in groups.values():
        members.sort(key=lambda row: (row.concurrency, row.input_tokens, row.output_tokens, row.layout, row.id))
    return dict(sorted(groups.items()))


def fit(rows: Sequence[Row], drive: Drive) -> Fit:
    """Fit one correction to rows of one group, driven so."""
    from scipy.optimize import least_squares

    few = [row for row in rows if row.concurrency <= MOST_IN_FLIGHT]
    chosen = [few[int(place)] for place in np.linspace(0, len(few) - 1, min(MOST_ROWS, len(few)))]

    def errors(at: np.ndarray) -> np.ndarray:
        correction = _correction(at)
        found: list[float] = []
        for row in chosen:
            predicted = predict(row, correction, drive)
            found += [np.log(predicted.ttft / row.ttft), np.log(predicted.tpot / row.tpot)]
        priors = [at[0] / PRIOR_LOG_SCALE, at[1] / PRIOR_LOG_SCALE, at[2] / PRIOR_OVERHEAD, at[3] / PRIOR_REQUEST]
        return np.array([*found, *(0.1 * prior for prior in priors)])

    solution = least_squares(
        errors,
        START,
        bounds=(LOWEST, HIGHEST),
        x_scale=SCALE,
        diff_step=1e-4,
        loss="soft_l1",
        f_scale=0.1,
        max_nfev=12,
    )
    return Fit(correction=_correction(solution.x), drive=drive, misfit=float(solution.cost) / len(chosen))


def fit_all(rows: Iterable[Row], told: Callable[[Group, Fit], None]) -> Fits:
    """Fit every group that has rows enough, under each drive of its harness; then choose what is carried."""
    found: dict[Group, tuple[Fit, ...]] = {}
    groups = by_group(rows)
    for group, members in groups.items():
        if len(members) < FEWEST_ROWS:
            continue
        fits = []
        for drive in drives_of(members[0].harness):
            fits.append(fit(members, drive))
            told(group, fits[-1])
        found[group] = tuple(fits)
    return Fits(found, all_carried(Fits(found), groups))


def write(found: Fits, path: Path) -> None:
    """Write corrections as YAML."""
    import yaml

    head = (
        "# What operator times leave out, fitted to the rows of each group (sim/fidelity/fitting.py). No group is\n"
        "# predicted with its own lines. Scales are ratios to the operator times, the others are seconds.\n"
        "# What a harness did that is not published is told by its relatives' smallest misfit. `carried`: which\n"
        "# scales a group takes that is predicted from other models (sim/fidelity/carrying.py).\n"
    )
    entries = [
        {
            **dict(zip(KEYS, group, strict=True)),
            "requests_per_client": fit.drive.requests_per_client,
            "budget": fit.drive.budget,
            **{name: float(f"{getattr(fit.correction, name):.4g}") for name in NAMES},
            "misfit": float(f"{fit.misfit:.4g}"),
        }
        for group, fits in found.by_group.items()
        for fit in fits
    ]
    carried = [{**dict(zip(KEYS, group, strict=True)), **choice._asdict()} for group, choice in found.carried.items()]
    text = yaml.dump({"corrections": entries, "carried": carried}, sort_keys=False, width=4000)
    path.write_text(head + text, encoding="utf-8")


@cache
def shipped() -> Fits:
    """Read the corrections that come with the package."""
    import yaml

    text = resources.files(__package__).joinpath(f"data/{FILE}").read_text(encoding="utf-8")
    told: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)
    found: dict[Group, tuple[Fit, ...]] = defaultdict(tuple)
    for entry in told["corrections"]:
        fit = Fit(
            correction=Correction(**{name: entry[name] for name in NAMES}),
            drive=Drive(entry["requests_per_client"], entry["budget"]),
            misfit=entry["misfit"],
        )
        found[_group(entry)] += (fit,)
    return Fits(dict(found), {_group(entry): Carried(entry["decode"], entry["prefill"]) for entry in told["carried"]})


def _group(entry: Mapping[str, str]) -> Group:
    return entry["engine"], entry["gpu"], entry["family"], entry["harness"]


def _correction(at: np.ndarray) -> Correction:
    return Correction(
        decode=float(np.exp(at[0])), prefill=float(np.exp(at[1])), overhead=float(at[2]), request_seconds=float(at[3])
    )
