"""Checks for notebook 10: where a writer fails, a reward of one's own, a fair control, leaks, and a kernel by hand.

Each function takes the reader's answer; see rftlab.checks for what it prints and raises.
"""
import torch

from rftlab.checks import exercise, expect_close

ORDER = ("format", "rules", "compile", "run", "wrong", "correct")
FAILURES = {"compile": 4, "run": 2, "wrong": 1}  # of seven attempts that fail, as in notebook 09


@exercise
def fall_rates(answer) -> None:
    """Exercise 1: `fall_rates(stages) -> list of 5`: of the completions that came as far as a rung, the share that ended there."""
    hint = "divide by how many came as far as this rung, and not by how many there are."
    for stages, expected in (
            (["format", "rules", "compile", "run", "wrong", "correct"], [1 / 6, 1 / 5, 1 / 4, 1 / 3, 1 / 2]),
            (["wrong"] * 6 + ["correct"] * 2, [0.0, 0.0, 0.0, 0.0, 0.75]),
            (["rules"] * 3 + ["wrong"], [0.0, 0.75, 0.0, 0.0, 1.0]),
            (["correct"], [0.0] * 5)):
        plain = [sum(s == stage for s in stages) / len(stages) for stage in ORDER[:5]]
        got = answer(list(stages))
        if isinstance(got, (list, tuple)) and len(got) == 6:
            raise AssertionError("six numbers came\n  hint: nobody falls at the last stage, which is the goal: five rungs")
        expect_close(got, expected, case=f"stages {stages}", hint=hint, slips=((plain, hint),) if plain != expected else ())
    got = answer(["format", "format"])
    if list(got) != [1.0, None, None, None, None]:
        raise AssertionError(f"stages ['format', 'format']: expected [1.0, None, None, None, None], got {got!r}\n"
                             "  hint: where nobody came, nothing was measured; None, and no division by zero.")


@exercise
def my_reward(answer) -> None:
    """Exercise 2: `my_reward(stage, matched) -> float`; honest attempts pay from one success in ten on, and every rung counts."""
    pay = {stage: answer(stage, 1.0 if stage == "correct" else 0.0) for stage in ORDER}
    half, almost = answer("wrong", 0.5), answer("wrong", 0.99)
    for stage, value in {**pay, "wrong, half of the cases match": half, "wrong, nearly all match": almost}.items():
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise AssertionError(f"{stage}: expected a number from 0 to 1, got {value!r}\n  hint: return a number for every stage")
    if pay["correct"] != 1.0:
        raise AssertionError(f"a right kernel is paid {pay['correct']}\n  hint: the goal pays 1.0, so that rewards can be compared")
    if pay["rules"] > min(pay["compile"], pay["run"], pay["wrong"]):
        raise AssertionError(f"who breaks a rule gets {pay['rules']}, an honest failure {min(pay['compile'], pay['run'], pay['wrong'])}\n"
                             "  hint: cheating must not pay more than failing honestly (notebook 09)")
    if not pay["format"] <= pay["compile"] < pay["run"] < pay["wrong"] < pay["correct"]:
        raise AssertionError(f"paid {pay}\n  hint: a policy that never succeeds needs steps: compile < run < wrong < correct")
    if not pay["wrong"] <= half <= almost < 1.0:
        raise AssertionError(f"wrong in all cases {pay['wrong']}, in half {half}, in few {almost}\n"
                             "  hint: more matching cases may pay more, never less, and never as much as being right")
    f = sum(n * pay[stage] for stage, n in FAILURES.items()) / sum(FAILURES.values())
    threshold = (pay["wrong"] - f) / (1 - f)
    if threshold > 0.1:
        raise AssertionError(f"an honest attempt pays from p = {threshold:.2f} on, storing an input before that\n"
                             "  hint: make the lower steps smaller: (s - f) / (1 - f) with s the pay of a wrong kernel")


