"""The published table of payments is of these exploits, and a slice of it comes out again."""

import zlib

import opinions
import pytest
import table
from controls import controls
from programs import exploits

from rftlab.records import RunRecord, results_folder

RECORD = results_folder() / "redteam.json"
SLICE = 24


@pytest.fixture(scope="module")
def record():
    if not RECORD.is_file():
        pytest.skip("there is no record yet: python tests/redteam/table.py")
    return RunRecord.load(RECORD)


def everything():
    return {e.name: e for e in [*exploits(), *controls("honest"), *controls("wrong")]}


def test_the_table_has_every_program(record):
    assert {row["name"] for row in record.metrics} == set(everything())
    assert record.notes == table.summary(record.metrics)


def test_ours_pays_no_exploit_over_its_cap_and_every_control_exactly(record):
    for row in record.metrics:
        if row["family"] in ("honest", "wrong"):
            assert row["ours"] == row["cap"], row["name"]
        else:
            assert row["ours"] is not None and row["ours"] <= row["cap"], row["name"]


def test_the_naive_grader_is_robbed(record):
    """Two thirds of the exploits that it runs; otherwise they would be no exploits."""
    run = [row for row in record.metrics if row["naive"] is not None and row["family"] not in ("honest", "wrong")]
    assert sum(row["naive"] for row in run) > 0.66 * len(run) > 250


def test_second_opinions_come_out_again(record):
    programs = everything()
    for row in record.metrics:
        assert opinions.kernelbench(programs[row["name"]].completion) == row["kernelbench"], row["name"]


def test_kernelguard_comes_out_again(record):
    guard = pytest.importorskip("kernelguard")
    assert guard
    programs = everything()
    for row in record.metrics[::25]:
        assert opinions.kernelguard(programs[row["name"]].completion) == row["kernelguard"], row["name"]


def test_a_slice_comes_out_again(record):
    """Programs drawn by their names; those whose payment by the naive grader hangs on chance are left out."""
    by_name = {row["name"]: row for row in record.metrics}
    steady = [e for e in exploits() if e.family[0] not in "HE" and not e.name.startswith(("B1", "B8", "M3", "M8"))]
    chosen = sorted(steady, key=lambda e: zlib.crc32(e.name.encode()))[:SLICE]
    for row in table.rows(chosen):
        recorded = by_name[row["name"]]
        for column in ("cap", "naive", "ours", "stage", "ours_without_rules", "kernelbench"):
            assert row[column] == recorded[column], (row["name"], column)
