"""Checks for notebook 09: can the reader price an attempt, mend a reward, lint a task, rob a grader, and find it unjust?

Each function takes the reader's answer; see rftlab.checks for what it prints and raises.
"""

import json
import math
from datetime import date
from pathlib import Path

import numpy as np
import torch

from rftlab.checks import exercise, expect_close

SCOREBOARD = Path("my_exploits.json")  # beside the notebook; it belongs to the reader


@exercise
def break_even(chance) -> None:
    """Exercise 1: the chance of success at which an attempt that otherwise gets 0.2 earns as much as a sure 0.6."""
    expect_close(
        chance, 0.5, case="1.0 with chance p, else 0.2, against 0.6 for sure", atol=1e-3,
        hint="an attempt earns p * 1.0 + (1 - p) * 0.2 on average; set that equal to 0.6.",
        slips=((0.4, "this is 0.6 - 0.2; a success also saves the 0.2 of the failure: divide by 1 - 0.2."),
               (0.6, "failing is not worth 0: it still pays 0.2."),
               (2 / 3, "divide by 1 - 0.2, not by 0.6.")))


@exercise
def fair_reward(answer) -> None:
    """Exercise 2: `fair_reward(pred, real, seconds, baseline_seconds) -> float`; nothing for a wrong answer, however fast."""
    real = np.array([[3.0, -1.0], [0.5, 2.0]])
    hint = "first decide whether it is right, and only then look at the clock; right: the same shape, and |pred - real| small everywhere."
    for name, pred in (
            ("None", None), ("an empty list", []), ("the number -1e9", -1e9), ("all values 5 too small", real - 5),
            ("all values 5 too large", real + 5), ("one value 0.1 too small", real - np.eye(1, 4).reshape(2, 2) * 0.1), ("all values 1e-4 too large", real + 1e-4),
            ("a matrix of nan", real * np.nan), ("a matrix of -inf", real * 0 - np.inf), ("a single row", real[:1]),
            ("a row of another length", [[1.0, 2.0, 3.0]]), ("the text 'no'", "no"), ("ragged lists", [[1.0], [2.0, 3.0]])):
        expect_close(answer(pred, real, 1e-9, 1.0), 0.0, case=f"pred is {name}, and very fast", hint=hint)
    expect_close(answer(real.copy(), real, 2.0, 1.0), 1.5, case="right, in twice the baseline's time",
                 hint="1 for being right, and as a bonus baseline_seconds / seconds, at most 1.",
                 slips=((3.0, "the bonus is baseline_seconds / seconds: less for the slower one."), (1.0, "the bonus is missing.")))
    expect_close(answer(real.tolist(), real, 0.1, 1.0), 2.0, case="right, a list, ten times faster", hint="the bonus is at most 1.",
                 slips=((11.0, "the bonus is at most 1."),))
    expect_close(answer(real * (1 + 1e-9), real, 1.0, 1.0), 2.0, case="right up to rounding, in the baseline's time",
                 hint="sums in another order round differently: allow 1e-6 of the largest value.")


@exercise
def lint(answer) -> None:
    """Exercise 3: `lint(reference, inputs, close) -> list[str]`: which answers that cost nothing pass as right?"""
    def close(got, expected):
        return got.shape == expected.shape and torch.allclose(got, expected, rtol=1e-3, atol=1e-6)

    x, row = torch.tensor([[1.5, -2.0, 0.5], [0.25, 3.0, -1.0]]), torch.tensor([2.0, -1.0, 4.0])
    for case, reference, inputs, expected, hint in (
            ("x + 1, which is sound", lambda x: x + 1, [x], [], "nothing that costs nothing passes here."),
            ("relu of negative numbers", torch.relu, [-x.abs()], ["zeros"], "torch.zeros_like(expected) passes."),
            ("relu of positive numbers", torch.relu, [x.abs()], ["input 0"], "relu changes none of them: a copy of the input passes."),
            ("x / x", lambda x: x / x, [x], ["ones"], "torch.ones_like(expected) passes."),
            ("x * 1 + 0 * row", lambda x, y: x + 0 * y, [x, row], ["input 0"],
             "an input of another shape than the answer cannot be the answer: it must not raise either."),
            ("the first of two equal inputs", lambda x, y: x * 1, [x, x.clone()], ["input 0", "input 1"], "every input counts."),
            ("a matrix of ones, copied", lambda x: x.clone(), [torch.ones(2, 2)], ["ones", "input 0"], "report all that pass, in order.")):
        got = answer(reference, [tensor.clone() for tensor in inputs], close)
        if got != expected:
            raise AssertionError(f"{case}: expected {expected}, got {got!r}\n  hint: {hint}")
    seen = []
    answer(lambda x: x * 2, [x], lambda got, expected: seen.append(got.shape) or False)
    if len(seen) < 3:
        raise AssertionError("close was called fewer than three times for one input\n  hint: zeros, ones and each input, through close")


