"""Recordings of engines in the formats that people have, a reader a file; each says where its format is written down.

Belongs here: reading text that some tool wrote into what a calibration takes (`sim.fidelity.observed`). Nothing here
asks a server. Start at `read`, which tells formats by their content.
"""

from sim.fidelity.recordings.detect import FORMATS, read

__all__ = ["FORMATS", "read"]
