"""The model puller against a real S3 server and a directory: no failure leaves a file that a worker would load."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from reference.models import failure
from reference.models.pull import pull
from reference.models.source import open_source, parse_checksums
from reference.models.volume import Volume

boto3 = pytest.importorskip("boto3", reason="moto's server brings boto3")
moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

FILES = {"config.json": b'{"model_type": "llama"}', "shards/model.safetensors": os.urandom(9_000_000), "empty.txt": b""}


class Throttle:
    """A TCP relay before the S3 server: at most so many bytes a second, and none once `num_bytes` have passed."""

    def __init__(self, upstream_port: int, bytes_per_second: float = 1e12, cut_after_bytes: float = 1e15) -> None:
        self.upstream_port, self.bytes_per_second, self.left = upstream_port, bytes_per_second, cut_after_bytes
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.upstream_port))
            threading.Thread(target=self._copy, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, True), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, throttled: bool) -> None:
        with source, target:
            while True:
                try:
                    chunk = source.recv(65536)
                    if throttled:
                        self.left -= len(chunk)
                        time.sleep(len(chunk) / self.bytes_per_second)
                    if not chunk or self.left < 0:
                        target.shutdown(socket.SHUT_RDWR)
                        return
                    target.sendall(chunk)
                except OSError:
                    return

    def close(self) -> None:
        self.listener.close()


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def bucket(s3_port: int) -> str:
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{s3_port}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    name = f"models-{time.monotonic_ns()}"
    client.create_bucket(Bucket=name)
    for path, content in FILES.items():
        client.put_object(Bucket=name, Key=f"tiny/{path}", Body=content)
    return name


def environment(port: int) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def s3(bucket: str, port: int, **options: float) -> object:
    return open_source(f"s3://{bucket}/tiny", environment=environment(port), **options)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for path, content in FILES.items():
        target = tmp_path / "source" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return tmp_path / "source"


def assert_complete(volume: Volume) -> None:
    for path, content in FILES.items():
        assert (volume.model_directory / path).read_bytes() == content
    assert not volume.staging.exists()


def test_a_model_arrives_whole_from_s3_and_a_second_pull_fetches_nothing(
    bucket: str, s3_port: int, tmp_path: Path
) -> None:
    volume = Volume(tmp_path / "model", "tiny")

    first = pull(s3(bucket, s3_port), volume)
    second = pull(s3(bucket, s3_port), volume)

    assert first.fetched_bytes == first.total_bytes == sum(map(len, FILES.values()))
    assert second.was_complete
    assert_complete(volume)


def test_a_model_arrives_whole_from_a_directory_with_its_checksums_checked(directory: Path, tmp_path: Path) -> None:
    lines = [f"{hashlib.sha256(content).hexdigest()}  {path}" for path, content in FILES.items()]
    (directory / "SHA256SUMS").write_text("\n".join(lines))
    volume = Volume(tmp_path / "model", "tiny")

    pull(open_source(f"file://{directory}", environment={}), volume)

    assert_complete(volume)


def test_a_connection_cut_on_the_way_leaves_nothing_to_load_and_the_next_pull_resumes(
    bucket: str, s3_port: int, tmp_path: Path
) -> None:
    throttle = Throttle(s3_port, cut_after_bytes=6_000_000)
    volume = Volume(tmp_path / "model", "tiny")

    with pytest.raises(failure.SourceUnreachable):
        pull(s3(bucket, throttle.port, timeout_seconds=2, retry_seconds=0.5), volume)
    throttle.close()
    assert not volume.model_directory.exists()

    resumed = pull(s3(bucket, s3_port), volume)
    assert 0 < resumed.fetched_bytes < resumed.total_bytes
    assert_complete(volume)


def test_a_slow_store_takes_longer_than_one_answer_may_and_the_model_arrives(
    bucket: str, s3_port: int, tmp_path: Path
) -> None:
    throttle = Throttle(s3_port, bytes_per_second=4_500_000)
    volume = Volume(tmp_path / "model", "tiny")
    began = time.monotonic()

    pull(s3(bucket, throttle.port, timeout_seconds=1.8, retry_seconds=0.5), volume)

    throttle.close()
    assert time.monotonic() - began > 1.8
    assert_complete(volume)


def test_a_store_that_no_longer_sends_is_given_up_and_leaves_nothing_to_load(
    bucket: str, s3_port: int, tmp_path: Path
) -> None:
    throttle = Throttle(s3_port, bytes_per_second=20_000)
    volume = Volume(tmp_path / "model", "tiny")
    began = time.monotonic()

    with pytest.raises(failure.SourceUnreachable):
        pull(s3(bucket, throttle.port, timeout_seconds=1, retry_seconds=0.5), volume)

    throttle.close()
    assert time.monotonic() - began < 15
    assert not volume.model_directory.exists()


def test_a_puller_killed_half_way_leaves_nothing_to_load_and_its_successor_resumes(
    bucket: str, s3_port: int, tmp_path: Path
) -> None:
    throttle = Throttle(s3_port, bytes_per_second=4_000_000)
    volume = Volume(tmp_path / "model", "tiny")
    command = [
        sys.executable,
        "-m",
        "reference.models",
        f"s3://{bucket}/tiny",
        "--to",
        str(volume.root),
        "--parallel",
        "1",
    ]
    process = subprocess.Popen(command, env={**os.environ, **environment(throttle.port)}, stderr=subprocess.DEVNULL)
    shard = volume.staging / "shards" / "model.safetensors"
    deadline = time.monotonic() + 30
    while not (shard.exists() and shard.stat().st_size > 0):
        assert time.monotonic() < deadline, "the puller wrote no part within 30 s"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    throttle.close()
    assert not volume.model_directory.exists()

    resumed = pull(s3(bucket, s3_port), volume)

    assert resumed.fetched_bytes < resumed.total_bytes
    assert_complete(volume)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: b"X" + content[1:]], ids=["truncated", "altered"]
)
def test_a_file_that_is_not_what_its_checksum_says_is_never_published(
    directory: Path, tmp_path: Path, damage: object
) -> None:
    shard = directory / "shards" / "model.safetensors"
    (directory / "SHA256SUMS").write_text(
        f"{hashlib.sha256(shard.read_bytes()).hexdigest()}  shards/model.safetensors\n"
    )
    shard.write_bytes(damage(shard.read_bytes()))
    volume = Volume(tmp_path / "model", "tiny")

    with pytest.raises(failure.ContentMismatch, match="sha256"):
        pull(open_source(f"file://{directory}", environment={}), volume)

    assert not volume.model_directory.exists()


def test_a_part_of_an_older_version_is_not_continued(directory: Path, tmp_path: Path) -> None:
    volume = Volume(tmp_path / "model", "tiny")
    stale = volume.staging / "config.json"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old half")
    stale.with_name("config.json.pull-tag").write_text("tag of another version")

    pull(open_source(f"file://{directory}", environment={}), volume)

    assert_complete(volume)


def test_a_model_stays_loadable_when_its_replacement_fails(directory: Path, tmp_path: Path) -> None:
    volume = Volume(tmp_path / "model", "tiny")
    pull(open_source(f"file://{directory}", environment={}), volume)
    (directory / "config.json").write_text("changed")
    (directory / "SHA256SUMS").write_text("0" * 64 + "  config.json\n")

    with pytest.raises(failure.ContentMismatch):
        pull(open_source(f"file://{directory}", environment={}), volume)

    assert (volume.model_directory / "config.json").read_bytes() == FILES["config.json"]


def test_two_pullers_on_one_volume_do_not_corrupt_it(bucket: str, s3_port: int, tmp_path: Path) -> None:
    volume = Volume(tmp_path / "model", "tiny")
    results = []
    threads = [threading.Thread(target=lambda: results.append(pull(s3(bucket, s3_port), volume))) for _ in range(2)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(result.was_complete for result in results) == [False, True]
    assert_complete(volume)


def test_a_volume_held_by_another_puller_is_given_up_after_the_deadline(directory: Path, tmp_path: Path) -> None:
    volume = Volume(tmp_path / "model", "tiny")
    waited = []

    with volume.locked(1, lambda: None), pytest.raises(failure.VolumeBusy):
        pull(
            open_source(f"file://{directory}", environment={}),
            volume,
            lock_seconds=0.2,
            waiting=lambda: waited.append(True),
        )

    assert waited == [True]


def test_a_model_larger_than_the_volume_is_refused_before_the_first_byte(directory: Path, tmp_path: Path) -> None:
    with open(directory / "huge.safetensors", "wb") as sparse:
        sparse.truncate(4 * 2**40)
    volume = Volume(tmp_path / "model", "tiny")

    with pytest.raises(failure.VolumeFull, match="bytes are needed and"):
        pull(open_source(f"file://{directory}", environment={}), volume)

    assert not volume.staging.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_volume_that_fills_up_on_the_way_is_told_as_such(directory: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    volume = Volume(small, "tiny")
    try:
        # the check before the first byte would refuse too: here the space vanishes after it
        unchecked = type("Unchecked", (Volume,), {"require_space": lambda self, needed: None})(small, "tiny")
        with pytest.raises(failure.VolumeFull):
            pull(open_source(f"file://{directory}", environment={}), unchecked)
        assert not volume.model_directory.exists()
    finally:
        subprocess.run(["umount", small], check=True)


def test_refused_credentials_are_forbidden_and_not_retried_for_ever(bucket: str, s3_port: int, tmp_path: Path) -> None:
    def require_credentials_after(num_calls: str) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{s3_port}/moto-api/reset-auth",
            data=num_calls.encode(),
            headers={"Content-Type": "text/plain"},
        )
        urllib.request.urlopen(request, timeout=10).close()

    require_credentials_after("0")
    try:
        with pytest.raises(failure.SourceForbidden):
            pull(s3(bucket, s3_port, retry_seconds=1), Volume(tmp_path / "model", "tiny"))
    finally:
        require_credentials_after("Infinity")


def test_a_missing_bucket_prefix_or_directory_is_missing(s3_port: int, bucket: str, tmp_path: Path) -> None:
    volume = Volume(tmp_path / "model", "tiny")
    for url in (f"s3://{bucket}/absent", "s3://no-such-bucket/tiny"):
        with pytest.raises(failure.SourceMissing):
            pull(open_source(url, environment=environment(s3_port)), volume)
    with pytest.raises(failure.SourceMissing):
        open_source("file:///no/such/directory", environment={})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ftp://host/model"], failure.BadSettings.exit_code),
        (["file:///no/such/directory"], failure.SourceMissing.exit_code),
        ([], failure.BadSettings.exit_code),
        (["s3://bucket/tiny", "--retry-seconds", "0.2"], failure.SourceUnreachable.exit_code),
    ],
    ids=["wrong scheme", "missing", "no source", "nobody listens"],
)
def test_each_kind_of_failure_has_its_exit_code_and_one_line(arguments: list[str], code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reference.models", *arguments, "--to", str(tmp_path / "model")]
    ended = subprocess.run(command, env={**os.environ, **environment(9)}, capture_output=True, text=True, timeout=60)

    assert ended.returncode == code
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.splitlines()) == 1


def test_an_object_name_that_would_leave_the_volume_is_refused() -> None:
    from reference.models.pull import _inside

    with pytest.raises(failure.BadSettings, match="would leave"):
        _inside("../../etc/passwd", "s3://bucket/tiny")


def test_a_checksum_file_that_is_none_is_told_with_its_line() -> None:
    with pytest.raises(failure.BadSettings, match="SUMS:2"):
        parse_checksums("0" * 64 + "  a\nnot a digest\n", "SUMS")
