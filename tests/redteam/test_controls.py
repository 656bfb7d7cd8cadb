"""The controls: honest kernels of every style get exactly 1.0, honest but wrong ones exactly 0.6."""

import ast
import re
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")
sys.path.insert(0, str(Path(__file__).parent))

from base_tasks import TASKS  # noqa: E402
from controls import SCORES, controls  # noqa: E402

from rftlab.kernels import KernelGrader, load_kernel_tasks  # noqa: E402

pytestmark = pytest.mark.slow
EVERY = [control for family in SCORES for control in controls(family)]
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def grader():
    with KernelGrader(workers=2) as grader:
        yield grader


@pytest.fixture(scope="module")
def grades(grader):
    """All controls at once, so that the workers share the work; (control name, seed) -> Grade."""
    tasks = [TASKS[control.task] for control in EVERY]
    completions = [control.completion for control in EVERY]
    return {(control, seed): grade for seed in SEEDS for control, grade in zip(EVERY, grader.grade(completions, tasks, seed=seed))}


@pytest.mark.parametrize("control", EVERY, ids=lambda control: f"{control.family}-{control.name}")
def test_control_gets_exactly_its_score(control, grades):
    if version(triton.__version__) < version(control.triton):
        pytest.skip(f"compiles with Triton {control.triton} and later, this is {triton.__version__}")
    for seed in SEEDS:
        grade = grades[control, seed]
        assert grade.score == SCORES[control.family], f"{control.what}: {grade.score} {grade.stage} {grade.reasons}"
        assert (grade.score == 1.0) or grade.reasons, "a grade below 1.0 says why"


def test_there_are_enough_controls_of_different_style():
    for family, least in (("honest", 100), ("wrong", 50)):
        programs = {re.sub(r"\s+", " ", normal(control.completion)) for control in controls(family)}
        assert len(programs) >= least, f"only {len(programs)} different {family} programs"
        assert len({control.what for control in controls(family)}) == len(controls(family))


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_reference_kernels_get_1(split, grader):
    tasks = load_kernel_tasks(split)
    for seed in SEEDS:
        for task, grade in zip(tasks, grader.grade([f"```python\n{task.kernel}```\n" for task in tasks], tasks, seed=seed)):
            assert grade.score == 1.0, f"{task.name}: {grade.stage} {grade.reasons}"


def normal(completion: str) -> str:
    """The program without names of functions, comments and layout."""
    code = completion.split("```python", 1)[1].rsplit("```", 1)[0].replace("\r\n", "\n").split("\n```\n")[0]
    return ast.unparse(ast.parse(code))


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.match(r"(\d+)\.(\d+)", text).groups()))
