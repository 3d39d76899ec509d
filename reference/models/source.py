"""Where a model comes from: a prefix in an S3-compatible store or GCS, or a directory, behind one small interface.

Refuses to know where the bytes go. Credentials come from the environment, as the stores' own clients take them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reference.models.failure import BadSettings, PullFailure, SourceForbidden, SourceMissing, SourceUnreachable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHECKSUM_FILE = "SHA256SUMS"
"""Lines of `<hex digest>  <path>`, as sha256sum writes them; checked when the source has it."""

CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One object below the prefix. `path` is relative to the prefix; `tag` changes when the content does."""

    path: str
    size_bytes: int
    tag: str


class Source:
    """A prefix in an object store, listed once and read in pieces."""

    def __init__(self, url: str, store: ObjectStore) -> None:
        self.url = url
        self._store = store

    def __repr__(self) -> str:
        return f"<Source {self.url}>"

    def files(self) -> list[RemoteFile]:
        """List every object below the prefix, by path.

        Raises:
            SourceMissing: there is none. SourceForbidden, SourceUnreachable: the store said so.
        """
        import obstore

        with _told_as_failures(self.url):
            found = [
                RemoteFile(entry["path"], entry["size"], str(entry.get("e_tag") or entry["last_modified"].isoformat()))
                for page in obstore.list(self._store)
                for entry in page
                if not entry["path"].endswith("/")
            ]
        if not found:
            raise SourceMissing(f"{self.url}: there is no object below this prefix")
        return sorted(found, key=lambda file: file.path)

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """Read a file from byte `start` on, in chunks; a change of the object while it is read is an error."""
        import obstore

        with _told_as_failures(f"{self.url}/{file.path}"):
            while start < file.size_bytes:
                end = min(start + CHUNK_BYTES, file.size_bytes)
                chunk = bytes(obstore.get_range(self._store, file.path, start=start, end=end))
                if not chunk:
                    raise SourceUnreachable(f"{self.url}/{file.path}: ends at byte {start} of {file.size_bytes}")
                start += len(chunk)
                yield chunk

    def checksums(self, files: list[RemoteFile]) -> dict[str, str]:
        """Return sha256 by path, from the source's own SHA256SUMS; empty when it has none."""
        listed = {file.path: file for file in files}
        if CHECKSUM_FILE not in listed:
            return {}
        text = b"".join(self.read(listed[CHECKSUM_FILE], 0)).decode("utf-8", "replace")
        return parse_checksums(text, f"{self.url}/{CHECKSUM_FILE}")


def parse_checksums(text: str, where: str) -> dict[str, str]:
    """Read the lines of a SHA256SUMS file.

    Raises:
        BadSettings: a line is not a digest and a path.
    """
    digests = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        digest, _, path = line.partition(" ")
        if len(digest) != hashlib.sha256().digest_size * 2 or not path.strip():
            raise BadSettings(f"{where}:{number}: {line!r} is not `<sha256 in hex>  <path>`")
        digests[path.strip().lstrip("*").removeprefix("./")] = digest.lower()
    return digests


def open_source(
    url: str, *, timeout_seconds: float = 30.0, retry_seconds: float = 60.0, environment: Mapping[str, str]
) -> Source:
    """Open `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///directory`.

    An S3-compatible store other than AWS is named by AWS_ENDPOINT_URL in `environment`.

    Raises:
        BadSettings: another scheme, no bucket, or a relative path. SourceMissing: no such directory.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Source(url, _directory(url, parts.path))
    if parts.scheme not in ("s3", "gs") or not parts.netloc:
        raise BadSettings(
            f"{url!r} is no model source; write s3://bucket/prefix, gs://bucket/prefix or file:///directory"
        )
    from obstore.store import GCSStore, S3Store

    seconds = timedelta(seconds=timeout_seconds)
    client: Any = {"timeout": seconds, "connect_timeout": seconds, "allow_http": True}
    retry: Any = {"max_retries": 8, "retry_timeout": timedelta(seconds=retry_seconds)}
    prefix = parts.path.strip("/") or None
    if parts.scheme == "gs":
        return Source(url, GCSStore(parts.netloc, prefix=prefix, client_options=client, retry_config=retry))
    config = _s3_config(environment)
    return Source(url, S3Store(parts.netloc, prefix=prefix, config=config, client_options=client, retry_config=retry))


def _directory(url: str, path: str) -> ObjectStore:
    from obstore.store import LocalStore

    if not path.startswith("/") or not Path(path).is_dir():
        raise SourceMissing(f"{url}: there is no directory {path!r}")
    return LocalStore(prefix=path)


def _s3_config(environment: Mapping[str, str]) -> Any:
    """Name credentials outright: left to itself the client asks the cloud's metadata address."""
    config: dict[str, Any] = {
        "virtual_hosted_style_request": False,
        "region": environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1",
    }
    given = {
        "endpoint": environment.get("AWS_ENDPOINT_URL"),
        "access_key_id": environment.get("AWS_ACCESS_KEY_ID"),
        "secret_access_key": environment.get("AWS_SECRET_ACCESS_KEY"),
        "session_token": environment.get("AWS_SESSION_TOKEN"),
    }
    config.update({key: value for key, value in given.items() if value})
    if "access_key_id" not in config and "endpoint" in config:
        config["skip_signature"] = True
    return config


class _told_as_failures:
    """Turns the store's exceptions into ours, with the place where they arose."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from obstore import exceptions

        if error is None or isinstance(error, PullFailure):
            return
        reason = f"{self._where}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        match error:
            case exceptions.PermissionDeniedError() | exceptions.UnauthenticatedError() | PermissionError():
                raise SourceForbidden(reason) from error
            case exceptions.NotFoundError() | FileNotFoundError():
                raise SourceMissing(reason) from error
            case exceptions.BaseError() | OSError():
                # the client words a missing bucket and a refused signature as generic errors with the status inside
                if "403 Forbidden" in reason:
                    raise SourceForbidden(reason) from error
                if "404 Not Found" in reason:
                    raise SourceMissing(reason) from error
                raise SourceUnreachable(reason) from error
