"""A run directory is written whole or not at all, the same for the same record, and read back as it was."""

from dataclasses import asdict
from math import nan
from pathlib import Path
from types import SimpleNamespace

import pytest

from sim.experiment import store
from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord
from sim.experiment.samples import Samples


@pytest.fixture
def record(made: SimpleNamespace) -> RunRecord:
    return made.record(
        [*made.random_rows(20, 1), made.lost("refused")],
        samples=Samples([(0.0, "replica/vllm-0", "running", 1.0), (1.0, "router", "queue", 0.0)]),
        gaps=[(0.02, 1.0, 5.0)],
        decisions=[
            (0.1, 0, 1, "vllm-0", "least in flight", (("vllm-0", 1.0), ("vllm-1", 0.5))),
            (0.2, 1, 1, "", "full", ()),
        ],
        events=[{"at": 1.0, "kind": "stall", "target": "vllm-0", "lasts": None, "about": ""}],
        left_out=["no GPU here"],
        facts={"rows_read": 21, "dropped": {}, "cost_per_hour": None},
        diagnostics={"wall_seconds": 0.1},
    )


def test_a_run_is_read_back_as_it_was_written(record: RunRecord, tmp_path: Path) -> None:
    store.write(record, tmp_path / "run")

    before, after = asdict(record), asdict(store.read(tmp_path / "run"))
    # repr, because NaN is unequal to itself
    assert repr(after.pop("requests")) == repr(before.pop("requests"))
    assert after == before


def test_the_same_record_gives_the_same_bytes(record: RunRecord, tmp_path: Path) -> None:
    """I6."""
    store.write(record, tmp_path / "a")
    record.diagnostics["wall_seconds"] = 99.0
    store.write(record, tmp_path / "b")

    for name in (store.RUN_FILE, *store.TABLE_FILES):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert (tmp_path / "a" / store.DIAGNOSTICS_FILE).read_bytes() != (
        tmp_path / "b" / store.DIAGNOSTICS_FILE
    ).read_bytes()


def test_what_did_not_happen_is_null_in_the_file(record: RunRecord, tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    store.write(record, tmp_path / "run")

    first_token = parquet.read_table(tmp_path / "run" / "requests.parquet").column("first_token")
    assert first_token.null_count == 1


def test_a_number_that_json_has_not_is_null_in_it(record: RunRecord, tmp_path: Path) -> None:
    record.facts["ratio"] = nan

    store.write(record, tmp_path / "run")

    assert store.read(tmp_path / "run").facts["ratio"] is None


def test_an_earlier_run_is_replaced_whole(record: RunRecord, tmp_path: Path) -> None:
    store.write(record, tmp_path / "run")
    (tmp_path / "run" / "report.html").write_text("old")

    store.write(record, tmp_path / "run")

    assert not (tmp_path / "run" / "report.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_when_writing_fails_nothing_is_left_and_the_earlier_run_stays(record: RunRecord, tmp_path: Path) -> None:
    store.write(record, tmp_path / "run")
    before = (tmp_path / "run" / store.RUN_FILE).read_bytes()

    def fill_the_disk() -> None:
        with store.whole_directory(tmp_path / "run") as staging:
            (staging / store.RUN_FILE).write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        fill_the_disk()

    assert (tmp_path / "run" / store.RUN_FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_something_else_in_the_place_of_a_run_is_refused_and_kept(record: RunRecord, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")

    with pytest.raises(InputError, match="is not a run"):
        store.write(record, tmp_path)

    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_a_directory_under_a_file_cannot_be_written(record: RunRecord, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match=r"file.run: the run cannot be written"):
        store.write(record, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "run.json").unlink(), "is not a run directory"),
        (lambda run: (run / "run.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "run.json").write_text("[]"), "expected a JSON object"),
        (lambda run: (run / "run.json").write_text('{"windtunnel_run": 9}'), "run format 9; expected 1"),
        (lambda run: (run / "run.json").write_text('{"windtunnel_run": 1}'), "'scenario_name' is missing"),
        (lambda run: (run / "requests.parquet").unlink(), "requests.parquet: cannot be read"),
        (lambda run: (run / "samples.parquet").write_bytes(b"PAR1"), "samples.parquet: cannot be read"),
    ],
)
def test_a_damaged_run_is_named_with_its_damage(record: RunRecord, tmp_path: Path, damage, said: str) -> None:
    store.write(record, tmp_path / "run")
    damage(tmp_path / "run")

    with pytest.raises(InputError, match=said):
        store.read(tmp_path / "run")


def test_a_run_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run directory"):
        store.read(tmp_path / "none")
