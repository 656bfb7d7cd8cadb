"""The checks of notebook 04 accept the solutions, know the stubs, and explain wrong answers."""
import functools
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import notebook_cells
from rftlab import significance
from rftlab.checks import rft_vs_sft as check
from rftlab.tasks import split_of

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
EXERCISES = ["fair_plan", "find_leak", "seeds_needed", "new_size"]
run_cells = functools.partial(notebook_cells.run_cells, namespace={"check": check})


@pytest.fixture(scope="module")
def solutions():
    return run_cells(NOTEBOOKS / "solutions" / "04_rft_vs_sft.ipynb")


def test_the_stubs_are_not_attempted():
    _, printed = run_cells(NOTEBOOKS / "04_rft_vs_sft.ipynb", lambda cell: re.search(r"^check\.", cell.source, re.MULTILINE))
    assert [line for line in printed.splitlines() if "attempted" in line] == [f"not attempted: {name}" for name in EXERCISES]


def test_the_solutions_pass(solutions):
    passed = [line for line in solutions[1].splitlines() if "passed" in line or "attempted" in line]
    assert passed == [f"passed: {name}" for name in EXERCISES]


PLAN = {"arms": ["base", "sft-answers", "sft-solutions", "rft", "rft-random"], "seeds": 10, "same_problems": True, "tuned_on": "validation",
        "tuning_runs": {"sft-answers": 3, "sft-solutions": 3, "rft": 3, "rft-random": 3}, "step_chosen_on": "validation",
        "compared_on": "test", "difference": "paired", "correction": True}


@pytest.mark.parametrize("change, hint", [
    ({"arms": ["base", "rft", "rft-random"]}, "name both arms"), ({"arms": ["base", "rft", "rft-random", "sft-answers"]}, "straw man"),
    ({"arms": PLAN["arms"][1:]}, "untrained"), ({"arms": PLAN["arms"][:-1]}, "control"), ({"seeds": 3}, "at least 5"),
    ({"same_problems": False}, "same examples"), ({"tuning_runs": {**PLAN["tuning_runs"], "rft": 9}}, "tuned more"),
    ({"tuning_runs": {}}, "at least 2"), ({"tuned_on": "test"}, "seen the test"), ({"step_chosen_on": "train"}, "early stopping"),
    ({"compared_on": "validation"}, "no choice has seen"), ({"difference": "unpaired"}, "within each seed"),
    ({"correction": False}, "false alarm"), ({"seeds": "five"}, "type int")])
def test_a_plan_that_is_not_fair(change, hint, capsys):
    check.fair_plan(lambda: PLAN)
    assert capsys.readouterr().out == "passed: fair_plan\n"
    with pytest.raises(AssertionError, match=hint):
        check.fair_plan(lambda: {**PLAN, **change})


@pytest.mark.parametrize("plan", [{}, "RFT wins", {k: v for k, v in PLAN.items() if k != "seeds"}])
def test_an_incomplete_plan(plan):
    with pytest.raises(AssertionError, match="says nothing about"):
        check.fair_plan(lambda: plan)


def test_the_planted_leaks_are_what_they_are_called():
    prompts = {p.prompt for p in check.planted_study("none")["test"]}
    for leak in check.LEAKS:
        study = check.planted_study(leak)
        train = study["arms"]["rft"]["train"]
        assert not prompts & {p.prompt for p in train}, "no leak is visible in the wording"
        splits = {split_of("{}{}{}".format(min(p.info["a"], p.info["b"]), "+", max(p.info["a"], p.info["b"]))) for p in train}
        assert splits == ({"train", "test"} if leak == "test in train" else {"train"})
    with pytest.raises(ValueError, match="unequal data"):
        check.planted_study("bad luck")


def by_prompt(solve):
    """Compares wordings, and else does as the solution."""
    def find(study):
        test = {p.prompt for p in study["test"]}
        if any(p.prompt in test for arm in study["arms"].values() for p in arm["train"]):
            return "test in train"
        found = solve(study)
        return "none" if found == "test in train" else found
    return find


def blind_to(leak):
    return lambda solve: lambda study: "none" if solve(study) == leak else solve(study)


def only(arm):
    """Looks at the choices of one arm alone."""
    def wrong(solve):
        def find(study):
            other = {k: v for k, v in study["arms"][arm].items() if k in ("tuned_on", "step_chosen_on")}
            return solve({**study, "arms": {name: {**one, **other} for name, one in study["arms"].items()}})
        return find
    return wrong


def number_only(solve):
    def find(study):
        found = solve(study)
        same = len({len(arm["train"]) for arm in study["arms"].values()}) == 1
        return "none" if found == "unequal data" and same else found
    return find


@pytest.mark.parametrize("wrong, hint", [
    (by_prompt, "not their wording"), (blind_to("rate chosen on test"), "learning rate is a choice"), (blind_to("step chosen on test"), "best step"),
    (only("rft"), "look at both arms"), (only("sft"), "look at both arms"), (blind_to("unequal tuning"), "tuning runs"),
    (number_only, "not only their number"), (lambda solve: lambda study: "unequal tuning", "this study is fair"),
    (lambda solve: lambda study: "bad luck", "return one of")])
def test_a_leak_that_is_missed(wrong, hint, solutions):
    with pytest.raises(AssertionError, match=hint):
        check.find_leak(wrong(solutions[0]["find_leak"]))


@pytest.mark.parametrize("shift, hint", [(-1, "one more"), (1, "one fewer")])
def test_seeds_off_by_one(shift, hint, solutions):
    with pytest.raises(AssertionError, match=hint):
        check.seeds_needed(lambda spread, difference: solutions[0]["seeds_needed"](spread, difference) + shift)


def test_the_rule_of_thumb_is_named():
    with pytest.raises(AssertionError, match="rule of thumb"):
        check.seeds_needed(lambda spread, difference: max(2, round((2.8 * spread / difference) ** 2)))
    assert significance.detectable(0.05, 8) <= 0.06 < significance.detectable(0.05, 7)


def record(size=30, accuracy=0.8, n=100, steps=5):
    return SimpleNamespace(size=size, metrics=[{}] * steps, final={"accuracy": {"mean": accuracy, "n": n}})


@pytest.mark.parametrize("answer, hint", [
    ((50, 0.6, 0.9, record(50)), "in the records already"), ((30, 0.1, 0.9, record()), "no prediction"), ((30, 0.9, 0.6, record()), "no prediction"),
    ((30, 0.6, 0.9, record(20)), "as many examples"), ((30, 0.6, 0.9, record(n=10)), "as many examples"),
    ((30, 0.6, 0.9, record(steps=0)), "as many examples"), ((30, 0.6, 0.7, record()), "that is a result")])
def test_a_new_size_that_was_not_run_as_predicted(answer, hint, capsys):
    check.new_size(lambda: (30, 0.6, 0.9, record()))
    assert capsys.readouterr().out == "passed: new_size\n"
    with pytest.raises(AssertionError, match=hint):
        check.new_size(lambda: answer)
