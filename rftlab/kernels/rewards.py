"""Reward functions for kernels, in TRL's signature, over one grader.

    reward = kernel_reward(grader, tasks)                            # the ladder, or with KernelGrader(partial=True) its bands
    parts = format_reward(grader, tasks), compile_reward(grader, tasks), correctness_reward(grader, tasks)    # to be summed

The three parts are what the deck's source did: separate functions of 0 to 1, summed by the trainer (or by `rewards.combine`),
correctness being the share of test cases that match. All four ask the same grader about the same completions; what was graded
once is remembered, so four cost no more than one. Each reads the column `task`, N names of tasks.

A completion that cheats earns its format and nothing else. One that could not be graded earns None, which TRL ignores.
"""

from collections.abc import Callable, Iterable, Mapping

from rftlab.kernels.grader import Grade, KernelGrader
from rftlab.kernels.tasks import KernelTask
from rftlab.rewards import RewardFn, contents

Tasks = Mapping[str, KernelTask] | Iterable[KernelTask]


def kernel_reward(grader: KernelGrader, tasks: Tasks) -> RewardFn:
    """Pay `Grade.score`. `tasks`: those that the column `task` names, by name or as a list."""
    return _function("kernel_reward", grader, tasks, lambda grade: grade.score)


def format_reward(grader: KernelGrader, tasks: Tasks) -> RewardFn:
    """Pay 1.0 for a single block with the right function and a Triton kernel, otherwise 0.0."""
    return _function("format_reward", grader, tasks, lambda grade: float(grade.stage != "format"))


def compile_reward(grader: KernelGrader, tasks: Tasks) -> RewardFn:
    """Pay 1.0 when all kernels that were launched compile and no rule is broken, otherwise 0.0."""
    return _function("compile_reward", grader, tasks, lambda grade: float(grade.stage in ("run", "wrong", "correct")))


def correctness_reward(grader: KernelGrader, tasks: Tasks) -> RewardFn:
    """Pay the share of test cases that match; 0.0 where the sanitizer found a fault."""
    return _function("correctness_reward", grader, tasks, lambda grade: grade.matched if grade.stage in ("run", "wrong", "correct") else 0.0)


def _function(name: str, grader: KernelGrader, tasks: Tasks, pay: Callable[[Grade], float | None]) -> RewardFn:
    known = dict(tasks) if isinstance(tasks, Mapping) else {task.name: task for task in tasks}

    def reward(prompts, completions, *, task=None, **columns) -> list[float | None]:
        texts = contents(prompts, completions)
        if task is None or len(task) != len(texts) or not set(task) <= known.keys():
            raise ValueError(
                f'{name} reads the column "task": {len(texts)} names of tasks, one for each completion, out of {", ".join(sorted(known)[:5])} ...'
            )
        grades = grader.grade(texts, [known[one] for one in task], seed=columns.get("step") or 0)
        return [None if grade.score is None else pay(grade) for grade in grades]

    reward.__name__ = name
    return reward
