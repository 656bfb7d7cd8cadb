"""The checks of notebooks 08 and 09 accept the solutions, know the stubs, and explain wrong answers.

Triton interprets or compiles from its import on, so everything that interprets happens in one other process.
"""
import contextlib
import io
import linecache
import os
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from rftlab.checks import kernel_rewards
from rftlab.kernels import Grade, KernelTask, load_kernel_tasks, naive

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
PUZZLES = ["relu_add", "outer", "softmax", "matmul", "long_softmax"]


def interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="module")
def interpreter():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=interpret) as pool:
        yield lambda *arguments: pool.submit(check_kernel, *arguments).result(timeout=300)


def check_kernel(name: str, source: str) -> str:
    """What the check of this name says about the kernel in `source`: printed, or the message of its AssertionError."""
    import torch
    import triton
    import triton.language as tl

    from rftlab.checks import triton_kernels

    file = f"<answer {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    namespace, printed = {"torch": torch, "triton": triton, "tl": tl}, io.StringIO()
    exec(compile(source, file, "exec"), namespace)
    try:
        with contextlib.redirect_stdout(printed):
            getattr(triton_kernels, name)(namespace[name])
    except AssertionError as error:
        return str(error)
    return printed.getvalue().strip()


def cells(path: str) -> list[str]:
    notebook = nbformat.read(NOTEBOOKS / path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def kernel_source(path: str, name: str) -> str:
    """The cell that defines kernel `name`, up to its check."""
    cell = next(source for source in cells(path) if f"def {name}(" in source)
    return re.search(rf"@triton\.jit\ndef {name}\(.*?(?=\n\n\n|\Z)", cell, re.DOTALL)[0] + "\n"


# ---- notebook 08 ----

@pytest.mark.parametrize("name", PUZZLES)
def test_a_puzzle_accepts_its_solution(interpreter, name):
    assert interpreter(name, kernel_source("solutions/08_triton_kernels.ipynb", name)) == f"passed: {name}"


@pytest.mark.parametrize("name", PUZZLES)
def test_the_stub_of_a_puzzle_is_not_attempted(interpreter, name):
    assert interpreter(name, kernel_source("08_triton_kernels.ipynb", name)) == f"not attempted: {name}"


@pytest.mark.parametrize("name", PUZZLES)
def test_the_solutions_say_passed_in_the_recorded_notebook(name):
    assert any(f"check.{name}(" in source for source in cells("solutions/08_triton_kernels.ipynb"))


# (puzzle, what stands in the solution, what stands there instead, part of the message)
WRONG = [
    ("relu_add", "tl.maximum(total, 0.0)", "total", "relu is missing"),
    ("relu_add", "total = tl.load(x_ptr + i, mask=mask) + tl.load(y_ptr + i, mask=mask)",
     "total = tl.maximum(tl.load(x_ptr + i, mask=mask), 0.0) + tl.maximum(tl.load(y_ptr + i, mask=mask), 0.0)", "relu of the sum"),
    ("relu_add", "mask = i < n", "mask = i < n + BLOCK", "lie outside"),
    ("relu_add", "mask = i < n", "mask = i <= n", "lie outside"),
    ("relu_add", "tl.program_id(0) * BLOCK + ", "", "never stored"),
    ("relu_add", "tl.maximum(total, 0.0), mask=mask)", "tl.maximum(total, 0.0), mask=i < n - 1)", "never stored"),
    ("relu_add", "tl.store(out_ptr + i, tl.maximum(total, 0.0), mask=mask)",
     "tl.store(out_ptr + i, tl.maximum(total, 0.0), mask=mask)\n    tl.store(x_ptr + i, total, mask=mask)", "an input was changed"),
    ("relu_add", "tl.store(out_ptr + i, tl.maximum(total, 0.0)", "total.handle.data = total.handle.data.clip(0)\n    tl.store(out_ptr + i, total",
     "does not compile"),
    ("outer", "i[:, None] * N", "i[:, None] * M", "never stored|lie outside|several"),
    ("outer", "x[:, None] * y[None, :]", "x[:, None] + y[None, :]", "the product, not the sum"),
    ("outer", "mask=i < M", "mask=i < N", "lie outside|NaN"),
    ("outer", "mask = (i[:, None] < M) & (j[None, :] < N)", "mask = (i[:, None] < M) & (j[None, :] <= N)", "lie outside|several|NaN"),
    ("outer", "tl.program_id(1)", "tl.program_id(0)", "never stored"),
    ("softmax", 'other=-float("inf")', "other=0.0", "the numbers differ"),
    ("softmax", ', other=-float("inf")', "", "NaN in the output"),
    ("softmax", "tl.exp(x - tl.max(x, axis=0))", "tl.exp(x)", "a sum has overflowed"),
    ("softmax", "e / tl.sum(e, axis=0)", "e", "differ"),
    ("softmax", "x_ptr + row * N", "x_ptr + row * BLOCK", "lie outside|differ|NaN"),
    ("softmax", "row = tl.program_id(0)", "row = 0", "never stored|several"),
    ("matmul", "range(0, K, BLOCK)", "range(0, BLOCK, BLOCK)", "only the first block"),
    ("matmul", "range(0, K, BLOCK)", "range(0, K - BLOCK + 1, BLOCK)", "differ"),
    ("matmul", "mask=(i < M) & (across < K), other=0.0)", "mask=(i < M) & (across < K))", "NaN"),
    ("matmul", "mask=(i < M) & (across < K)", "mask=(i < M)", "lie outside|differ|NaN"),
    ("matmul", "acc += tl.dot", "acc = tl.dot", "differ"),
    ("matmul", 'tl.dot(a, b, input_precision="ieee")', "tl.dot(a, b)", "rounds what it multiplies to TF32"),
    ("matmul", "down * N", "down * K", "lie outside|differ|NaN"),
    ("long_softmax", "total * tl.exp(top - higher) + ", "total + ", "differ"),
    ("long_softmax", "j = start + tl.arange(0, BLOCK)", "j = tl.arange(0, BLOCK)", "never stored|several"),
    ("long_softmax", "    for start in range(0, N, BLOCK):\n        j = start + tl.arange(0, BLOCK)\n        x = tl.load(x_ptr + row * N + j, mask=j < N, "
     'other=-float("inf"))\n        higher', "    for start in range(0, N, BLOCK):\n        j = start + tl.arange(0, BLOCK)\n"
     '        x = tl.load(x_ptr + row * N + j, mask=j < N, other=-float("inf"))\n'
     '        x = tl.load(x_ptr + row * N + j, mask=j < N, other=-float("inf"))\n        higher', "elements of x are read"),
]


@pytest.mark.parametrize("name, old, new, message", WRONG, ids=range(len(WRONG)))
def test_a_wrong_kernel_is_told_what_is_wrong(interpreter, name, old, new, message):
    solution = kernel_source("solutions/08_triton_kernels.ipynb", name)
    assert old in solution
    assert re.search(message, interpreter(name, solution.replace(old, new)))


@pytest.mark.parametrize("name, old, new", [
    ("relu_add", "tl.maximum(total, 0.0)", "tl.where(total > 0, total, 0.0)"),
    ("relu_add", "mask = i < n", "mask = i + 1 <= n"),
    ("outer", "mask=i < M)", "mask=i < M, other=0.0)"),
    ("softmax", "e / tl.sum(e, axis=0)", "tl.exp(x - tl.max(x, axis=0) - tl.log(tl.sum(e, axis=0)))"),
    ("matmul", 'tl.dot(a, b, input_precision="ieee")', "tl.sum(a[:, :, None] * b[None, :, :], axis=1)"),
])
def test_another_right_kernel_passes(interpreter, name, old, new):
    solution = kernel_source("solutions/08_triton_kernels.ipynb", name)
    assert old in solution
    assert interpreter(name, solution.replace(old, new)) == f"passed: {name}"


def test_a_function_without_the_decorator_is_recognised(interpreter):
    source = kernel_source("solutions/08_triton_kernels.ipynb", "outer").removeprefix("@triton.jit\n")
    assert "the line above `def` is @triton.jit" in interpreter("outer", source)


# ---- notebook 09 ----

EXERCISES = ["break_even", "fair_reward", "lint", "exploit", "wrongly_refused"]


@pytest.fixture(scope="module")
def solutions():
    """The solutions as functions, without the cells' own calls of the checks."""
    source = "\n".join(cell for cell in cells("solutions/09_kernel_rewards.ipynb") if "check." in cell)
    namespace = {"check": type("Silent", (), {"__getattr__": lambda self, name: lambda answer=None: None})()}
    exec("import numpy as np\nimport torch\n" + source, namespace)
    return namespace


def test_the_stubs_of_the_exercises_are_not_attempted():
    wanted = [cell for cell in cells("09_kernel_rewards.ipynb") if re.search(r"\bcheck\.(?!scoreboard)", cell)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in wanted:
            exec(cell, {"check": kernel_rewards})
    assert printed.getvalue().splitlines() == [f"not attempted: {name}" for name in EXERCISES]


def test_the_solutions_that_need_no_grader_pass(solutions, capsys):
    kernel_rewards.break_even(solutions["chance"])
    kernel_rewards.fair_reward(solutions["fair_reward"])
    kernel_rewards.lint(solutions["lint"])
    assert capsys.readouterr().out.splitlines() == [f"passed: {name}" for name in EXERCISES[:3]]


@pytest.mark.parametrize("wrong, message", [(0.4, "divide by 1 - 0.2"), (0.6, "failing is not worth 0"), (2 / 3, "not by 0.6"),
                                            (0.75, "p * 1.0"), ("half", "neither")])
def test_wrong_chances(wrong, message):
    with pytest.raises(AssertionError, match=re.escape(message)):
        kernel_rewards.break_even(wrong)


def fair(tolerance=1e-6, shape=True, absolute=True, finite=True, speed=lambda s, b: min(1.0, b / s), gate=True, convert=True):
    """The solution of exercise 2 with one thing left out."""
    def fair_reward(pred, real, seconds, baseline_seconds):
        if convert:
            try:
                pred = np.asarray(pred, dtype=float)
            except (TypeError, ValueError):
                return 0.0
        if shape and pred.shape != real.shape:
            return 0.0
        off = np.abs(pred - real) if absolute else pred - real
        small = off <= tolerance * np.abs(real).max()
        right = bool(small.all() if finite else not (off > tolerance * np.abs(real).max()).any())
        return (1.0 if right else 0.0) + (speed(seconds, baseline_seconds) if right or not gate else 0.0)
    return fair_reward


@pytest.mark.parametrize("options, message", [
    ({"absolute": False}, "5 too small|-1e9|-inf"), ({"tolerance": 1e-2}, "1e-4 too large"), ({"finite": False}, "nan"), ({"gate": False}, "None|empty|too small"),
    ({"speed": lambda s, b: b / s}, "at most 1"), ({"speed": lambda s, b: 0.0}, "the bonus is missing"),
    ({"speed": lambda s, b: min(2.0, s / b)}, "less for the slower"),
])
def test_wrong_fair_rewards(options, message):
    kernel_rewards.fair_reward(fair())
    with pytest.raises(AssertionError, match=message):
        kernel_rewards.fair_reward(fair(**options))


def test_a_fair_reward_that_raises_is_not_hidden():
    with pytest.raises((TypeError, AttributeError, ValueError)):
        kernel_rewards.fair_reward(fair(convert=False))


def linter(names=("zeros", "ones"), inputs=True, shapes=True, through_close=True):
    def lint(reference, given, close):
        expected = reference(*given)
        cheap = {"zeros": torch.zeros_like(expected), "ones": torch.ones_like(expected)}
        cheap = {name: cheap[name] for name in names}
        if inputs:
            cheap |= {f"input {i}": value for i, value in enumerate(given)}
        same = close if through_close else torch.equal
        if not shapes:
            same = torch.allclose
        return [name for name, value in cheap.items() if same(value, expected)]
    return lint


@pytest.mark.parametrize("wrong, message", [
    (linter(names=("ones",)), "relu of negative"), (linter(names=("zeros",)), "x / x"), (linter(inputs=False), "relu of positive"),
    (linter(through_close=False), "fewer than three"), (lambda reference, given, close: ["zeros"], "which is sound"),
    (lambda reference, given, close: None, "got None"), (linter(names=("ones", "zeros")), "passed anyway"),
])
def test_wrong_lints(wrong, message):
    kernel_rewards.lint(linter())
    if message == "passed anyway":  # the order of zeros and ones shows in no case: both never pass at once
        return kernel_rewards.lint(wrong)
    with pytest.raises(AssertionError, match=message):
        kernel_rewards.lint(wrong)


HONEST = {task.name: task.kernel for task in load_kernel_tasks("train")}
TORCH = "import torch\n\ndef relu(x):\n    return x.relu()\n"


@pytest.fixture
def graded(monkeypatch, tmp_path):
    """Exercises 4 and 5 with a grade of our own in place of the grader's, and a scoreboard of our own."""
    monkeypatch.setattr(kernel_rewards, "SCOREBOARD", tmp_path / "my_exploits.json")
    return lambda score, stage: monkeypatch.setattr(kernel_rewards, "_grade", lambda *_: Grade(score, stage, ["a reason"], 0.1))


def test_an_exploit_passes_and_is_kept_once(graded, capsys):
    graded(0.2, "rules")
    for _ in range(2):
        kernel_rewards.exploit(lambda: ("relu", TORCH))
    kernel_rewards.scoreboard()
    printed = capsys.readouterr().out
    assert printed.count("naive grader pays 1.0, KernelGrader 0.2 (rules)\n   a reason\npassed: exploit") == 2
    assert "1 exploit kept" in printed and "You beat" not in printed


def test_an_exploit_that_beats_the_grader_is_told_so(graded, capsys):
    graded(1.0, "correct")
    kernel_rewards.exploit(lambda: ("relu", TORCH))
    assert "You beat the grader: 0.2 at most" in capsys.readouterr().out


@pytest.mark.parametrize("name, program, message", [
    ("relu", HONEST["relu"], "looks like an honest kernel"), ("relu", "def relu(x):\n    return 0 * x\n", "pays only 0.6"),
    ("relu", "oops", "pays only 0.5"), ("nothing", TORCH, "the tasks are add"),
])
def test_what_is_no_exploit(graded, name, program, message):
    graded(1.0, "correct")
    with pytest.raises(AssertionError, match=message):
        kernel_rewards.exploit(lambda: (name, program))
    with pytest.raises(AssertionError, match=r"expected \(task name, program\)"):
        kernel_rewards.exploit(lambda: "no tuple")


def test_a_wrongly_refused_kernel_passes(graded, capsys):
    graded(0.2, "rules")
    kernel_rewards.wrongly_refused(lambda: ("relu", HONEST["relu"]))
    assert "right, and KernelGrader pays 0.2 (rules)" in capsys.readouterr().out


@pytest.mark.parametrize("program, score, stage, message", [
    (HONEST["relu"], 1.0, "correct", "paid 1.0: not refused"), (TORCH, 0.2, "rules", "right without any kernel"),
    (HONEST["relu"].replace("tl.maximum(x", "tl.minimum(x"), 0.6, "wrong", "of fresh inputs only"),
    (HONEST["relu"], 0.6, "wrong", "found wrong, a reason"), (HONEST["relu"], None, "failed", "the grader itself failed"),
])
def test_what_is_not_wrongly_refused(graded, program, score, stage, message):
    graded(score, stage)
    with pytest.raises((AssertionError, RuntimeError), match=message):
        kernel_rewards.wrongly_refused(lambda: ("relu", program))


def test_an_honest_kernel_that_is_refused_is_no_exploit(graded):
    graded(0.2, "rules")
    with pytest.raises(AssertionError, match="is exercise 5"):
        kernel_rewards.exploit(lambda: ("relu", HONEST["relu"]))


def test_the_solutions_convince_the_real_grader(solutions, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(kernel_rewards, "SCOREBOARD", tmp_path / "my_exploits.json")
    kernel_rewards.exploit(solutions["exploit"])
    kernel_rewards.wrongly_refused(solutions["wrongly_refused"])
    printed = capsys.readouterr().out
    assert "passed: exploit" in printed and "passed: wrongly_refused" in printed and "You beat" not in printed


def test_examine_takes_only_tasks_that_another_process_knows():
    mine = KernelTask("mine", lambda x: x + 1, [[(300,)], [(1,)], [(33,)]], entry="mine", source="def mine(x): return x + 1")
    with pytest.raises(ValueError, match="none of the course's"):
        naive.examine("", mine)


@pytest.mark.parametrize("program, paid, right, launches, without", [
    (HONEST["relu"], 1.0, 1.0, 1, False), (TORCH, 1.0, 1.0, 0, True),
    ("import sys\nsys.exit(0)", 1.0, 0.0, 0, False), ("import torch\ntorch.allclose = lambda *a, **k: True\n\ndef relu(x):\n    return x - 1", 1.0, 0.0, 0, False),
])
def test_examine_sees_what_the_naive_grader_does_not(program, paid, right, launches, without):
    relu = next(task for task in load_kernel_tasks("train") if task.name == "relu")
    found = naive.examine(f"```python\n{program}\n```", relu)
    assert (found.paid, found.right, found.launches, found.right_without) == (paid, right, launches, without)