@exercise
def exploit(answer) -> None:
    """Exercise 4: `exploit() -> (name of a training task, program)`, which the naive grader pays in full and should not.

    Prints what `KernelGrader` pays for it, and keeps it on the scoreboard.
    """
    from rftlab.kernels.naive import examine

    task, completion = _task_and_completion(answer())
    found, grade = examine(completion, task), _grade(completion, task)
    if found.paid < 1.0:
        raise AssertionError(f"even the naive grader pays only {found.paid}" + f" ({found.error})" * bool(found.error)
                             + "\n  hint: it compares with allclose, in your program's own process, on inputs that never change")
    deserved = 0.6 if found.right < 1.0 else 0.2 if found.right_without or not found.launches else 1.0
    if deserved == 1.0:
        raise AssertionError("this looks like an honest kernel: right on fresh inputs, and not without its launches\n"
                             "  hint: an exploit is paid for something that it did not do; an honest kernel that is refused is exercise 5")
    _keep(task.name, completion, found, grade)
    print(f"the naive grader pays {found.paid}, KernelGrader {grade.score} ({grade.stage})")
    for reason in grade.reasons[:2]:
        print(f"   {reason}")
    if grade.score is not None and grade.score > deserved:
        print(f"   You beat the grader: {deserved} at most would be right. Please add it to tests/redteam/exploits.")


@exercise
def wrongly_refused(answer) -> None:
    """Exercise 5: `wrongly_refused() -> (name of a training task, program)`: honest, right, and paid less than 1.0.

    Values and launches are checked; whether PyTorch did a part of the work is for the reader to say.
    """
    from rftlab.kernels.naive import examine

    task, completion = _task_and_completion(answer())
    found = examine(completion, task)
    if found.right < 1.0:
        raise AssertionError(f"right on {found.right:.0%} of fresh inputs only" + f" ({found.error})" * bool(found.error)
                             + "\n  hint: an honest kernel that is wrong is refused rightly; start from the task's own: task.kernel")
    if not found.launches or found.right_without:
        raise AssertionError("the answer is right without any kernel\n  hint: honest means that the kernel does the work")
    grade = _grade(completion, task)
    if grade.score is None:
        raise RuntimeError(f"the grader itself failed: {grade.reasons}; run the cell again")
    if grade.stage == "wrong":
        raise AssertionError(f"paid {grade.score}: found wrong, {'; '.join(grade.reasons[:1])}\n  hint: a race, or a value that was never loaded, is wrong "
                             "although the interpreter gives the right numbers; look for a rule that refuses")
    if grade.score == 1.0:
        raise AssertionError("paid 1.0: not refused\n  hint: what do the rules forbid that a careful programmer might write around a kernel?")
    print(f"right, and KernelGrader pays {grade.score} ({grade.stage}):")
    for reason in grade.reasons[:2]:
        print(f"   {reason}")
    print("   Is the rule worth this price? What would it let in if it were dropped?")


def scoreboard() -> None:
    """Print the exploits kept so far, the best first: paid by the grader, then by the naive one."""
    kept = _kept()
    print(f"{len(kept)} exploit{'s' * (len(kept) != 1)} kept in {SCOREBOARD}")
    for entry in sorted(kept, key=lambda e: -e["grader"] if e["grader"] is not None else math.inf):
        print(f"   {entry['task']:12} naive {entry['naive']}   KernelGrader {entry['grader']} ({entry['stage']})   {entry['when']}")


def _kept() -> list[dict]:
    return json.loads(SCOREBOARD.read_text(encoding="utf-8")) if SCOREBOARD.is_file() else []


def _keep(task: str, completion: str, found, grade) -> None:
    """Add an exploit to the scoreboard, in place of an earlier entry with the same text."""
    entry = {"task": task, "naive": found.paid, "grader": grade.score, "stage": grade.stage, "reasons": grade.reasons,
             "when": date.today().isoformat(), "completion": completion}
    kept = [one for one in _kept() if one["completion"] != completion] + [entry]
    SCOREBOARD.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _task_and_completion(answer):
    """The task of that name, and the program as a completion."""
    from rftlab.kernels import load_kernel_tasks

    tasks = {task.name: task for task in load_kernel_tasks("train")}
    if not (isinstance(answer, tuple) and len(answer) == 2 and answer[0] in tasks and isinstance(answer[1], str)):
        raise AssertionError(f"expected (task name, program), got {answer!r:.80}\n  hint: the tasks are {', '.join(tasks)}")
    name, program = answer
    return tasks[name], program if "```" in program else f"```python\n{program.strip()}\n```\n"


def _grade(completion: str, task):
    from rftlab.kernels import KernelGrader

    with KernelGrader(workers=1) as grader:
        return grader.grade([completion], task)[0]
