"""The command line: wrong input is one message and exit code 2, interruption is one line, and --help loads little."""

import os
import signal
import subprocess
import sys
import time

import pytest

from e2e.cli import COMMANDS

HEAVY = ("numpy", "scipy", "pydantic", "pyarrow", "plotly", "simpy", "typer", "rich", "gevent", "locust", "ruamel")


def one_message(run) -> str:
    """Check that a run was refused as bad input is, and return what it said."""
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    return run.stderr


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from e2e.cli import run; code = run(['--help']);"
        f"print('LOADED', sorted({{name.partition('.')[0] for name in sys.modules}} & set({HEAVY!r})), code)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "LOADED [] 0" in told.stdout
    assert all(f"  {command}" in told.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", ["replay", "policies", "scenarios", "schema", "validate"])
def test_each_command_explains_itself(windtunnel, command):
    told = windtunnel(command, "--help")
    assert told.returncode == 0, told.stderr
    assert f"windtunnel {command}" in told.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replya"], "did you mean 'replay'?"),
        (["replay"], "scenario"),
        (["replay", "small.yaml", "--sed", "3"], "--seed"),
        (["replay", "small.yaml", "--on", "lokal"], "did you mean 'local'?"),
        (["replay", "small.yaml", "--seed", "x"], "--seed"),
        (["replay", "smal.yaml"], "did you mean 'small.yaml'?"),
        (["replay", "first_fligt"], "did you mean 'first_flight'?"),
        (["replay", "small.yaml", "--set", "cluster.pools.0.replicas=0"], "replicas"),
        (["replay", "small.yaml", "--set", "cluster.pool=1"], "did you mean 'pools'?"),
        (["replay", "small.yaml", "--out", "/proc/nowhere/run"], "/proc/nowhere"),
        (["replay", "small.yaml", "--on", "http://127.0.0.1:9"], "connection refused"),
        (["replay", "small.yaml", "--on", "http://"], "expected a URL"),
        (["policies", "--check", "nothing.py:Mine"], "nothing.py"),
    ],
)
def test_bad_input_is_one_message(windtunnel, scenario, arguments, said):
    assert said in one_message(windtunnel(*arguments))
    assert not (scenario.parent / "runs").exists() or not any((scenario.parent / "runs").iterdir())


def test_something_else_than_a_run_is_not_overwritten(windtunnel, scenario):
    precious = scenario.parent / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    assert "precious" in one_message(windtunnel("replay", scenario, "--out", precious))
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_told_before_flying(windtunnel, scenario):
    closed = scenario.parent / "closed"
    closed.mkdir(mode=0o500)
    assert "permission" in one_message(windtunnel("replay", scenario, "--out", closed / "run"))


def test_a_reader_that_leaves_is_no_error(windtunnel):
    process = subprocess.Popen(
        [sys.executable, "-m", "e2e.cli", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) != 0
    assert said == ""


def test_ctrl_c_is_one_line_and_leaves_nothing(scenario):
    arguments = ["replay", str(scenario), "--set", "workload.duration=5h", "--out", "interrupted"]
    process = subprocess.Popen(
        [sys.executable, "-m", "e2e.cli", *arguments],
        cwd=scenario.parent,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 130
    assert first.startswith("small on sim:")
    assert said.strip() == "interrupted; nothing half-written was left"
    assert [path.name for path in scenario.parent.iterdir()] == ["small.yaml"]


def test_policies_lists_the_built_in_ones(windtunnel):
    from reference.policy.routing.registry import ROUTING_POLICIES

    told = windtunnel("policies")
    assert told.returncode == 0
    assert all(name in told.stdout for name in ROUTING_POLICIES)


def test_a_policy_of_ones_own_is_checked(windtunnel, tmp_path):
    (tmp_path / "mine.py").write_text("import random\n\nclass Mine:\n    pass\n")
    assert "imports random" in one_message(windtunnel("policies", "--check", "mine.py:Mine"))


def test_the_version_is_the_distributions(windtunnel):
    from importlib.metadata import version

    assert windtunnel("--version").stdout.strip() == f"windtunnel {version('windtunnel')}"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["scenarios"]])
def test_a_reader_that_goes_early_is_no_error(tmp_path, arguments):
    command = [sys.executable, "-m", "e2e.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdout.close()
        complained = process.stderr.read().decode()
        code = process.wait(30)
    assert complained == ""
    assert code in (0, 1, 141)
