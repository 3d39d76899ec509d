"""Why a pull failed, in terms that a pod can act on: every failure has its own exit code.

PullFailure
├── BadSettings        2  the URL or a setting is wrong: do not restart, fix it
├── SourceMissing      3  nothing at that URL
├── SourceForbidden    4  credentials refused
├── SourceUnreachable  5  the store does not answer or keeps failing: restart later
├── ContentMismatch    6  size or checksum differs from what the source promised
├── VolumeFull         7  not enough space, said before anything is downloaded
└── VolumeBusy         8  another puller holds the volume beyond the deadline
"""

from __future__ import annotations


class PullFailure(Exception):
    """A pull that did not happen. `exit_code` is what the process ends with."""

    exit_code = 1


class BadSettings(PullFailure):
    """The URL or a setting is wrong."""

    exit_code = 2


class SourceMissing(PullFailure):
    """There is nothing at that URL."""

    exit_code = 3


class SourceForbidden(PullFailure):
    """The store refused our credentials."""

    exit_code = 4


class SourceUnreachable(PullFailure):
    """The store did not answer, or failed for longer than we retry."""

    exit_code = 5


class ContentMismatch(PullFailure):
    """What came is not what the source promised."""

    exit_code = 6


class VolumeFull(PullFailure):
    """The volume has too little space for the model."""

    exit_code = 7


class VolumeBusy(PullFailure):
    """Another puller holds the volume."""

    exit_code = 8
