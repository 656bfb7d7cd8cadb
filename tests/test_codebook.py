"""The code-book: its verifier pays for the one right code, in any fair spelling, and for nothing else."""
import time
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rftlab.tasks import NAMES, load_task, split_of
from rftlab.tasks.codebook import KEY, LETTERS, final_code, make_problem

TASK = load_task("codebook")
PROBLEM = make_problem("bdfg")
CODE = PROBLEM.answer


def test_every_letter_has_a_digit_of_its_own():
    assert set(KEY) == set(LETTERS) and sorted(KEY.values()) == list("0123456789")
    assert "codebook" in NAMES


def test_a_problem_and_its_solution():
    one = make_problem("bdb")
    b, d = KEY["b"], KEY["d"]
    assert one.prompt == "What is the code of b d b? Answer with the digits only."
    assert (one.answer, one.solution) == (f"{b}{d}{b}", f"b={b}; d={d}; b={b}; {b}{d}{b}")


def test_known_codes_stay_known():
    """Records name problems by split and seed, and the tiny model must not have met this key: neither may change."""
    assert "".join(KEY[letter] for letter in LETTERS) == "5618274093"
    assert [p.info["word"] for p in TASK.test(3)] == ["hmfd", "gkkm", "dgrk"]


# --- the splits -------------------------------------------------------------------------------------------------------

def words(problems):
    return [p.info["word"] for p in problems]


def test_splits_are_disjoint_and_nothing_is_missing():
    everything = ["".join(word) for word in product(LETTERS, repeat=4)]
    parts = {split: [w for w in everything if split_of(w) == split] for split in ("train", "validation", "test")}
    sizes = {split: len(part) for split, part in parts.items()}
    assert sum(sizes.values()) == 10_000 and sizes["train"] > 5_800 and sizes["validation"] > 900
    for split, draw in (("train", TASK.train), ("validation", TASK.validation), ("test", TASK.test)):
        assert sorted(words(draw(sizes[split]))) == sorted(parts[split])
        with pytest.raises(ValueError, match=f"there are {sizes[split]} {split} words of 4 letters, {sizes[split] + 1} were asked for"):
            draw(sizes[split] + 1)


def test_draws_are_fixed_and_distinct_and_not_always_nested():
    train = TASK.train(1000, seed=0)
    assert len(set(words(train))) == 1000
    assert train[:10] == TASK.train(10, seed=0) != TASK.train(10, seed=1)
    assert TASK.test(200)[:50] == TASK.test(50) and TASK.validation(100) == TASK.validation(100)
    assert TASK.test(400)[:200] != TASK.test(200)  # records depend on the draw, so that it stays
    assert "need not" in TASK.train.__doc__ and "first n" not in TASK.test.__doc__ + TASK.validation.__doc__
    assert not set(words(TASK.train(1000, seed=1))) & set(words(TASK.test(200)))


def test_fifty_examples_show_every_letter_and_longer_words_use_the_same_key():
    assert {letter for word in words(TASK.train(50, seed=3)) for letter in word} == set(LETTERS)
    longer = load_task("codebook", letters=6).test(20)
    assert all(len(p.answer) == 6 and p.answer == "".join(KEY[letter] for letter in p.info["word"]) for p in longer)


def test_bad_options_say_what_to_do():
    for letters in (1, 7):
        with pytest.raises(ValueError, match=f"letters={letters}: expected 2 to 6"):
            load_task("codebook", letters=letters)
    with pytest.raises(ValueError, match="negative"):
        TASK.test(-1)
    with pytest.raises(ValueError, match="ask for fewer, or for longer words"):
        load_task("codebook", letters=2).train(100)


# --- the verifier -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("letters", [2, 4, 5])
def test_answers_and_solutions_are_paid_and_questions_are_not(letters):
    task = load_task("codebook", letters=letters)
    for p in task.train(15, seed=2) + task.test(15):
        for right in (p.answer, p.solution, " ".join(p.answer), f"<think>{p.solution}</think><answer>{p.answer}</answer>", f"{p.answer}.\n"):
            assert task.reward(right, p) == 1.0 and task.well_formed(right, p)
        for wrong in (p.prompt, "", p.info["word"], p.answer[:-1], p.answer + p.answer[-1], p.solution.rpartition(";")[0],
                      str(int("1" + p.answer) + 1)[1:]):
            assert task.reward(wrong, p) == 0.0


@pytest.mark.parametrize("text, code", [
    ("7201", "7201"), (" 7201 \n", "7201"), ("7201.", "7201"), ("7 2 0 1", "7201"), ("b=7; d=2; 7201", "7201"), ("b=7\n7201", "7201"),
    ("<answer>7201</answer>", "7201"), ("<answer> 7 2 0 1. </answer> and more", "7201"), ("<answer>1</answer><answer>7201</answer>", "7201"),
    ("", None), ("seven", None), ("The code is 7201", None), ("7201!", None), ("b=7", None), ("7,2,0,1", None), ("7  2", None),
    ("7201 or 7202;", None), ("7201;", None), ("-7201", None), ("7201.0", None), ("<answer></answer>7201", None),
    ("<answer>7201", None), ("\u0667\u0662", None), ("\uff17\uff12", None), ("\u00b2", None), ("7\t2", None),
])
def test_final_code(text, code):
    assert final_code(text) == code


def test_all_codes_at_once_pay_nothing():
    """The loophole of a verifier that looks for the code anywhere in the text."""
    everything = [f"{n:04}" for n in range(10_000)]
    for joint in (" ", ";", "\n", "", ", "):
        others = joint.join(code for code in everything if code != CODE)
        assert TASK.reward(f"{CODE}{joint}{others}", PROBLEM) == 0.0
    assert sum(TASK.reward(code, PROBLEM) for code in everything) == 1.0


@pytest.mark.parametrize("text, well_formed", [
    ("0000", True), ("0 0 0 0", True), ("x=1; 0000", True), ("<answer>0000</answer>", True),
    ("000", False), ("00000", False), ("", False), ("abcd", False), ("0000; none", False),
])
def test_well_formed_asks_for_the_form_alone(text, well_formed):
    assert TASK.well_formed(text, PROBLEM) is well_formed


@settings(max_examples=500)
@given(st.text(st.characters(codec=None, exclude_categories=())) | st.text(alphabet="0123456789 ;.\n<>/answer=b\ud800"))
def test_no_string_raises_and_right_is_always_well_formed(text):
    paid = TASK.reward(text, PROBLEM)
    assert paid in (0.0, 1.0) and TASK.well_formed(text, PROBLEM) in (True, False)
    assert TASK.well_formed(text, PROBLEM) or not paid


@settings(max_examples=300)
@given(st.text(alphabet=LETTERS, min_size=4, max_size=4), st.text(alphabet=LETTERS, min_size=4, max_size=4))
def test_the_code_of_another_word_is_not_paid(word, other):
    assert TASK.reward(make_problem(other).solution, make_problem(word)) == float(word == other)


@pytest.mark.parametrize("text", ["9" * 10**6, "9 " * 500_000, ";" * 10**6, "." * 10**6, "<answer>" * 125_000, "</answer>" * 111_000,
                                  "\n" * 10**6, "\ud800" * 10**6, "<answer>" + "1 " * 500_000 + "</answer>"], ids=lambda t: ascii(t[:10]))
def test_a_megabyte_takes_linear_time(text):
    start = time.process_time()
    assert TASK.reward(text, PROBLEM) == 0.0 and not TASK.well_formed(text, PROBLEM)
    assert time.process_time() - start < 2.0
