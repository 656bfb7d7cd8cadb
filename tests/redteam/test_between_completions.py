"""What a training loop could exploit: memory between completions, tasks and calls."""

import gc
import mmap
import os
import random

import pytest
from exploit_tasks import TASKS
from programs import CONTROL, WRONG_CONTROL, exploits
from watch import controls, zygotes

from rftlab.kernels import KernelGrader, KernelTask

BY_NAME = {exploit.name: exploit for exploit in exploits()}


@pytest.fixture(scope="module")
def grader():
    with KernelGrader(workers=1, seconds=1.0) as grader:
        yield grader


@pytest.fixture(scope="module")
def open_grader():
    with KernelGrader(workers=1, rules=False, seconds=1.0) as grader:
        yield grader


def plus(x, y):
    return x + y


def minus(x, y):
    return x - y


def test_a_right_answer_to_another_task_is_not_paid(grader):
    tasks = [TASKS["add"], KernelTask("minus", minus, [[(300,), (300,)]], entry="add")]
    assert [grade.score for grade in grader.grade([CONTROL, CONTROL], tasks, seed=5)] == [1.0, 0.6]
    assert [grade.score for grade in grader.grade([WRONG_CONTROL, WRONG_CONTROL], tasks, seed=5)] == [0.6, 1.0]


def test_a_task_that_is_gone_leaves_nothing_to_the_next(grader):
    """A memo keyed by the address of a task would pay one task with another's grades: CPython gives addresses out again."""
    for reference, score in [(plus, 1.0), (minus, 0.6)] * 8:
        task = KernelTask("one", reference, [[(50,), (50,)]], entry="add")
        assert grader.grade([CONTROL], task, seed=6)[0].score == score
        del task
        gc.collect()


def test_duplicates_and_the_order_of_a_group_change_nothing(grader):
    group = [CONTROL, WRONG_CONTROL, BY_NAME["A6_operator"].completion, BY_NAME["J12_store_zeros"].completion, "no code at all"]
    alone = [grader.grade([one], TASKS["add"], seed=7)[0] for one in group]
    order = [i for i in range(len(group)) for _ in range(4)]
    random.Random(0).shuffle(order)
    together = grader.grade([group[i] for i in order], TASKS["add"], seed=8)
    assert [(g.score, g.stage) for g in together] == [(alone[i].score, alone[i].stage) for i in order]


def test_nothing_stays_in_shared_memory(open_grader):
    """The first one parks a message behind the buffers; the second would loop for ever if it found it, and earn 0.5."""
    park = BY_NAME["G11_parked_answer"].completion
    first, second = (open_grader.grade([park], TASKS["add"], seed=seed)[0] for seed in (9, 10))
    assert first.score == second.score == 0.6


def test_a_child_cannot_make_the_grader_fat(open_grader):
    """It may write to every page of the shared buffer; afterwards those pages are given back."""
    def shared():
        return sum(int(line.split()[1]) for pid in [os.getpid(), *zygotes()] for line in open(f"/proc/{pid}/status") if line.startswith("RssShmem"))

    before = shared()
    open_grader.grade([BY_NAME["H5c_touches_all_shared_memory"].completion], TASKS["add"], seed=11)
    assert shared() - before < 32 * 1024  # kB
    assert mmap.PAGESIZE <= 65536


@pytest.mark.parametrize("name", ["G10_hostile_notes", "G10b_forged_notes", "G10c_fills_the_notes", "D7_status_in_shared_memory"])
def test_hostile_notes_neither_pay_nor_raise(open_grader, name):
    grades = open_grader.grade([BY_NAME[name].completion], TASKS["add"], seed=12)
    assert grades[0].score <= 0.6
    assert controls(open_grader, TASKS["add"], seed=13) == [1.0, 0.6]


def test_inputs_differ_between_seeds_and_between_graders():
    """A kernel with a table of answers can be right for one seed; the next seed and the next grader ask other questions."""
    with KernelGrader(workers=1) as one, KernelGrader(workers=1) as other:
        cases = [grader._test_cases(TASKS["add"], seed).cases[0].inputs[0] for grader in (one, other) for seed in (0, 1)]
    assert all(not (a == b).any() for i, a in enumerate(cases) for b in cases[i + 1 :])
