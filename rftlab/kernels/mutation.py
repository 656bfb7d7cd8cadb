"""How many broken kernels does a task notice? The mutation score of a task with a known kernel.

    score = killed / (killed + survived)

A mutant is killed when the grader pays less than 1.0. One that is paid in full is graded again on a *wide* version of the
task: other and larger sizes, several seeds, every layout, larger values. If it passes that too, nothing that the task
could ask for tells it from the original (a grid with one program too many, `other=` on lanes that never count), so it is
equivalent and leaves the score. If the wide version catches it, it has survived: the task's cases are too few.

    python -m rftlab.kernels.mutation [TASK ...]       # writes data/kernels/lint.json anew, in some minutes
"""

import ast
import json
import platform
import sys
from dataclasses import dataclass, replace
from itertools import product

from rftlab.kernels.mutants import Mutant, mutants
from rftlab.kernels.task_lint import lint
from rftlab.kernels.tasks import SPLITS, KernelTask, folder, load_kernel_tasks

FULL = 1.0
WIDE_SEEDS = (101, 102)
SIZES = ((1, 1), (2, 1), (1, 16))  # n -> factor * n + extra, for every size of a case at once
MAX_ELEMENTS = 4_000  # of a tensor; the interpreter takes its time


@dataclass(frozen=True)
class Mutation:
    """What became of a task's mutants; `survived` and `equivalent` name them in words."""

    task: str
    killed: int
    survived: list[str]
    equivalent: list[str]

    @property
    def score(self) -> float:
        """Killed among those that differ from the original; 1.0 when there are none."""
        differ = self.killed + len(self.survived)
        return self.killed / differ if differ else 1.0


def mutation(task: KernelTask, grader, seed: int = 0) -> Mutation:
    """Grade every mutant of `task.kernel`. `grader` is an open KernelGrader.

    Raises ValueError when the task has no kernel, or one that is not paid in full; RuntimeError when the grader fails.
    """
    if not task.kernel:
        raise ValueError(f"task {task.name!r} has no kernel to break; give it as kernel=...")
    wide = widened(task)
    own = [grade for one in (task, *wide) for grade in grader.grade([_fenced(task.kernel)], one, seed=seed)]
    if any(grade.score != FULL for grade in own):
        words = "; ".join(reason for grade in own for reason in grade.reasons)
        raise ValueError(f"the kernel of task {task.name!r} is not right on this task or its wide version: {words}")
    every = list(mutants(task.kernel))
    alive = _alive(every, [task], grader, (seed,))
    equal = _alive(alive, wide, grader, WIDE_SEEDS)
    survived = [mutant for mutant in alive if mutant not in equal]
    return Mutation(task.name, len(every) - len(alive), list(map(_words, survived)), list(map(_words, equal)))


def widened(task: KernelTask) -> list[KernelTask]:
    """The task with other sizes, in two versions: plain, and with large magnitudes in a layout that is not contiguous.

    Sizes that were equal within a case stay equal, so that a (17, 33) by (33, 21) product remains one. Leaves out what
    the reference does not take. Numbers keep their value.
    """
    found = []
    for factor, extra in SIZES:
        shapes = [_grown(case, factor, extra) for case in task.shapes]
        shapes = [case for case in shapes if all(_elements(shape) <= MAX_ELEMENTS for shape in case)]
        for hard in (False, True):
            scales = tuple((max(task.scales) if hard else 1.0) for _ in shapes)
            layout = tuple(range(len(shapes))) if hard and task.strided else ()
            try:
                found.append(replace(task, shapes=shapes, scales=scales, strided=layout))
            except ValueError:  # the reference is made for other sizes, or its answer overflows
                continue
    return found


def _alive(candidates: list[Mutant], tasks: list[KernelTask], grader, seeds: tuple[int, ...]) -> list[Mutant]:
    """The mutants that are paid in full for all tasks and seeds."""
    for task, seed in product(tasks, seeds):
        if candidates:
            grades = grader.grade([_fenced(mutant.code) for mutant in candidates], task, seed=seed)
            if any(grade.score is None for grade in grades):
                raise RuntimeError(f"the grader failed on a mutant of {task.name!r}; try again: {[g.reasons for g in grades if g.score is None][0]}")
            candidates = [mutant for mutant, grade in zip(candidates, grades) if grade.score == FULL]
    return candidates


def _grown(case: list, factor: int, extra: int) -> list:
    return [tuple(factor * size + extra for size in shape) if isinstance(shape, tuple) else shape for shape in case]


def _elements(shape) -> int:
    count = 1
    for size in shape if isinstance(shape, tuple) else ():
        count *= size
    return count


def _fenced(code: str) -> str:
    return f"```python\n{ast.unparse(ast.parse(code))}\n```\n"


def _words(mutant: Mutant) -> str:
    return f"line {mutant.line}: {mutant.change}"


def record(task: KernelTask, split: str, grader, seed: int = 0) -> dict:
    """What lint and mutation say about a task of the course, ready for JSON."""
    result = mutation(task, grader, seed)
    return {
        "split": split,
        "family": task.family,
        "findings": lint(task),
        "killed": result.killed,
        "survived": result.survived,
        "equivalent": result.equivalent,
        "score": round(result.score, 4),
    }


def main(names: list[str]) -> None:
    """Write the record of these tasks, or of all, into data/kernels/lint.json; the others keep theirs."""
    import torch
    import triton

    from rftlab.kernels.grader import KernelGrader

    path = folder() / "lint.json"
    every = {task.name: (task, split) for split in SPLITS for task in load_kernel_tasks(split)}
    if unknown := set(names) - set(every):
        raise SystemExit(f"no task {', '.join(sorted(unknown))}; the tasks are: {', '.join(every)}")
    kept = json.loads(path.read_text(encoding="utf-8"))["tasks"] if names and path.exists() else {}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "triton": triton.__version__}
    made = {"command": "python -m rftlab.kernels.mutation", "wide_seeds": WIDE_SEEDS, "versions": versions, "tasks": kept}
    with KernelGrader(workers=2) as grader:
        for name in names or every:
            kept[name] = one = record(*every[name], grader)
            print(f"{name:16} {one['score']:7.1%} of {one['killed'] + len(one['survived'])} mutants, {len(one['equivalent'])} equivalent", flush=True)
            made["tasks"] = {name: kept[name] for name in every if name in kept}
            path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
