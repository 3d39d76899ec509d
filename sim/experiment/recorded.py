"""A workload from a recorded stream: a window of it, its coarse ticks spread, thinned, its rate scaled.

Knows nothing of formats (`traces`) and of what requests are for (`generate`).
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from sim.experiment.draft import Draft
from sim.experiment.scenario import KeyPath, LoadedScenario
from sim.experiment.schema import Trace
from sim.experiment.streams import stream
from sim.experiment.suggest import meant
from sim.experiment.traces import TraceRows, read_trace
from sim.experiment.units import written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HERE: KeyPath = ("workload", "trace")


def from_trace(loaded: LoadedScenario, trace: Trace, seed: int) -> Draft:
    """Read the trace of a scenario, and take from it what is to be flown; classes are not assigned yet.

    Raises:
        InputError: the file cannot be used, or the window lies outside it or is empty.
    """
    import numpy as np

    found = _read(loaded, trace)
    at = np.asarray(found.at, dtype=np.float64)
    length = float(ceil(at[-1] + 1e-9))
    if found.tick_seconds:
        length = float((np.rint(at[-1] / found.tick_seconds) + 1) * found.tick_seconds)
    draft = Draft(
        at,
        np.asarray(found.input_tokens, dtype=np.int64),
        np.asarray(found.output_tokens, dtype=np.int64),
        found.prompts,
        found.sessions,
        length,
        found.num_read,
        np.zeros(len(at), dtype=np.int64),
        found.dropped.copy(),
    )
    _spread(draft, found.tick_seconds, trace, seed)
    _take_window(draft, loaded, trace)
    _thin(draft, trace, seed)
    if trace.rate_scale != 1:
        draft.at, draft.duration = draft.at / trace.rate_scale, draft.duration / trace.rate_scale
        how = "compressed" if trace.rate_scale > 1 else "stretched"
        draft.notes.append(f"rate scaled by {trace.rate_scale:g}: time is {how}, the shape kept")
    return draft


def _read(loaded: LoadedScenario, trace: Trace) -> TraceRows:
    path = loaded.base_dir / trace.file
    if not path.is_file():
        others = sorted(other.name for other in path.parent.glob("*")) if path.parent.is_dir() else []
        raise loaded.error((*_HERE, "file"), f"there is no trace file {str(path)!r}{meant(path.name, others)}")
    return read_trace(path, trace.format)


def _spread(draft: Draft, tick: float, trace: Trace, seed: int) -> None:
    """Spread the requests of a tick evenly over it, in the order of the recording."""
    import numpy as np

    if not tick:
        return
    if trace.dequantise == "none":
        draft.notes.append(f"time stamps come in ticks of {tick:g} s and were left so: requests come in volleys")
        return
    ticks = np.rint(draft.at / tick)
    within = stream(seed, "dequantise").random(len(draft))
    # sorted within each tick: a later turn of a conversation stays behind the earlier one
    draft.at = (ticks + within[np.lexsort((within, ticks))]) * tick
    draft.notes.append(f"time stamps come in ticks of {tick:g} s; requests were spread evenly over theirs")


def _take_window(draft: Draft, loaded: LoadedScenario, trace: Trace) -> None:
    if trace.window is None:
        return
    start, end = trace.window
    if end > draft.duration:
        raise loaded.error(
            (*_HERE, "window"),
            f"the window ends at {written(end)}, the trace at {written(draft.duration)}; expected no later",
        )
    draft.keep((draft.at >= start) & (draft.at < end), "outside the window")
    if not len(draft):
        raise loaded.error((*_HERE, "window"), f"no request is between {written(start)} and {written(end)}")
    draft.at, draft.duration = draft.at - start, end - start


def _thin(draft: Draft, trace: Trace, seed: int) -> None:
    """Keep each request, or each session as a whole, with a probability."""
    if trace.thin == 1:
        return
    kept: NDArray[np.bool_] = stream(seed, "thin").random(len(draft)) < trace.thin
    fate: dict[str, bool] = {}
    for place, session in enumerate(draft.sessions):
        if session:
            kept[place] = fate.setdefault(session, bool(kept[place]))
    what = "session" if fate else "request"
    draft.keep(kept, "thinned")
    draft.notes.append(f"thinned: each {what} kept with probability {trace.thin:g}")
