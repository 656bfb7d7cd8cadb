"""The mutation score: repeats the record for some tasks, and tells a task that looks closely from one that does not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("triton")

from rftlab.kernels import KernelGrader, load_kernel_tasks
from rftlab.kernels.mutation import mutation, widened

pytestmark = pytest.mark.slow
RECORD = Path(__file__).resolve().parents[1] / "data" / "kernels" / "lint.json"
TASKS = {task.name: task for split in ("train", "heldout") for task in load_kernel_tasks(split)}


@pytest.fixture(scope="module")
def grader():
    with KernelGrader(workers=2) as grader:
        yield grader


@pytest.mark.parametrize("name", ["relu", "row_max", "flip"])
def test_record_repeats(name, grader):
    recorded, again = json.loads(RECORD.read_text())["tasks"][name], mutation(TASKS[name], grader)
    assert (again.killed, again.survived, again.equivalent) == (recorded["killed"], recorded["survived"], recorded["equivalent"])
    assert again.score == pytest.approx(recorded["score"], abs=1e-4) and again.score >= 0.95


def test_a_careless_task_lets_mutants_live(grader):
    careless = replace(TASKS["relu"], shapes=[[(128,)]], scales=(1.0,), strided=())
    result = mutation(careless, grader)
    assert result.score < 0.9
    assert any("offsets < n -> offsets < n - 1" in words or "mask=mask" in words or "128" in words for words in result.survived), result.survived


def test_no_kernel_or_a_wrong_one_is_an_error(grader):
    with pytest.raises(ValueError, match="has no kernel to break"):
        mutation(replace(TASKS["relu"], kernel=""), grader)
    with pytest.raises(ValueError, match="is not right on this task"):
        mutation(replace(TASKS["relu"], kernel=TASKS["relu"].kernel.replace("maximum", "minimum")), grader)


def test_wide_tasks_keep_what_belongs_together():
    for task in widened(TASKS["matmul"]):
        for (m, k), (k2, n) in task.shapes:
            assert k == k2
    assert {scale for task in widened(TASKS["row_sum"]) for scale in task.scales} == {1.0, 100.0}
    assert any(task.strided for task in widened(TASKS["row_sum"])) and not any(task.strided for task in widened(TASKS["row_max"]))
