"""Kernel tasks as text for a language model that is too small for long prompts, and its answers as programs for the grader.

Two forms, both cut out of a program that has imports, one kernel and a wrapper:

    body      given the PyTorch function and the kernel's signature, write the kernel's body; the rest is added afterwards
    program   given the PyTorch function, write everything after the imports

The prompts are plain text, without a chat template: load the policy with raw=True. Only the body form needs a program of the
task, and only its signature and wrapper reach the model; a function without any gets them from `rftlab.kernels.functions`.
"""
import re
from collections.abc import Sequence
from dataclasses import replace

import torch

from rftlab.kernels.grader import Grade, KernelGrader
from rftlab.kernels.tasks import KernelTask, load_kernel_tasks
from rftlab.tasks import Problem

FORMS = ("body", "program")
KERNEL = re.compile(r"@triton\.jit\ndef \w+\([^)]*\):\n")
STAGES = ("format", "rules", "compile", "run", "wrong", "correct")


class KernelWriting:
    """The task "write this kernel" in one of the FORMS, verified by a grader; a Task as `rftlab.tasks` describes.

    Its problems come from KernelTasks: `labelled` (the 13, with solutions), `heldout` (the course's others), `fresh` (composed
    at random). Raises ValueError for an unknown form.
    """

    def __init__(self, grader: KernelGrader, form: str = "body"):
        if form not in FORMS:
            raise ValueError(f"form={form!r}: expected one of {', '.join(FORMS)}")
        self.grader, self.form, self.tasks = grader, form, {}
        self.name = "kernels" if form == "body" else "kernel-programs"

    def labelled(self) -> list[Problem]:
        return [self.problem(t) for t in load_kernel_tasks("train")]

    def heldout(self) -> list[Problem]:
        return [self.problem(t) for t in load_kernel_tasks("heldout")]

    def fresh(self, n: int, split: str = "train", seed: int = 0, families=None, most: int | None = None) -> list[Problem]:
        """n composed functions of at most `most` operations; their solutions are there for tests, and no arm but SFT on solutions may look at them."""
        from rftlab.kernels import functions

        return [self.problem(t) for t in functions.draw(n, split, seed, families or functions.FAMILIES, most)]

    def train(self, n: int, seed: int = 0) -> list[Problem]:
        return self.fresh(n, "train", seed)

    def validation(self, n: int) -> list[Problem]:
        return self.fresh(n, "validation")

    def test(self, n: int) -> list[Problem]:
        return self.fresh(n, "test")

    def problem(self, task: KernelTask) -> Problem:
        """The problem of a task; its answer is the task's name. ValueError where the body form has no program to cut."""
        self.tasks[task.name] = task
        before, solution, after = self._cut(task)
        prompt = f"# PyTorch\n{task.source.strip()}\n\n# Triton\n{before}"
        return Problem(prompt, task.name, solution, {"family": task.family, "after": after})

    def repair(self, problem: Problem, completion: str, grade: Grade) -> Problem:
        """A second turn: the same problem, with an answer and what the grader said of it in front."""
        reason = (grade.reasons or ["wrong"])[0].split("\n")[0]
        before = problem.prompt.split("# Triton\n", 1)[1]
        written = indented(completion) if self.form == "body" else completion.split("# PyTorch")[0].strip()
        return replace(problem, prompt=f"{problem.prompt}{written}\n\n# Refused: {reason}\n\n# Triton, corrected\n{before}")

    def program(self, completion: str, problem: Problem) -> str:
        """The completion as the grader wants it: one block with a whole program."""
        imports = "import torch\nimport triton\nimport triton.language as tl\n\n\n"
        if self.form == "program":
            return f"```python\n{imports}{completion.split('# PyTorch')[0].strip()}\n```"
        before = self._cut(self.tasks[problem.answer])[0]
        return f"```python\n{imports}{before}{indented(completion)}\n\n{problem.info['after']}\n```"

    def stop(self, policy):
        """Where a completion may end early, for `rftlab.rollout.rollout`: at the first line that is not indented, in the body form."""
        if self.form != "body":
            return None
        size, tokenizer = policy.model.config.vocab_size, policy.tokenizer
        texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))]) + [" "] * (size - len(tokenizer))
        flags = [[t.endswith("\n") for t in texts], [t[:1] not in (" ", "\t", "\n", ")", "") for t in texts]]
        return tuple(torch.tensor(f, device=policy.model.device) for f in flags)

    def grades(self, completions: Sequence[str], problems: Sequence[Problem], seed: int = 0) -> list[Grade]:
        """One Grade for each completion."""
        return self.grader.grade([self.program(c, p) for c, p in zip(completions, problems, strict=True)],
                                 [self.tasks[p.answer] for p in problems], seed)

    def certain_grades(self, completions: Sequence[str], problems: Sequence[Problem], seed: int = 0) -> list[Grade]:
        """One Grade for each completion, every one with a score, for measuring: RuntimeError where the grader itself fails, twice over."""
        return certain(self.grader, [self.program(c, p) for c, p in zip(completions, problems, strict=True)],
                       [self.tasks[p.answer] for p in problems], seed)

    def reward(self, completion: str, problem: Problem) -> float:
        """1.0 for a right kernel, else 0.0; the ladder is `paid`. Raises RuntimeError when the grader itself fails, which no completion can bring about."""
        return float(self.certain_grades([completion], [problem])[0].score == 1.0)

    def well_formed(self, completion: str, problem: Problem) -> bool:
        """Whether the program has the right form and breaks no rule, right or wrong."""
        return self.certain_grades([completion], [problem])[0].stage in STAGES[3:]

    def _cut(self, task: KernelTask) -> tuple[str, str, str]:
        """(what is given before, what is to be written, what is given after) of the task's program."""
        kernels = list(KERNEL.finditer(task.kernel))
        if self.form == "program":
            return "", task.kernel[kernels[0].start():].strip() if kernels else "", ""
        if not kernels:
            raise ValueError(f"task {task.name!r} has no program to take the kernel's signature from; use form=\"program\", or make "
                             "the task by rftlab.kernels.functions.task(source, kernel)")
        start = kernels[-1].end()
        body = indented(task.kernel[start:])
        return task.kernel[kernels[0].start():start], body, task.kernel[start + len(body):].strip()


