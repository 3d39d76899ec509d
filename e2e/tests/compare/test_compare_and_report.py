"""compare and report as a user types them: exit codes, what is said, what is written."""

from pathlib import Path

import pytest

from e2e.cli import run

YAML = """\
windtunnel: 1
name: small
workload:
  arrivals: {process: poisson, rate: 10/s}
  duration: 60s
  lengths: {input: 200, output: 50}
  classes: [{name: chat, slo: {ttft: 1s}}]
cluster:
  pools: [{model: m, step_cost: {base: 10ms, per_sequence: 1ms}, replicas: 4, num_gpu_blocks: 4000}]
"""


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(YAML)
    return tmp_path / "small.yaml"


@pytest.fixture
def flown(scenario: Path, tmp_path: Path) -> Path:
    assert run(["replay", str(scenario), "--out", str(tmp_path / "run"), "--no-open"]) == 0
    return tmp_path / "run"


def test_a_scenario_is_as_good_as_itself(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(scenario), str(scenario)]) == 0
    assert "nothing got significantly worse" in capsys.readouterr().out


def test_fewer_replicas_are_worse_and_the_table_says_what(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pages" / "fewer.html"

    code = run(["compare", str(scenario), "--set", "cluster.pools.0.replicas=2", "--out", str(out)])

    said = " ".join(capsys.readouterr().out.split())
    assert code == 1
    assert "got significantly worse" in said
    assert "TPOT p50" in said
    assert "paired by" in said
    assert "What got worse" in out.read_text()
    assert '"exit_code": 1' in out.with_suffix(".json").read_text()


def test_a_change_below_the_threshold_passes(scenario: Path) -> None:
    assert run(["compare", str(scenario), "--set", "cluster.pools.0.replicas=3", "--threshold", "90%"]) == 0


def test_a_run_and_a_scenario_compare(flown: Path, scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(flown), str(scenario)]) == 0
    assert "paired by" in capsys.readouterr().out


def test_another_workload_is_said_to_be_unpaired(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["compare", str(scenario), "--set", "seed=99"])

    assert "Not paired: the two runs flew different workloads" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["small.yaml"], "only one run or scenario"),
        (["small.yaml", "small.yaml", "--threshold", "much"], "--threshold much: expected a share such as 2%"),
        (["small.yaml", "none.yaml"], "none.yaml: there is no such scenario file"),
        (["small.yaml", "."], "is not a run directory"),
        (["run", "--set", "seed=2"], "run is a run, flown already"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    flown: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()

    assert run(["compare", *arguments]) == 2

    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_report_is_written_again_as_it_was(flown: Path) -> None:
    names = ("report.html", "summary.json", "summary.csv", "requests.csv", "junit.xml")
    before = {name: (flown / name).read_bytes() for name in names}
    for name in names:
        (flown / name).unlink()

    assert run(["report", str(flown)]) == 0

    assert {name: (flown / name).read_bytes() for name in names} == before


def test_a_report_refuses_what_is_no_run_and_a_run_of_its_own_rung(
    flown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(tmp_path / "nothing")]) == 2
    assert "no such run directory" in capsys.readouterr().err
    assert run(["report", str(flown), "--against", str(flown)]) == 2
    assert "expected another rung" in capsys.readouterr().err