@exercise
def gain_of_a_reason(answer) -> None:
    """Exercise 3: `gain_of_a_reason(first, mended, fresh) -> float`: a second turn with the grader's reason, minus one without."""
    hint = "both sides count what was right at once; then repaired counts `mended`, and second try counts `fresh`."
    for first, mended, fresh, expected, naive in (
            ([1, 0, 0, 0], {1: 1, 2: 0, 3: 0}, [1, 1, 0, 0], 0.0, 0.25),
            ([1, 0, 0, 0], {1: 1, 2: 1, 3: 0}, [1, 0, 0, 1], 0.25, 0.5),
            ([1, 1, 0, 0], {2: 1, 3: 0}, [0, 0, 1, 0], 0.0, 0.25),
            ([1, 1, 0, 0], {2: 0, 3: 0}, [1, 0, 1, 1], -0.5, 0.0),
            ([0, 0], {0: 1, 1: 1}, [1, 1], 0.0, 1.0),
            ([1, 1], {}, [0, 1], 0.0, 0.0)):
        sampled = (sum(first) + sum(mended.values()) - sum(fresh)) / len(first)
        expect_close(answer(list(first), dict(mended), list(fresh)), expected, case=f"first {first}, mended {mended}, fresh {fresh}", hint=hint,
                     slips=((naive, "this compares with the first answers: a second chance of any kind is right more often. Use `fresh`."),
                            (sampled, "who was right at once stays right, whatever the fresh sample says.")))


@exercise
def leaks(answer) -> None:
    """Exercise 4: `leaks(train, test) -> list of (i, j)`: which test functions compute what a training function computes?"""
    train = [lambda x, y: x + y, lambda x: x * 2, torch.relu, lambda x: x, lambda x, y: torch.maximum(x, y)]
    for what, test, expected, hint in (
            ("y + x", lambda x, y: y + x, [(0, 0)], "it is the same function in other words: compare numbers, not texts."),
            ("x + x", lambda x: x + x, [(1, 0)], "x * 2 in other words."),
            ("abs(x)", lambda x: x.abs(), [], "it equals x for positive numbers only: try negative ones too."),
            ("x.clamp(min=0)", lambda x: x.clamp(min=0), [(2, 0)], "relu in other words."),
            ("x * x", lambda x: x * x, [], "it equals 2 x at x = 2 only: try many numbers."),
            ("x - y", lambda x, y: x - y, [], "x + y and x - y agree where y is 0: draw numbers that are not."),
            ("a new constant", lambda x: x * 2.001, [], "2 x and 2.001 x lie close together: compare tightly."),
            ("the sum of a row", lambda x: x.sum(dim=-1), [], "results of another shape are another function; comparing must not raise.")):
        got = answer(train, [test])
        if sorted(map(tuple, got if isinstance(got, (list, tuple, set)) else [(got,)])) != expected:
            raise AssertionError(f"{what}: expected {expected}, got {got!r}\n  hint: {hint}")
    if sorted(map(tuple, answer(train, [lambda x, y: y - x, lambda x: x, lambda x, y: y + x]))) != [(0, 2), (3, 1)]:
        raise AssertionError("three test functions, of which the second and the third leak: expected [(0, 2), (3, 1)]\n"
                             "  hint: pairs (place in train, place in test); skip pairs with other numbers of parameters")


BY_HAND = "def fused(x, y):\n    return torch.where(x > y, x, 0.5 * y)\n"


@exercise
def body(answer) -> None:
    """Exercise 5: `body() -> str`, the body of a kernel for BY_HAND, as the writer would have to write it; graded for real."""
    from rftlab.kernels import KernelGrader
    from rftlab.kernels.own import own
    from rftlab.kernels.writing import KernelWriting

    text = answer()
    if not isinstance(text, str):
        raise AssertionError(f"expected the body as a text, got {text!r:.60}\n  hint: return a string of indented lines")
    with KernelGrader(workers=1) as grader:
        task = KernelWriting(grader)
        problem = task.problem(own(BY_HAND))
        grade, = task.grades([text], [problem])
    if grade.score is None:
        raise RuntimeError(f"the grader itself failed: {grade.reasons}; run the cell again")
    if grade.score < 1.0:
        said = "".join(f"\n  {reason}" for reason in grade.reasons[:2])
        hint = {"format": "four blanks before every line, and nothing after the body", "rules": "tl may do all of it, torch nothing",
                "compile": "the compiler's words name the place", "wrong": "tl.where takes a condition and two values"}
        raise AssertionError(f"paid {grade.score} ({grade.stage}){said}\n  hint: {hint.get(grade.stage, 'load both inputs, store one value')}")
