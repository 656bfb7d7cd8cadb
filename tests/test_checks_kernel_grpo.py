"""The checks of notebook 10 accept the solutions, know the stubs, and explain wrong answers; and a reader's function becomes a task."""
import functools
import re
from pathlib import Path

import pytest
import torch

import notebook_cells
from rftlab.checks import kernel_grpo as check
from rftlab.kernels import functions
from rftlab.kernels.own import own

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
EXERCISES = ["fall_rates", "my_reward", "gain_of_a_reason", "leaks", "body"]
namespace = {"check": check, "torch": torch, "grader": type("Closed", (), {"close": staticmethod(lambda: None)})}
run_cells = functools.partial(notebook_cells.run_cells, namespace=namespace)


def test_the_stubs_are_not_attempted():
    _, printed = run_cells(NOTEBOOKS / "10_kernel_grpo.ipynb", lambda cell: re.search(r"\bcheck\.\w+\(", cell.source))
    assert [line for line in printed.splitlines() if "attempted" in line] == [f"not attempted: {name}" for name in EXERCISES]


def test_the_solutions_pass():
    """The last one by the real grader."""
    _, printed = run_cells(NOTEBOOKS / "solutions" / "10_kernel_grpo.ipynb")
    assert [line for line in printed.splitlines() if "passed" in line or "attempted" in line] == [f"passed: {name}" for name in EXERCISES]


def rates(stages, of=lambda came, all_: came, empty=None, rungs=5):
    came, found = len(stages), []
    for stage in check.ORDER[:rungs]:
        here = stages.count(stage)
        found.append(here / of(came, len(stages)) if came else empty)
        came -= here
    return found


def pays(**changes):
    values = {"format": 0.0, "rules": 0.0, "compile": 0.0, "run": 0.05, "wrong": 0.1, "correct": 1.0, **changes}
    return lambda stage, matched: values[stage]


def gain(first, mended, fresh, control="fresh", kept=True):
    repaired = [a or mended.get(i, 0) for i, a in enumerate(first)]
    other = first if control == "first" else [a or b for a, b in zip(first, fresh)] if kept else fresh
    return (sum(repaired) - sum(other)) / len(first)


def compare(train, test, draw=lambda: torch.linspace(-3, 3, 40).view(4, 10), close=torch.equal, pairs=True, shapes=True):
    def results(function):
        for n in (1, 2):
            try:
                return n, function(*[draw() + 0.37 * i for i in range(n)])
            except TypeError:
                continue
    found = []
    for i, f in enumerate(train):
        for j, g in enumerate(test):
            (n, a), (m, b) = results(f), results(g)
            if n == m and (not shapes or a.shape == b.shape) and close(a, b):
                found.append((i, j) if pairs else (j, i))
    return found


def loosely(a, b):
    return torch.allclose(a, b, rtol=1e-2, atol=1e-2)


