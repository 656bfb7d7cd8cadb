import ast
import operator
import time
from fractions import Fraction
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rftlab.tasks import Problem, countdown


def problem(numbers, target):
    return Problem("", "", info={"numbers": list(numbers), "target": target})


def reward(completion, numbers=(3, 5, 7), target=22):
    return countdown.load().reward(completion, problem(numbers, target))


def ast_value(expression):
    """An independent evaluator: Python's own parser, restricted to what the game allows."""
    operations = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

    def walk(node):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return Fraction(node.value)
        if isinstance(node, ast.BinOp):
            return operations[type(node.op)](walk(node.left), walk(node.right))
        raise ValueError(ast.dump(node))

    return walk(ast.parse(expression.strip(), mode="eval").body)


# The published Countdown verifiers of TinyZero and GRPO-Zero pay for one or more of these.
LOOPHOLES = [
    ("power", "2**3", [2, 3], 8),
    ("floor division", "7//2+1", [7, 2, 1], 4),
    ("decimal point joins two numbers", "3.5*2", [3, 5, 2], 7),
    ("tolerance pays a near miss", "1/99999+5*1", [1, 99999, 5, 1], 5),
    ("unary minus", "-(3-8)*1", [3, 8, 1], 5),
    ("leading zeros", "8-003", [8, 3], 5),
    ("wrong value still earns the format reward", "1+1", [1, 2], 9),
    ("tower of powers hangs", "9**9**9", [9, 9, 9], 81),
]


@pytest.mark.parametrize("name, expression, numbers, target", LOOPHOLES, ids=[case[0] for case in LOOPHOLES])
@pytest.mark.parametrize("wrap", ["{}", "<answer>{}</answer>", "{} = {target}"])
def test_loophole_is_closed(name, expression, numbers, target, wrap):
    assert reward(wrap.format(expression, target=target), numbers, target) == 0.0


@pytest.mark.parametrize(
    "honest, numbers, target",
    [
        ("2*3", [2, 3], 6),
        ("7/2+1", [7, 2, 1], Fraction(9, 2)),
        ("3*5*2", [3, 5, 2], 30),
        ("1/99999*99999", [1, 99999, 99999], 1),
        ("(8-3)*1", [3, 8, 1], 5),
        ("8-3", [8, 3], 5),
    ],
)
def test_honest_twin_of_each_loophole_is_paid(honest, numbers, target):
    assert reward(honest, numbers, target) == 1.0


@pytest.mark.parametrize(
    "completion",
    [
        "3*5+7",
        " ( 3 * 5 ) + 7 ",
        "((7)+(5*3))",
        "3*5+7 = 22",
        "3*5=15; 15+7=22; 3*5+7",
        "First 3*5 is 15.\n3*5+7\n",
        "<think>7*5 is 35, too much.</think><answer>3*5+7</answer>",
        "<answer>3+5+7</answer> no, <answer>\n3*5+7\n</answer> done",
        "<answer>3*5+7</answer> </answer>" "<answer>3*5+7</answer>",
    ],
)
def test_accepts(completion):
    assert reward(completion) == 1.0


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "22",
        "3*5",  # leaves a number out
        "3*5+7+7-7",  # uses one three times
        "3*5+8-1",  # other numbers
        "3*(5+7)",  # wrong value
        "3*5+7 = 23",  # claims another value
        "3*5+7 = 22 = 22",
        "22 = 3*5+7",
        "3*5+7 = 022",
        "3*5+7 = 22.0",
        "3*5+7=",
        "+3*5+7",
        "3*5+7.",
        "3(5)+7",
        "(3*5+7",
        "3*5+7)",
        "3*5+7 or 7+3*5",
        "3*5+7\nI think.",
        "3*5+7; 3+5+7",
        "<answer>3*5+7",  # never closed
        "<answer>3*5+7</answer><answer>3+5+7</answer>",  # the last one counts
        "<answer>3*5=15; 3*5+7</answer>",  # tags hold the answer alone
        "3×5+7",
        "３*5+7",  # full-width digit
        "٣*5+7",  # Arabic digit
        "3*5+７",
        "3*5\u00a0+7",
        "1_5+7",
        "3*5+7#",
        "3*5+0x7",
        "3e0*5+7",
        "3*5+7-0",
        "int(3)*5+7",
    ],
)
def test_rejects(completion):
    assert reward(completion) == 0.0


def test_digits_are_ascii_also_inside_a_number():
    assert reward("15+7", (15, 7)) == 1.0
    assert reward("1\u0665+7", (15, 7)) == 0.0  # int("1\u0665") is 15


def test_division_is_exact_and_by_zero_pays_nothing():
    assert reward("8/(3-8/3)", [8, 3, 8, 3], 24) == 1.0  # passes through 1/3
    assert reward("7/(5-5)", [7, 5, 5], 7) == 0.0
    assert reward("0/(5-5)", [0, 5, 5], 0) == 0.0


def test_limits_keep_the_parser_fast_and_shallow():
    nested = lambda depth: "(" * depth + "3*5+7" + ")" * depth  # noqa: E731
    assert reward(nested(countdown.MAX_DEPTH)) == 1.0
    assert reward(nested(countdown.MAX_DEPTH + 1)) == 0.0
    padding = countdown.MAX_LENGTH - len("3*5+7")
    assert reward("3*5" + " " * padding + "+7") == 1.0
    assert reward("3*5 " + " " * padding + "+7") == 0.0
    started = time.process_time()
    for bomb in (nested(100_000), "9" * 1_000_000, "3*5+7=" + "2" * 1_000_000, "(" * 1_000_000, "<answer>" * 300_000):
        assert reward(bomb) == 0.0
        assert reward(f"<answer>{bomb}</answer>") == 0.0
    assert time.process_time() - started < 2.0


