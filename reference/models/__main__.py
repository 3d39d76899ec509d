"""`python -m reference.models SOURCE --to DIRECTORY --name NAME`: the init container's command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from reference.models.failure import BadSettings, PullFailure
from reference.models.pull import pull
from reference.models.source import open_source
from reference.models.volume import Volume

SETTINGS = """settings, each also by environment:
  MODEL_SOURCE   s3://bucket/prefix, gs://bucket/prefix or file:///directory
  MODEL_DIR      the volume's directory (default /model)
  MODEL_NAME     the model's directory below it (default: the last part of the source)
  AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS

exit codes: 0 complete · 2 wrong setting · 3 nothing at the source · 4 forbidden · 5 source unreachable ·
  6 size or checksum mismatch · 7 volume full · 8 another puller holds the volume · 130/143 interrupted (resumes)"""


def main(arguments: list[str] | None = None) -> int:
    """Pull and say so, one line every few per cent; return the exit code."""
    parser = argparse.ArgumentParser(
        "model-puller",
        description="Bring a model from object storage to a volume, whole or not at all.",
        epilog=SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", nargs="?", default=os.environ.get("MODEL_SOURCE"))
    parser.add_argument("--to", default=os.environ.get("MODEL_DIR", "/model"), metavar="DIRECTORY")
    parser.add_argument("--name", default=os.environ.get("MODEL_NAME"))
    parser.add_argument("--parallel", type=int, default=4, help="files at a time (4)")
    parser.add_argument("--lock-seconds", type=float, default=3600.0, help="how long to wait for another puller (3600)")
    parser.add_argument("--timeout-seconds", type=float, default=30.0, help="for one answer of the store (30)")
    parser.add_argument(
        "--retry-seconds", type=float, default=60.0, help="how long a failing store is asked again (60)"
    )
    chosen = parser.parse_args(arguments)
    signal.signal(
        signal.SIGTERM, lambda *_: os._exit(143)
    )  # parts are resumable: leave at once, an init container has seconds
    try:
        if not chosen.source:
            raise BadSettings("no source: give it as an argument or as MODEL_SOURCE")
        name = chosen.name or chosen.source.rstrip("/").rpartition("/")[2]
        if not name or "/" in name or name.startswith("."):
            raise BadSettings(f"{name!r} is no name for a model's directory")
        source = open_source(
            chosen.source,
            timeout_seconds=chosen.timeout_seconds,
            retry_seconds=chosen.retry_seconds,
            environment=os.environ,
        )
        done = pull(
            source,
            Volume(Path(chosen.to), name),
            num_parallel=chosen.parallel,
            lock_seconds=chosen.lock_seconds,
            report=lambda have, total: print(f"{have:,} of {total:,} bytes", file=sys.stderr, flush=True),
            waiting=lambda: print("another puller works on this model; waiting", file=sys.stderr, flush=True),
        )
    except PullFailure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    state = "was complete" if done.was_complete else f"fetched {done.fetched_bytes:,} of {done.total_bytes:,} bytes"
    print(f"{name}: {done.num_files} files, {state}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