WRONG = [
    (check.fall_rates, functools.partial(rates, of=lambda came, all_: all_), "came as far"),
    (check.fall_rates, functools.partial(rates, empty=0.0), "None"),
    (check.fall_rates, functools.partial(rates, rungs=6), "nobody falls at the last stage"),
    (check.fall_rates, lambda stages: None, "is a `return` missing"),
    (check.my_reward, lambda stage, matched: {"format": 0.0, "rules": 0.2, "compile": 0.2, "run": 0.5, "wrong": 0.6, "correct": 1.0}[stage], "p = 0.39"),
    (check.my_reward, pays(wrong=0.2, run=0.1), "p = 0.15"),
    (check.my_reward, pays(run=0.0), "needs steps"),
    (check.my_reward, pays(rules=0.07), "cheating"),
    (check.my_reward, pays(correct=0.9), "pays 1.0"),
    (check.my_reward, pays(correct=2.0), "from 0 to 1"),
    (check.my_reward, lambda stage, matched: None, "for every stage"),
    (check.my_reward, lambda stage, matched: pays()(stage, 0) if stage != "wrong" else 0.1 - 0.04 * matched, "never less"),
    (check.my_reward, lambda stage, matched: pays()(stage, 0) if stage != "wrong" else 0.1 + matched, "from 0 to 1|as much as being right"),
    (check.my_reward, lambda stage, matched: pays()(stage, 0) if stage != "wrong" else 0.06 + 0.3 * matched * (1 - matched), "never less"),
    (check.my_reward, lambda stage, matched: 0.01 if stage == "rules" else pays(compile=0.0)(stage, matched), "cheating"),
    (check.gain_of_a_reason, functools.partial(gain, control="first"), "Use `fresh`"),
    (check.gain_of_a_reason, functools.partial(gain, kept=False), "stays right"),
    (check.gain_of_a_reason, lambda first, mended, fresh: -gain(first, mended, fresh), "numbers differ"),
    (check.leaks, functools.partial(compare, draw=lambda: torch.linspace(0.1, 3, 40).view(4, 10)), "negative"),
    (check.leaks, functools.partial(compare, draw=lambda: torch.tensor([[2.0]])), "negative"),
    (check.leaks, functools.partial(compare, close=loosely), "compare tightly"),
    (check.leaks, functools.partial(compare, shapes=False, close=lambda a, b: torch.allclose(a, b)), "another shape|must match the size"),
    (check.leaks, functools.partial(compare, pairs=False), r"expected \[\(1, 0\)\]|place in train"),
    (check.leaks, lambda train, test: [(i, j) for i, f in enumerate(train) for j, g in enumerate(test) if f is g], "compare numbers"),
    (check.leaks, lambda train, test: None, "got None"),
]


@pytest.mark.parametrize("one, answer, hint", WRONG, ids=range(len(WRONG)))
def test_a_wrong_answer_is_explained(one, answer, hint):
    with pytest.raises((AssertionError, RuntimeError), match=hint):
        one(answer)


def test_right_answers_in_other_words_pass(capsys):
    check.fall_rates(rates)
    check.my_reward(pays())
    check.my_reward(lambda stage, matched: {"run": 0.02, "wrong": 0.05 + 0.4 * matched, "correct": 1}.get(stage, 0))
    check.gain_of_a_reason(gain)
    check.leaks(compare)
    assert capsys.readouterr().out.count("passed") == 5


@pytest.mark.parametrize("text, hint", [("x = 1", r"paid 0.0 \(format\)"), ("    tl.store(out_ptr, 0.0)", r"paid 0.6 \(wrong\)"), (7, "as a text")])
def test_a_wrong_body_is_graded_for_real(text, hint):
    with pytest.raises(AssertionError, match=hint):
        check.body(lambda: text)


# --- a reader's own function ---

def test_an_own_function_has_signature_and_wrapper_and_nothing_of_its_kernel():
    flat, rows = own("def fused(x, y):\n    return torch.exp(x) - y\n"), own("def fused(a):\n    return a.abs().sum(dim=-1)\n")
    assert "def fused_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):" in flat.kernel and "tl.exp" not in flat.kernel
    assert "def fused_kernel(a_ptr, out_ptr, columns, BLOCK: tl.constexpr):" in rows.kernel and "tl.sum" not in rows.kernel
    assert flat.shapes[0][0] == functions.FLAT[0] and rows.shapes[0][0] == functions.ROWS[0]


@pytest.mark.parametrize("source, words", [
    ("def other(x):\n    return x\n", "defines no function 'fused'"), ("def fused():\n    return 1\n", "takes 0 tensors"),
    ("def fused(x):\n    return x.sum()\n", "has the shape ()"), ("def fused(x):\n    return x @ x\n", "fails on tensors of 4 x 8"),
    ("def fused(w, x, y, z):\n    return w + x + y + z\n", "takes 4 tensors"),
])
def test_an_own_function_that_cannot_be_asked_for(source, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        own(source)
