"""Each thing that a machine may lack is told in words that say what to do, before anything is made."""

from __future__ import annotations

import socket
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.cluster.preflight import Finding, look
from e2e.cluster.programs import Programs

Install = Callable[..., None]
GOOD_MEMORY = "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n"
DOCKER = 'echo "28.1.0 2"'
KIND = 'echo "kind v0.33.0 go1.26 linux/amd64"'
KUBECTL = 'echo "Client Version: v1.36.3"'


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make the PATH hold these programs and nothing else; each is given as what its shell runs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(**programs: str) -> None:
        for name, runs in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{runs}\n")
            (folder / name).chmod(0o755)

    return install


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of a machine that lacks nothing."""
    inotify = tmp_path / "proc/sys/fs/inotify"
    inotify.mkdir(parents=True)
    (inotify / "max_user_instances").write_text("8192\n")
    (inotify / "max_user_watches").write_text("524288\n")
    (tmp_path / "proc/meminfo").write_text(GOOD_MEMORY)
    return tmp_path / "proc"


def found(proc: Path, api_port: int | None = None) -> dict[str, Finding]:
    return {finding.what: finding for finding in look(Programs(), api_port, proc)}


def test_a_machine_that_has_everything_gets_no_advice(install: Install, proc: Path) -> None:
    install(docker=DOCKER, kind=KIND, kubectl=KUBECTL)

    looked = found(proc)

    assert {name: one.advice for name, one in looked.items() if one.advice and name != "disk"} == {}
    assert looked["Docker"].seen == "28.1.0"
    assert looked["kind"].seen == "v0.33.0"
    assert looked["kubectl"].seen == "v1.36.3"
    assert looked["memory"].seen == "11.4 GiB available"


def test_without_docker_it_says_where_to_get_it(install: Install, proc: Path) -> None:
    install(kind=KIND, kubectl=KUBECTL)

    docker = found(proc)["Docker"]

    assert docker.is_fatal
    assert (docker.seen, docker.advice) == ("not installed", "install Docker (docs.docker.com/engine/install)")


def test_a_daemon_that_does_not_answer_is_told_in_dockers_own_words(install: Install, proc: Path) -> None:
    install(docker='echo "Cannot connect to the Docker daemon at unix:///x" >&2; exit 1', kind=KIND, kubectl=KUBECTL)

    docker = found(proc)["Docker"]

    assert "Cannot connect" in docker.seen
    assert "start its daemon" in docker.advice


def test_the_old_cgroup_version_is_advice_and_no_obstacle(install: Install, proc: Path) -> None:
    install(docker='echo "20.10.24 1"', kind=KIND, kubectl=KUBECTL)

    cgroup = found(proc)["cgroup version"]

    assert not cgroup.is_fatal
    assert "1.38" in cgroup.advice


@pytest.mark.parametrize(("version", "is_old"), [("v0.26.0", True), ("v0.27.0", False), ("v1.0.0", False)])
def test_an_old_kind_is_told(install: Install, proc: Path, version: str, is_old: bool) -> None:
    install(docker=DOCKER, kind=f'echo "kind {version} go1.24"', kubectl=KUBECTL)

    kind = found(proc)["kind"]

    assert kind.seen == version
    assert bool(kind.advice) is is_old
    assert kind.is_fatal


def test_programs_that_are_not_there_are_told(install: Install, proc: Path) -> None:
    install(docker=DOCKER)

    looked = found(proc)

    assert looked["kind"].advice == "install kind 0.27 or newer (kind.sigs.k8s.io)"
    assert looked["kubectl"].advice == "install kubectl (kubernetes.io/docs/tasks/tools)"


def test_too_little_memory_says_how_much_is_needed(install: Install, proc: Path) -> None:
    install(docker=DOCKER, kind=KIND, kubectl=KUBECTL)
    (proc / "meminfo").write_text("MemAvailable: 2097152 kB\n")

    memory = found(proc)["memory"]

    assert memory.seen == "2.0 GiB available"
    assert "some 4 GiB" in memory.advice
    assert memory.is_fatal


def test_too_small_a_disk_says_how_much_is_needed(
    install: Install, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(docker=DOCKER, kind=KIND, kubectl=KUBECTL)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**10, 9 * 10**9, 10**9))

    disk = found(proc)["disk"]

    assert disk.seen == "1 GiB free"
    assert "some 8 GiB" in disk.advice


def test_low_inotify_limits_name_the_setting(install: Install, proc: Path) -> None:
    install(docker=DOCKER, kind=KIND, kubectl=KUBECTL)
    (proc / "sys/fs/inotify/max_user_instances").write_text("128\n")

    inotify = found(proc)["inotify max_user_instances"]

    assert "sysctl -w fs.inotify.max_user_instances=512" in inotify.advice
    assert not inotify.is_fatal


def test_a_port_that_is_taken_is_told(install: Install, proc: Path) -> None:
    install(docker=DOCKER, kind=KIND, kubectl=KUBECTL)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert "--api-port" in found(proc, port)[f"port {port}"].advice


def test_a_program_that_hangs_is_given_up(install: Install) -> None:
    from e2e.cluster.programs import StageFailed

    install(docker="while :; do :; done")
    with pytest.raises(StageFailed, match=r"`docker info` has not ended after 1 s"):
        Programs().ask("docker", "info", seconds=1)
