"""What a machine needs for a cluster, looked at before anything is made, each with what to do where it lacks."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.programs import Programs, StageFailed

MIN_KIND = (0, 27)
MIN_MEMORY_BYTES = 4 * 2**30
MIN_DISK_BYTES = 8 * 2**30
MIN_INOTIFY = {"max_user_instances": 512, "max_user_watches": 65_536}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` says what to do; without it all is well."""

    what: str
    seen: str
    advice: str = ""
    is_fatal: bool = True
    """Whether a cluster cannot be made as long as this is so."""


def look(programs: Programs, api_port: int | None = None, proc: Path = Path("/proc")) -> Iterator[Finding]:
    """Look at everything, what is cheap and decides most first."""
    yield from _docker(programs)
    yield _kind(programs)
    yield _kubectl(programs)
    yield _memory(proc)
    yield _disk()
    yield from _inotify(proc)
    if api_port is not None:
        yield _port(api_port)


def _docker(programs: Programs) -> Iterator[Finding]:
    if shutil.which("docker") is None:
        yield Finding("Docker", "not installed", "install Docker (docs.docker.com/engine/install)")
        return
    answer = programs.ask("docker", "info", "--format", "{{.ServerVersion}} {{.CgroupVersion}}", seconds=30)
    if answer.code:
        yield Finding("Docker", answer.last_words, "start its daemon, or give yourself the right to use it")
        return
    version, _, cgroup = answer.out.strip().partition(" ")
    yield Finding("Docker", version)
    old = "Kubernetes ends its support of cgroup v1 with 1.38 at the earliest: boot with cgroup v2 in time"
    yield Finding("cgroup version", cgroup or "unknown", old if cgroup == "1" else "", is_fatal=False)


def _kind(programs: Programs) -> Finding:
    wanted = ".".join(map(str, MIN_KIND))
    try:
        said = programs.ask("kind", "version", seconds=20).out
    except StageFailed:
        return Finding("kind", "not installed", f"install kind {wanted} or newer (kind.sigs.k8s.io)")
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        return Finding("kind", said.strip() or "no version", f"install kind {wanted} or newer (kind.sigs.k8s.io)")
    is_old = (int(found[1]), int(found[2])) < MIN_KIND
    return Finding("kind", found[0], f"too old for current Kubernetes: install {wanted} or newer" if is_old else "")


def _kubectl(programs: Programs) -> Finding:
    try:
        said = programs.ask("kubectl", "version", "--client", seconds=20).out
    except StageFailed:
        return Finding("kubectl", "not installed", "install kubectl (kubernetes.io/docs/tasks/tools)")
    found = re.search(r"v\d+\.\d+\.\d+", said)
    return Finding("kubectl", found[0] if found else said.strip())


def _memory(proc: Path) -> Finding:
    found = re.search(r"MemAvailable:\s+(\d+) kB", _text(proc / "meminfo"))
    if found is None:
        return Finding("memory", "unknown", is_fatal=False)
    free = int(found[1]) * 1024
    advice = f"three nodes and the stack take some {MIN_MEMORY_BYTES / 2**30:.0f} GiB: end something, or --workers 1"
    return Finding("memory", f"{free / 2**30:.1f} GiB available", advice if free < MIN_MEMORY_BYTES else "")


def _disk() -> Finding:
    free = shutil.disk_usage("/var/lib/docker" if Path("/var/lib/docker").is_dir() else "/").free
    advice = f"images and nodes take some {MIN_DISK_BYTES / 2**30:.0f} GiB: `docker system prune` frees what is unused"
    return Finding("disk", f"{free / 2**30:.0f} GiB free", advice if free < MIN_DISK_BYTES else "")


def _inotify(proc: Path) -> Iterator[Finding]:
    for name, least in MIN_INOTIFY.items():
        text = _text(proc / "sys/fs/inotify" / name).strip()
        if text.isdigit() and int(text) < least:
            advice = f"pods fail with 'too many open files': sysctl -w fs.inotify.{name}={least}"
            yield Finding(f"inotify {name}", text, advice, is_fatal=False)


def _port(port: int) -> Finding:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return Finding(f"port {port}", "free")
    except OSError as error:
        return Finding(f"port {port}", str(error.strerror), "choose another --api-port, or leave it to kind")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