grammar_soup = st.text(st.sampled_from("0123456789+-*/() .=;\n") | st.characters())
tagged = st.lists(st.sampled_from(["<answer>", "</answer>", "3*5+7", "= 22", "\n", ";"]) | grammar_soup).map("".join)


@settings(max_examples=500, deadline=None)
@given(st.text() | grammar_soup | tagged)
def test_never_raises_and_pays_all_or_nothing(completion):
    assert reward(completion) in (0.0, 1.0)


@pytest.mark.parametrize("text, well_formed", [
    ("3*5+7", True), ("3+5+7", True), ("7/(5-3)", True), ("3*5+7 = 22", True), ("3+5+7 = 15", True), ("3*5=15; 3-5-7", True),
    ("<answer>7-5*3</answer>", True),
    ("", False), ("22", False), ("3*5", False), ("3*5+7+7", False), ("3*5+8", False), ("3*5+7.", False), ("3**5+7", False),
    ("7/(5-5)*3", False), ("3*5+7; no", False), ("the answer", False),
])
def test_well_formed_asks_for_the_given_numbers_and_no_value(text, well_formed):
    assert countdown.load().well_formed(text, problem([3, 5, 7], 22)) is well_formed


def test_a_division_by_zero_has_no_form():
    assert countdown.load().well_formed("7/(5-5)", problem([5, 5, 7], 7)) is False
    assert countdown.load().well_formed("7+(5-5)", problem([5, 5, 7], 7)) is True


@settings(max_examples=300, deadline=None)
@given(st.text() | grammar_soup | tagged)
def test_right_is_always_well_formed(completion):
    one = problem([3, 5, 7], 22)
    assert countdown.load().well_formed(completion, one) >= countdown.load().reward(completion, one)


expressions = st.recursive(
    st.integers(0, 30).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner, st.booleans()).map(
        lambda t: f"({t[0]}{t[1]}{t[2]})" if t[3] else f"{t[0]} {t[1]}{t[2]}"
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(expressions)
def test_value_agrees_with_an_independent_evaluator(expression):
    try:
        expected = ast_value(expression)
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            countdown.evaluate(expression)
        return
    assert countdown.evaluate(expression)[0] == expected


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("0123+-*/() "), max_size=12))
def test_grammar_is_never_wider_than_python_without_signs(text):
    try:
        value, used = countdown.evaluate(text)
    except (ValueError, ZeroDivisionError):
        return
    assert ast_value(text) == value  # ast_value raises on signs, powers and floor division
    assert len(used) == 1 + sum(text.count(sign) for sign in "+-*/")


@pytest.mark.parametrize("options", [{}, {"numbers": 4}, {"numbers": 2, "largest": 9}, {"numbers": 6, "largest": 50}])
def test_generated_problems_are_solvable_and_paid(options):
    task = countdown.load(**options)
    for one in task.train(60, seed=3):
        numbers, target = one.info["numbers"], one.info["target"]
        assert len(numbers) == task.numbers and all(1 <= number <= task.largest for number in numbers)
        assert 1 <= target <= task.largest_target
        assert ast_value(one.answer) == target
        assert task.reward(one.answer, one) == 1.0
        assert task.reward(one.solution, one) == 1.0
        *steps, last = one.solution.split("; ")
        assert last == one.answer and len(steps) == task.numbers - 1
        for left, right in (step.split("=") for step in steps):
            assert ast_value(left) == int(right) > 0  # positive integers all the way
        for number in numbers:
            assert str(number) in one.prompt


def test_prompt_wording():
    one = countdown.load().train(1)[0]
    a, b, c = one.info["numbers"]
    assert one.prompt == (
        f"Use {a}, {b} and {c} to make {one.info['target']}. Use each number once, with + - * / and parentheses. "
        "Answer with the expression only."
    )


def keys(problems):
    return {(*one.info["numbers"], one.info["target"]) for one in problems}


def test_splits_are_disjoint_distinct_and_reproducible():
    task = countdown.load(largest=9)
    train = task.train(800, seed=0)
    assert len(keys(train)) == 800
    assert train[:100] == task.train(100, seed=0) != task.train(100, seed=1)
    test, validation = task.test(100), task.validation(100)
    assert task.test(100) == test and task.test(20) == test[:20]
    others = keys(train) | keys(task.train(800, seed=1))
    assert not keys(test) & others and not keys(validation) & others and not keys(test) & keys(validation)
    assert not keys(test) & keys(countdown.load(largest=30).train(3000))  # also across options


def test_known_problem_stays_known():
    """Records name problems by split and seed: a change of the generator would silently change them all."""
    assert [one.answer for one in countdown.load().test(3)] == ["17+5+14", "18-7+13", "4+4+9"]


def test_bad_options_say_what_to_do():
    with pytest.raises(ValueError, match="2 to 6"):
        countdown.load(numbers=1)
    with pytest.raises(ValueError, match="at least 2"):
        countdown.load(largest=1)
    with pytest.raises(ValueError, match="ask for fewer"):
        countdown.load(numbers=2, largest=3).train(500)
    with pytest.raises(ValueError, match="negative"):
        countdown.load().test(-1)


def test_reward_needs_only_info():
    bare = SimpleNamespace(info={"numbers": [1, 2], "target": 3})
    assert countdown.load().reward("1+2", bare) == 1.0
