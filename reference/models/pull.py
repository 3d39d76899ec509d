"""Pull one model: list, check space, download in parallel and resumed, verify, rename into place."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from threading import Lock

from reference.models.failure import BadSettings, ContentMismatch
from reference.models.source import RemoteFile, Source
from reference.models.volume import Part, Volume


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did. `fetched_bytes` is less than `total_bytes` when it resumed or found the model complete."""

    num_files: int
    total_bytes: int
    fetched_bytes: int
    was_complete: bool = False


class Progress:
    """Counts bytes from several threads and reports each time another hundredth has arrived."""

    def __init__(self, total_bytes: int, report: Callable[[int, int], None]) -> None:
        self._total, self._report = total_bytes, report
        self._have, self._said, self._lock = 0, -1, Lock()

    def arrived(self, num_bytes: int) -> None:
        """Count bytes that are on the volume."""
        with self._lock:
            self._have += num_bytes
            percent = 100 * self._have // max(1, self._total)
            if percent > self._said:
                self._said = percent
                self._report(self._have, self._total)


def pull(
    source: Source,
    volume: Volume,
    *,
    num_parallel: int = 4,
    lock_seconds: float = 3600.0,
    report: Callable[[int, int], None] = lambda have, total: None,
    waiting: Callable[[], None] = lambda: None,
) -> Pulled:
    """Bring the source's files to the volume; afterwards `volume.model_directory` is complete.

    A model that is there with the same files and tags is left alone. `report(have, total)` gets bytes.

    Raises:
        PullFailure: one of its kinds; the model directory is then as it was before.
    """
    with volume.locked(lock_seconds, waiting):
        files = source.files()
        receipt: dict[str, object] = {
            "source": source.url,
            "files": {file.path: [file.size_bytes, file.tag] for file in files},
        }
        total = sum(file.size_bytes for file in files)
        if volume.receipt() == receipt:
            return Pulled(len(files), total, 0, was_complete=True)
        parts = [Part(volume.staging / _inside(file.path, source.url), file) for file in files]
        _drop_strangers(volume, parts)
        missing = sum(part.file.size_bytes - part.resume_at() for part in parts)
        volume.require_space(missing)
        digests = source.checksums(files)
        progress = Progress(total, report)
        with ThreadPoolExecutor(num_parallel, thread_name_prefix="pull") as threads:
            for done in [threads.submit(_fetch, source, part, digests.get(part.file.path), progress) for part in parts]:
                done.result()
        for part in parts:
            part.finish()
        volume.publish(receipt)
        return Pulled(len(files), total, missing)


def _fetch(source: Source, part: Part, digest: str | None, progress: Progress) -> None:
    start = part.resume_at()
    progress.arrived(start)
    if start < part.file.size_bytes or not part.path.exists():
        part.append(start, source.read(part.file, start), progress.arrived)
    have = part.path.stat().st_size
    if have != part.file.size_bytes:
        part.discard()
        raise ContentMismatch(f"{part.file.path}: {have:,} bytes came, the source promised {part.file.size_bytes:,}")
    if digest is not None and (actual := part.sha256()) != digest:
        part.discard()
        raise ContentMismatch(f"{part.file.path}: sha256 is {actual}, the source promised {digest}")


def _inside(path: str, url: str) -> PurePosixPath:
    """Refuse object names that would leave the volume."""
    inside = PurePosixPath(path)
    if inside.is_absolute() or ".." in inside.parts:
        raise BadSettings(f"{url}: the object name {path!r} would leave the model's directory")
    return inside


def _drop_strangers(volume: Volume, parts: list[Part]) -> None:
    """Remove staged files that the source no longer has: they would be published with the rest."""
    expected = {part.path for part in parts} | {part.path.with_name(part.path.name + ".pull-tag") for part in parts}
    for path in volume.staging.rglob("*"):
        if path.is_file() and path not in expected:
            path.unlink()


__all__ = ["Progress", "Pulled", "RemoteFile", "pull"]