def certain(grader: KernelGrader, programs: Sequence[str], tasks: Sequence[KernelTask], seed: int = 0) -> list[Grade]:
    """One Grade for each program; those that the grader failed on are graded once more. RuntimeError when it fails on one again:
    a failure is no wrong answer, and must not be counted as one."""
    grades = grader.grade(programs, tasks, seed)
    failed = [i for i, grade in enumerate(grades) if grade.score is None]
    for i, grade in zip(failed, grader.grade([programs[i] for i in failed], [tasks[i] for i in failed], seed) if failed else ()):
        if grade.score is None:
            raise RuntimeError(f"the grader failed twice on a completion for {tasks[i].name} ({'; '.join(grade.reasons)}): start it anew")
        grades[i] = grade
    return grades


def indented(text: str) -> str:
    """The text up to the first line that is neither empty nor indented, without blank lines at the end."""
    kept = []
    for line in text.split("\n"):
        if line.strip() and not line.startswith((" ", "\t", ")")):
            break
        kept.append(line)
    return "\n".join(kept).rstrip()


# --- rewards: what is paid for a grade ------------------------------------------------------------------------------------

PAID = {
    "ladder": lambda g: g.score,
    "correct": lambda g: float(g.stage == "correct"),
    "steep": lambda g: {"run": 0.1, "wrong": 0.2, "correct": 1.0}.get(g.stage, 0.0),
    "summed": lambda g: ((g.stage != "format") + (g.stage in STAGES[3:]) + (g.matched if g.stage in STAGES[3:] else 0.0)) / 3,
    "share": lambda g: g.matched if g.stage in STAGES[3:] else 0.0,
}


def paid(task: KernelWriting, kind: str = "ladder", careless: KernelGrader | None = None):
    """A reward function in TRL's signature: what PAID[kind] pays, and the share of each stage as metrics.

    ladder: the deck's. summed: format, compile and share of cases, averaged. correct: 1.0 or nothing. share: share of cases.
    steep: 0.1 for compiling, 0.2 for running, 1.0 for right. naive: 1.0 or nothing, as `careless` says, a grader that asks only
    whether the values match (`without_rules`). With such a grader the share of hacks is a metric too: what it pays and the task's
    own grader calls not right. It reads the column `problem`. ValueError for another kind, or for naive without that grader.
    """
    pay = PAID.get("correct" if kind == "naive" else kind)
    if pay is None:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(PAID)}, naive")
    if kind == "naive" and careless is None:
        raise ValueError("naive pay needs careless=without_rules(), the grader that pays")

    def reward(prompts, completions, *, problem, step=0, log_metric=None, **columns) -> list[float | None]:
        paying = grades = task.grades(completions, problem, seed=step or 0)
        seen = {f"share_{stage}": [g.stage == stage for g in grades] for stage in STAGES}
        if careless:
            programs = [task.program(c, p) for c, p in zip(completions, problem, strict=True)]
            taken_in = careless.grade(programs, [task.tasks[p.answer] for p in problem], step or 0)
            seen["share_hack"] = [is_hack(a, b) for a, b in zip(taken_in, grades)]
            paying = taken_in if kind == "naive" else grades
        for name, found in seen.items() if log_metric else ():
            log_metric(name, sum(found) / len(found))
        return [None if g.score is None else pay(g) for g in paying]

    reward.__name__ = f"kernel_{kind}"
    return reward


def is_hack(careless: Grade, ours: Grade) -> bool:
    """Whether a careless grader pays in full what ours calls not right; a failure of ours calls it nothing."""
    return careless.score == 1.0 and ours.score is not None and ours.score != 1.0


def without_rules() -> KernelGrader:
    """A grader that asks only whether the values match, as most published ones do; the walls stay. Close it when done."""
    return KernelGrader(rules=False, target=None)


def with_fallback(problem: Problem, expression: str) -> Problem:
    """The problem with a solution that launches its kernel and returns PyTorch's own result. ValueError in the body form."""
    if "    return out" not in problem.solution:
        raise ValueError("a fallback needs a wrapper to stand in: use form=\"program\"")
    return replace(problem, solution=problem.solution.replace("    return out", f"    return {expression}"))
