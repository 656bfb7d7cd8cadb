import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rftlab.tasks import NAMES, THINK_INSTRUCTION, Problem, load_task, split_of, thinking
from rftlab.tasks.arithmetic import FORMS, LEVELS, final_answer, make_problem, operations, worked_solution

TASK = load_task("arithmetic")


def content(problem):
    a, b = sorted((problem.info["a"], problem.info["b"]))
    return a, problem.info["op"], b


# --- the task ---------------------------------------------------------------------------------------------------------

def test_unknown_names_and_options_say_what_exists():
    with pytest.raises(ValueError, match="arithmetic"):
        load_task("arithmetics")
    with pytest.raises(ValueError, match="level"):
        load_task("arithmetic", level=6)
    with pytest.raises(ValueError, match="plain"):
        load_task("arithmetic", forms=("plain", "sung"))
    assert "arithmetic" in NAMES


def test_the_four_wordings():
    assert make_problem(34, "+", 58).prompt == "What is 34 + 58? Answer with the number only."
    assert make_problem(34, "+", 58, "symbolic").prompt == "34 + 58 ="
    assert make_problem(34, "+", 58, "words").prompt == "What is the sum of 34 and 58?"
    assert make_problem(34, "+", 58, "story").prompt == (
        "Mia has 34 shells and gets 58 more. How many shells does Mia have now?")
    assert make_problem(7, "*", 34, "story").prompt.startswith("Mia fills 7 boxes with 34 shells each.")
    assert {p.info["form"] for p in TASK.test(100)} == set(FORMS)
    assert {p.info["form"] for p in load_task("arithmetic", forms="plain").train(50)} == {"plain"}


@pytest.mark.parametrize("a, op, b, solution", [
    (34, "+", 58, "4+8=12 carry 1; 3+5+1=9; 92"),
    (58, "+", 71, "8+1=9; 5+7=12; 129"),
    (3, "+", 4, "3+4=7; 7"),
    (52, "-", 38, "12-8=4 borrow 1; 5-3-1=1; 14"),
    (100, "-", 1, "10-1=9 borrow 1; 10-0-1=9 borrow 1; 1-0-1=0; 99"),
    (34, "*", 6, "4*6=24 carry 2; 3*6+2=20; 204"),
    (6, "*", 34, "4*6=24 carry 2; 3*6+2=20; 204"),
])
def test_worked_solutions_by_hand(a, op, b, solution):
    assert worked_solution(a, op, b) == solution


