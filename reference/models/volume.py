"""The volume a model lands on: a lock, a staging directory with resumable parts, and one rename at the end.

Layout below the root: `NAME/` (complete, loadable), `.NAME.pull/` (parts), `.NAME.lock`. Refuses to know sources.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reference.models.failure import BadSettings, VolumeBusy, VolumeFull
from reference.models.source import RemoteFile

RECEIPT = ".windtunnel-pull.json"
"""Written into the model's directory before it is renamed into place: what was pulled, from where."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory that holds models by name. Safe for several pullers: the second waits and finds the work done."""

    root: Path
    name: str

    @property
    def model_directory(self) -> Path:
        """Where a worker loads the model from; exists only when complete."""
        return self.root / self.name

    @property
    def staging(self) -> Path:
        """Where parts wait; same file system, so the rename is atomic."""
        return self.root / f".{self.name}.pull"

    @contextmanager
    def locked(self, deadline_seconds: float, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the volume's lock; `waiting` is called once when another puller has it.

        Raises:
            VolumeBusy: it was not released within the deadline. BadSettings: the volume cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = open(self.root / f".{self.name}.lock", "w")  # noqa: SIM115 closed below, held meanwhile
        except OSError as error:
            raise BadSettings(f"{self.root}: cannot be written: {error.strerror}") from error
        with handle:
            give_up_at = time.monotonic() + deadline_seconds
            told = False
            while not _try_lock(handle.fileno()):
                if not told:
                    waiting()
                    told = True
                if time.monotonic() > give_up_at:
                    raise VolumeBusy(
                        f"{self.root}: another puller still works on {self.name!r} after {deadline_seconds:g} s"
                    )
                time.sleep(0.05)
            yield

    def receipt(self) -> dict[str, object] | None:
        """Return what a complete model was pulled from, or None when there is no complete model."""
        try:
            receipt: dict[str, object] = json.loads((self.model_directory / RECEIPT).read_text())
        except (OSError, ValueError):
            return None
        return receipt

    def require_space(self, needed_bytes: int) -> None:
        """Refuse before the first byte when the volume cannot take the rest of the model.

        Raises:
            VolumeFull: with both figures.
        """
        free = shutil.disk_usage(self.root).free
        if needed_bytes > free:
            raise VolumeFull(f"{self.root}: {needed_bytes:,} bytes are needed and {free:,} are free")

    def publish(self, receipt: dict[str, object]) -> None:
        """Make the staged model the model, in one rename; a model that was there before is replaced."""
        (self.staging / RECEIPT).write_text(json.dumps(receipt, indent=1, sort_keys=True))
        _sync(self.staging)
        retired = self.root / f".{self.name}.old"
        shutil.rmtree(retired, ignore_errors=True)
        if self.model_directory.exists():
            self.model_directory.rename(retired)
        self.staging.rename(self.model_directory)
        _sync(self.root)
        shutil.rmtree(retired, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Part:
    """One file under way. Bytes are appended; a sidecar names their content, so a later pull resumes."""

    path: Path
    file: RemoteFile

    @property
    def _sidecar(self) -> Path:
        return self.path.with_name(self.path.name + ".pull-tag")

    def resume_at(self) -> int:
        """Return the byte to go on from: 0 when what is there belongs to other content."""
        try:
            have, tag = self.path.stat().st_size, self._sidecar.read_text()
        except OSError:
            return 0
        return have if tag == self.file.tag and have <= self.file.size_bytes else 0

    def append(self, start: int, chunks: Iterator[bytes], arrived: Callable[[int], None]) -> None:
        """Write chunks from byte `start` on and call `arrived` with each one's length.

        Raises:
            VolumeFull: the volume ran full on the way.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._sidecar.write_text(self.file.tag)
            with open(self.path, "r+b" if start else "wb") as handle:
                handle.seek(start)
                handle.truncate()
                for chunk in chunks:
                    handle.write(chunk)
                    arrived(len(chunk))
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise VolumeFull(f"{self.path}: the volume ran full") from error
            raise

    def finish(self) -> None:
        """Forget the sidecar: the part is the file now."""
        self._sidecar.unlink(missing_ok=True)

    def discard(self) -> None:
        """Throw away bytes that turned out wrong, so that the next pull starts clean."""
        self.path.unlink(missing_ok=True)
        self._sidecar.unlink(missing_ok=True)

    def sha256(self) -> str:
        """Return the digest of what is on the volume, in hex."""
        with open(self.path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
