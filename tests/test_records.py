"""Run records: written whole or not at all, and read back as they were."""
import json

import pytest

from rftlab import records
from rftlab.records import RunRecord


def make(**changes):
    return RunRecord(**{"experiment": "e", "arm": "rft", "task": "arithmetic", "model": "tiny", "size": 10, "seed": 0,
                        "config": {"lr": 0.1}, **changes})


def test_round_trip(tmp_path):
    record = make(metrics=[{"step": 1, "reward": 0.5}], final={"accuracy": {"mean": 1.0, "low": 0.5, "high": 1.0, "n": 4}})
    path = record.save(tmp_path / "a" / "r.json")
    assert RunRecord.load(path) == record
    assert {"experiment", "arm", "task", "model", "size", "seed", "config", "versions", "device", "commit", "started",
            "seconds", "metrics", "final"} <= set(json.loads(path.read_text()))
    assert [p.name for p in path.parent.iterdir()] == ["r.json"]


def test_a_failed_write_keeps_the_old_record(tmp_path):
    path = make(seconds=1.0).save(tmp_path / "r.json")
    with pytest.raises(ValueError):
        make(seconds=float("nan")).save(path)
    assert RunRecord.load(path).seconds == 1.0


def test_bad_files(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "r.json").write_text('{"half": ')
    with pytest.raises(ValueError, match="is not a run record"):
        records.load_all("x", tmp_path)
    with pytest.raises(FileNotFoundError, match="no records in"):
        records.load_all("none", tmp_path)


def test_curve_leaves_out_what_was_not_measured():
    record = make(metrics=[{"step": 1, "kl": None}, {"step": 2, "kl": 0.5}, {"step": 3}])
    assert record.curve("kl") == ([2], [0.5])


def test_new_says_what_made_it():
    record = records.new("e", "rft", "arithmetic", "tiny", 1, 0, {})
    assert record.versions["torch"] and record.versions["python"] and record.device and record.started