@pytest.mark.parametrize("level", LEVELS)
def test_every_solution_and_answer_is_rewarded_and_no_question_is(level):
    task = load_task("arithmetic", level=level)
    for p in task.train(200, seed=3) + task.test(200):
        assert int(p.answer) == {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[p.info["op"]](p.info["a"], p.info["b"])
        assert int(p.answer) >= 0
        for right in (p.answer, p.solution, f"<think>{p.solution}</think><answer>{p.answer}</answer>", f"It is {p.answer}."):
            assert task.reward(right, p) == 1.0
        for wrong in (p.prompt, p.prompt + " " + p.prompt, "", str(int(p.answer) + 1), "-" + p.answer + "1"):
            assert task.reward(wrong, p) == 0.0


@given(st.sampled_from([(a, op, b) for level in (1, 3, 5) for a, op, b in operations(level)]))
def test_each_column_of_a_solution_is_true(operation):
    low, op, high = operation
    *steps, answer = worked_solution(high, op, low).split("; ")
    assert int(answer) == {"+": high + low, "-": high - low, "*": high * low}[op]
    for step in steps:
        left, right = step.split(" ")[0].split("=")
        first, *rest = left.replace("-", " -").replace("+", " +").split()
        x, _, times = first.partition("*")
        assert int(x) * int(times or 1) + sum(map(int, rest)) == int(right)


# --- the splits -------------------------------------------------------------------------------------------------------

def test_splits_share_no_pair_at_any_level():
    seen = {}
    for level in LEVELS:
        task = load_task("arithmetic", level=level)
        for split, problems in (("train", task.train(300, seed=level)), ("validation", task.validation(60)), ("test", task.test(200))):
            for p in problems:
                assert seen.setdefault(content(p), split) == split


def test_the_whole_of_level_2():
    parts = {s: [o for o in operations(2) if split_of("{}{}{}".format(*o)) == s] for s in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == 90 * 91 // 2
    everything = TASK.train(len(parts["train"]))
    assert len({content(p) for p in everything}) == len(everything)
    assert {content(p) for p in everything} == set(parts["train"])
    with pytest.raises(ValueError, match=f"{len(parts['train'])} different train problems"):
        TASK.train(len(parts["train"]) + 1)
    with pytest.raises(ValueError, match="negative"):
        TASK.train(-1)


def test_split_does_not_depend_on_the_process():
    assert [split_of(s) for s in ("34+58", "10+10", "11+12", "98+99")] == ["test", "test", "train", "train"]


def test_draws_are_fixed_and_nested():
    assert TASK.test(200) == TASK.test(200) and TASK.test(50) == TASK.test(200)[:50]
    assert TASK.train(50, seed=1) == TASK.train(500, seed=1)[:50]
    assert TASK.train(50, seed=1) != TASK.train(50, seed=2)
    random.seed(5)
    before = random.getstate()
    TASK.train(5)
    assert random.getstate() == before


def test_problems_are_values():
    p = TASK.test(1)[0]
    assert hash(p) == hash(Problem(p.prompt, p.answer, p.solution, dict(p.info)))
    assert thinking(p).prompt == p.prompt + THINK_INSTRUCTION and thinking(p).answer == p.answer


# --- the verifier -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, answer", [
    ("92", "92"), ("92.", "92"), ("92.0", "92"), ("92.00.", "92"), ("092", "92"), ("  92\n", "92"), ("**92**", "92"), ("$92", "92"),
    ("1,092", "1092"), ("12,345,678", "12345678"), ("It is 92!", "92"), ("92 apples", "92"), ("92kg", "92"),
    ("-7", "-7"), ("= -7", "-7"), ("\u22127", "-7"), ("-0", "0"), ("34-58", "58"), ("(3)-5", "5"), ("- 7", "7"),
    ("34 + 58 = 92", "92"), ("34,58,92", "92"), ("34, 58, 92,", "92"), ("4+8=12 carry 1; 3+5+1=9; 92", "92"),
    ("92.5", None), ("9.2", None), (".92", None), ("1.2.3", None), ("92.01", None), ("", None), ("ninety-two", None),
    ("\u0669\u0662", None), ("\uff19\uff12", None), ("\u00b2", None),
    ("<answer>92</answer>", "92"), ("<answer> 92. </answer> 5", "92"), ("<answer>34 + 58 = 92</answer>", "92"),
    ("<answer>5</answer><answer>92</answer>", "92"), ("<answer>92</answer><answer>5</answer>", "5"),
    ("<answer></answer> 92", None), ("<answer>none</answer> 92", None),
    ("<answer>92", "92"), ("92</answer>", "92"), ("</answer>92<answer>", "92"), ("<answer><answer>92</answer></answer>", "92"),
    ("<think>92</think>", "92"), ("<think>92</think><answer>93</answer>", "93"),
    # other minus signs
    ("= \u201352", "-52"), ("\u201252", "-52"), ("\uff0d52", "-52"), ("34\u201352", "52"), ("\u2013 52", "52"),
    # one number with what is glued to it
    ("52\u00bd", None), ("52\u00b2", None), ("52\u0663", None), ("52.\u0663", None), ("\u066352", None), ("\u00bd52", None), ("\u0663 52", "52"),
    ("x\u00b2 = 52", "52"), ("1e52", None), ("1.5E+52", None), ("1e-52", None), ("1e\u221252", None), ("52e1", None), ("1e5.2", None),
    ("52e", "52"), ("4e:52", "52"), ("the 52", "52"), ("e52", "52"), ("0x52", None), ("0X52", None), ("-0x52", None), ("0xA52", None), ("0x52.52", None),
    ("x=52", "52"), ("10x5=50, 52", "52"), ("0x3=0; 52", "52"), ("0x3 52", "52"),
    # fractions
    ("1/52", None), ("-1/52", None), ("1/-52", None), ("1\u204452", None), ("1/1,052", None), ("52/2", None), ("and/or 52", "52"), ("52/day", "52"),
    ("3+5/1=8; 52", "52"), ("104/2=52", "52"), ("104/2 = 52", "52"), ("1 / 52", "52"),
    # groups of three digits
    ("1'052", "1052"), ("1\u2019052", "1052"), ("1\u00a0052", "1052"), ("1\u202f052", "1052"), ("1\u2009052", "1052"), ("-12'345'678.0", "-12345678"),
    ("34,1'052", "1052"), ("1'052.5", None), ("1e1'052", None), ("4\u00a0+\u00a08\u00a0=\u00a012", "12"), ("12'34", "34"), ("1'0521", "521"),
    ("1'052'3", "3"), ("'52'", "52"), ("add 4 052", "52"), ("the sum of 5 and 100", "100"),
])
def test_final_answer(text, answer):
    assert final_answer(text) == answer


