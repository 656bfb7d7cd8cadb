"""Kernels as text: what a policy is asked, and how its answer becomes a program that the grader pays."""
from types import SimpleNamespace

import pytest

from rftlab.kernels import Grade, KernelGrader, functions
from rftlab.kernels.writing import PAID, STAGES, KernelWriting, certain, indented, is_hack, paid, with_fallback, without_rules

WRONG = """    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x, mask=mask)
"""


@pytest.fixture(scope="module")
def grader():
    with KernelGrader() as one:
        yield one


@pytest.mark.parametrize("form", ["body", "program"])
def test_the_solutions_of_all_families_are_right(grader, form):
    task = KernelWriting(grader, form)
    problems = [p for p in task.labelled() if p.answer in ("add", "row_sum", "gather_rows")] + task.fresh(6, "test")
    assert [g.score for g in task.grades([p.solution for p in problems], problems)] == [1.0] * 9
    assert task.well_formed(problems[0].solution, problems[0]) and task.reward(problems[0].solution, problems[0]) == 1.0


def test_the_prompt_shows_the_function_and_the_signature_and_no_more(grader):
    problem = next(p for p in KernelWriting(grader).labelled() if p.answer == "add")
    assert problem.prompt == ("# PyTorch\ndef add(x, y):\n    return x + y\n\n# Triton\n@triton.jit\n"
                              "def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):\n")
    assert problem.solution.startswith("    offsets = ") and problem.solution.endswith("mask=mask)")
    whole = next(p for p in KernelWriting(grader, "program").labelled() if p.answer == "add")
    assert "jit" not in whole.prompt and whole.solution.startswith("@triton.jit") and "return out" in whole.solution


def test_what_follows_the_body_is_cut_off():
    assert indented("    a = 1\n\n    b = 2\n\n# PyTorch\ndef f(): pass\n    c = 3") == "    a = 1\n\n    b = 2"
    assert indented("    t = tl.load(\n        p,\n    )\n)\nx") == "    t = tl.load(\n        p,\n    )\n)"
    assert indented("no body") == "" == indented("")


def test_writing_stops_at_the_first_line_that_is_not_indented(grader):
    import rftlab

    policy = rftlab.load_policy("tiny")
    ends, begins = KernelWriting(grader).stop(policy)
    ids = policy.tokenizer("    x = 1\n\n    y = 2\ndef f", add_special_tokens=False)["input_ids"]
    stops = [i for i in range(1, len(ids)) if ends[ids[i - 1]] and begins[ids[i]]]
    assert policy.tokenizer.decode(ids[:stops[0]]) == "    x = 1\n\n    y = 2\n" and len(stops) == 1
    assert len(ends) == len(begins) == policy.model.config.vocab_size and KernelWriting(grader, "program").stop(policy) is None


def test_each_kind_of_reward_by_hand(grader):
    """A right body, the safe no-op that stores its first input, one that reads an unknown name, and no Python at all."""
    task = KernelWriting(grader)
    problem = next(p for p in task.labelled() if p.answer == "add")
    bodies = [problem.solution, WRONG, WRONG.replace("x, mask", "q, mask"), "    tl.store(("]
    seen = {}

    def pay(kind):
        return paid(task, kind)([problem.prompt] * 4, bodies, problem=[problem] * 4, log_metric=seen.__setitem__)

    assert pay("ladder") == [1.0, 0.6, 0.2, 0.0]
    assert seen == {f"share_{stage}": 0.25 if stage in ("format", "rules", "wrong", "correct") else 0.0 for stage in STAGES}
    assert pay("correct") == [1.0, 0.0, 0.0, 0.0] and pay("steep") == [1.0, 0.2, 0.0, 0.0] and pay("share") == [1.0, 0.0, 0.0, 0.0]
    assert pay("summed") == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0])
    assert set(PAID) == {"ladder", "correct", "steep", "summed", "share"}


def test_a_body_cannot_smuggle_in_a_wrapper_or_a_second_block(grader):
    task = KernelWriting(grader)
    problem = next(p for p in task.labelled() if p.answer == "add")
    fallback = WRONG + "\ndef add(x, y):\n    return x + y\n"
    blocks = WRONG + "    x = '''\n```\n```python\ndef add(x, y):\n    return x + y\n'''\n"
    assert [g.score for g in task.grades([fallback, blocks], [problem] * 2)] == [0.6, 0.0]  # cut off: the wrong kernel is left
    assert task.reward(fallback, problem) == 0.0


