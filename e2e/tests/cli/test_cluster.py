"""`windtunnel cluster` on a machine that cannot hold one: which stage, why, and what to do; never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without docker, kind and kubectl, and without clusters."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_up_without_docker_names_the_stage_and_what_to_install(windtunnel) -> None:
    done = windtunnel("cluster", "up")

    assert done.returncode == 1
    assert "[1/6] preflight" in done.stderr
    assert "error: stage preflight, after 0 s: Docker: not installed: install Docker" in done.stderr
    assert "kind: not installed: install kind 0.27 or newer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_flight_on_kind_without_docker_is_not_run_and_says_why(windtunnel, scenario, tmp_path: Path) -> None:
    done = windtunnel("replay", scenario, "--on", "kind")

    assert done.returncode == 2
    assert "error: --on kind: stage preflight, after 0 s: Docker: not installed: install Docker" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_a_cluster_that_is_to_be_reused_must_be_there(windtunnel, scenario) -> None:
    done = windtunnel("replay", scenario, "--on", "kind", "--reuse", "--cluster", "elsewhere")

    assert done.returncode == 2
    assert "--reuse: there is no cluster elsewhere" in done.stderr


@pytest.mark.parametrize("command", ["status", "logs"])
def test_what_is_not_up_is_said(windtunnel, tmp_path: Path, command: str) -> None:
    done = windtunnel("cluster", command)

    assert "Traceback" not in done.stderr
    if command == "status":
        assert done.returncode == 1
        assert "kubectl is not installed" in done.stderr
    else:
        # what cannot be had is in the bundle as the reason why
        assert done.returncode == 0
        assert (tmp_path / "cluster-logs.tar.gz").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--name", "Not A Name"], "--name Not A Name: expected lower-case letters"),
        (["up", "--kubeconfig", "nowhere"], "--kubeconfig nowhere: there is no such file"),
        (["up", "--components", "nowhere.yaml"], "nowhere.yaml"),
        (["logs", "--out", "no/such/bundle.tar.gz"], "there is no directory no/such"),
        (["up", "--workers", "0"], "--workers"),
    ],
)
def test_bad_input_is_one_message_and_2(windtunnel, arguments: list[str], said: str) -> None:
    done = windtunnel("cluster", *arguments)

    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