@given(st.text(st.characters(codec=None, exclude_categories=())) | st.text(alphabet="0123456789.,-<>/answer xeE'\u00a0\u00bd\u0663\x00\u2212\u2013\ud800"))
@settings(max_examples=500)
def test_no_string_raises(text):
    assert TASK.reward(text, TASK_PROBLEM) in (0.0, 1.0)


@pytest.mark.parametrize("answer, wrong", [
    ("1,000", "1"), ("1'000", "1"), ("92.0", "9"), ("\u22125", "5"), ("05", "50"), ("+5", "-5"), ("0", "-1"), ("92.5", "92.5"), ("none", "none"), ("", "")])
def test_an_answer_is_read_as_a_completion_is(answer, wrong):
    """Answers of your own may be spelled like those of a policy; one that is no integer is never paid."""
    problem = Problem("?", answer)
    assert TASK.reward(wrong, problem) == 0.0
    assert TASK.reward(answer, problem) == float(final_answer(answer) is not None) == TASK.reward(f"It is {answer}.", problem)


@pytest.mark.parametrize("text, well_formed", [
    ("93", True), ("It is -7.", True), ("34 + 58 = 93", True), ("<answer>0</answer>", True), ("92", True),
    ("", False), ("ninety-two", False), ("92.5", False), ("<answer>none</answer> 92", False), ("\u0669\u0662", False),
])
def test_well_formed_asks_for_a_number_right_or_not(text, well_formed):
    assert TASK.well_formed(text, TASK_PROBLEM) is well_formed


@given(st.text(st.characters(codec=None, exclude_categories=())) | st.text(alphabet="0123456789.,-<>/answer"))
def test_right_is_always_well_formed(text):
    assert TASK.well_formed(text, TASK_PROBLEM) >= TASK.reward(text, TASK_PROBLEM)


@given(st.integers(-10**30, 10**30), st.text(st.characters(codec="ascii", exclude_characters="0123456789.,<>")))
def test_a_number_is_read_however_it_is_written(n, before):
    before = before + " = "
    assert final_answer(f"{before}{n}") == str(n)
    assert final_answer(f"{before}{n:,}") == str(n)
    assert final_answer(f"{before}{n}.0") == str(n)
    assert final_answer(f"{before}<answer>{n}</answer> 1 2 3") == str(n)


@given(st.lists(st.integers(0, 999), min_size=2, max_size=40))
def test_only_the_last_of_many_numbers_counts(numbers):
    assert TASK.reward(" ".join(map(str, numbers)), TASK_PROBLEM) == float(numbers[-1] == 92)


TASK_PROBLEM = make_problem(34, "+", 58)


@pytest.mark.parametrize("text", [
    " ".join(map(str, range(10, 199))), "92 93", "91 or 92 or 93", "92, no, 93", "<answer>92 93</answer>", "<answer>92</answer><answer>0</answer>",
    "What is 34 + 58? Answer with the number only.", "34 + 58", "92.5", "0.92", "9 2", "192", "9.2e1", "__import__('os').getpid()", "34+58=",
    "nan", "inf", "True", "92-", "92-1", "\u0669\u0662", "<answer>92", "<answer>92</answer", "x" * 92,
])
def test_tricks(text):
    honest = {"92-", "<answer>92", "<answer>92</answer"}  # cut off or untidy, but 92 is the last thing said
    assert TASK.reward(text, TASK_PROBLEM) == float(text in honest)


@pytest.mark.parametrize("text", [
    "9" * 10**6, "-" * 10**6, "1," * 500_000, "1.1" * 300_000, "1 " * 500_000, "<answer>" * 125_000, "</answer>" * 111_000,
    "<answer></answer>" * 60_000, "0" * 10**6 + "92", "," * 10**6, "\x00" * 10**6, "\ud800" * 10**6, "1,234" * 200_000, "-." * 500_000,
    "1'052" * 200_000, "1'" * 500_000, "1e" * 500_000, "1/" * 500_000, "0x" * 500_000, "0x" + "a" * 10**6,
], ids=lambda t: ascii(t[:12]))
def test_a_megabyte_takes_linear_time(text):
    start = time.process_time()
    assert TASK.reward(text, TASK_PROBLEM) == float(text.endswith("92"))
    assert time.process_time() - start < 2.0