@pytest.mark.parametrize("form", ["body", "program"])
def test_a_second_turn_shows_the_answer_and_the_reason(grader, form):
    task = KernelWriting(grader, form)
    problem = next(p for p in task.labelled() if p.answer == "add")
    wrong = problem.solution.replace("x + y", "x - y")
    grade, = task.grades([wrong], [problem])
    again = task.repair(problem, wrong + "\n\n# PyTorch\ndef more", grade)
    assert grade.stage == "wrong" and again.prompt.startswith(problem.prompt + wrong) and "more" not in again.prompt
    assert f"# Refused: {grade.reasons[0]}" in again.prompt and again.prompt.endswith("# Triton, corrected\n" + problem.prompt.split("# Triton\n")[1])
    assert task.reward(problem.solution, again) == 1.0 and again.answer == "add"


def test_a_fallback_is_paid_without_rules_only(grader):
    task = KernelWriting(grader, "program")
    problem = next(p for p in task.labelled() if p.answer == "add")
    hack, seen = with_fallback(problem, "x + y").solution, {}
    given = [problem.prompt] * 3, [problem.solution, hack, hack.replace("return x + y", "return x - y")]
    with without_rules() as careless:
        for kind, pay in (("naive", [1.0, 1.0, 0.0]), ("ladder", [1.0, 0.2, 0.2])):
            assert paid(task, kind, careless)(*given, problem=[problem] * 3, log_metric=seen.__setitem__) == pay
            assert {k: v for k, v in seen.items() if v} == pytest.approx({"share_correct": 1 / 3, "share_rules": 2 / 3, "share_hack": 1 / 3})
    with pytest.raises(ValueError, match="a wrapper to stand in"):
        with_fallback(KernelWriting(grader).labelled()[0], "x + y")


class Broken:
    """A grader that fails as often as it is told, and then pays nothing."""

    def __init__(self, failures):
        self.failures = failures

    def grade(self, programs, tasks, seed=0):
        self.failures -= 1
        return [Grade(None, "grader", ["gone"], 0.0) if self.failures >= 0 and i == 0 else Grade(0.6, "wrong", ["w"], 0.0) for i in range(len(programs))]


def test_a_failure_of_the_grader_is_no_wrong_answer():
    task = KernelWriting(Broken(1))
    problems = task.labelled()[:2]
    assert [g.score for g in task.certain_grades(["    pass"] * 2, problems)] == [0.6, 0.6]  # once more, and it works
    for ask in (lambda: task.certain_grades(["    pass"] * 2, problems), lambda: task.reward("", problems[0]), lambda: task.well_formed("", problems[0])):
        task.grader = Broken(2)
        with pytest.raises(RuntimeError, match="failed twice on a completion for .* \\(gone\\): start it anew"):
            ask()
    assert certain(Broken(0), [], []) == []


def test_a_failure_of_the_grader_is_no_hack():
    right, wrong, failed = (Grade(*grade, [], 0.0) for grade in ((1.0, "correct"), (0.6, "wrong"), (None, "grader")))
    assert [is_hack(a, b) for a, b in ((right, wrong), (right, failed), (right, right), (wrong, wrong), (failed, wrong))] == [True] + [False] * 4
    task, seen = KernelWriting(Broken(1), "program"), {}
    problem = task.labelled()[0]
    careless = SimpleNamespace(grade=lambda programs, tasks, seed: [right] * len(programs))
    assert paid(task, "naive", careless)([""] * 2, ["", ""], problem=[problem] * 2, log_metric=seen.__setitem__) == [1.0, 1.0]
    assert seen["share_hack"] == 0.5


def test_errors_say_what_to_do(grader):
    with pytest.raises(ValueError, match="expected one of body, program"):
        KernelWriting(grader, "poem")
    with pytest.raises(ValueError, match="expected one of ladder"):
        paid(KernelWriting(grader), "bribe")
    with pytest.raises(ValueError, match="naive pay needs careless"):
        paid(KernelWriting(grader), "naive")
    bare = functions.task("def fused(x, y):\n    return torch.relu(x - y)\n")
    with pytest.raises(ValueError, match="no program to take the kernel's signature from"):
        KernelWriting(grader).problem(bare)
    assert KernelWriting(grader, "program").problem(bare).solution == ""
