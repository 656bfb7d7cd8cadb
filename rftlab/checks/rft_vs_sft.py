"""Checks for notebook 04: can the reader plan a fair comparison, find what makes one unfair, and say what it can show?

Each function takes the reader's answer; see rftlab.checks for what it prints and raises.
"""
from dataclasses import replace

from rftlab import load_task, significance
from rftlab.checks import exercise, expect_close
from rftlab.tasks.arithmetic import make_problem

LEAKS = ("none", "test in train", "rate chosen on test", "step chosen on test", "unequal tuning", "unequal data")
PLAN = {"arms": list, "seeds": int, "same_problems": bool, "tuned_on": str, "tuning_runs": dict, "step_chosen_on": str,
        "compared_on": str, "difference": str, "correction": bool}


@exercise
def fair_plan(answer) -> None:
    """Exercise 1: `fair_plan() -> dict`, a plan for "does RFT beat SFT with 50 examples?"."""
    plan = answer()
    missing = [key for key in PLAN if key not in plan] if isinstance(plan, dict) else list(PLAN)
    if missing:
        raise AssertionError(f"the plan says nothing about {', '.join(missing)}\n  hint: return a dict with the keys {', '.join(PLAN)}.")
    odd = [f"{key} should be of type {kind.__name__}" for key, kind in PLAN.items() if not isinstance(plan[key], kind)]
    if odd:
        raise AssertionError("; ".join(odd))
    arms, tuning = set(plan["arms"]), plan["tuning_runs"]
    trained = sorted(arm for arm in arms if arm not in ("base", "few-shot"))
    runs = {tuning.get(arm, 0) for arm in trained}
    for fair, why in (
            ({"rft"} <= arms and arms & {"sft-answers", "sft-solutions"}, "it compares RFT with SFT: name both arms."),
            ({"sft-answers", "sft-solutions"} <= arms, "an opponent that you picked yourself is a straw man: train SFT on the answers and on "
             "the solutions."),
            ("base" in arms, "without the untrained policy nobody knows what is a gain."),
            ("rft-random" in arms, "a control is missing: some of RFT's gain may come with any reward."),
            (plan["seeds"] >= 5, "runs of one arm differ by more than the arms may: at least 5 seeds on `tiny`."),
            (plan["same_problems"], "both arms of a seed must see the same examples, or luck with the examples counts as skill."),
            (len(runs) == 1 and min(runs) >= 2, "who was tuned more looks better: the same number of tuning runs, at least 2, for each "
             "arm that trains."),
            (plan["tuned_on"] == "validation", "a learning rate that was chosen on other problems than the validation problems has "
             "either seen the test or fits the training set."),
            (plan["step_chosen_on"] == "validation", "early stopping is a choice too: on validation problems."),
            (plan["compared_on"] == "test", "at the end, once, on problems that no run and no choice has seen."),
            (plan["difference"] == "paired", "the seeds are shared: subtract within each seed, so that shared luck cancels."),
            (plan["correction"] or len(trained) < 2, "several opponents are several chances of a false alarm: correct for them.")):
        if not fair:
            raise AssertionError(f"this plan is not fair yet\n  hint: {why}")


def planted_study(leak: str, seed: int = 0) -> dict:
    """A made-up study of RFT against SFT on sums, with this leak in it. Raises ValueError for an unknown leak.

    {"test": problems, "arms": {name: {"train": problems, "tuning_runs": n, "tuned_on": split, "step_chosen_on": split}}}
    """
    if leak not in LEAKS:
        raise ValueError(f"no leak {leak!r}; there are {', '.join(LEAKS)}")
    task, one = load_task("arithmetic"), ("rft", "sft")[seed % 2]  # the arm that is favoured, or left out
    train, test = task.train(30, seed=seed), task.test(40)
    arms = {name: {"train": list(train), "tuning_runs": 6, "tuned_on": "validation", "step_chosen_on": "validation"} for name in ("rft", "sft")}
    if leak == "test in train":
        for i in (3, 11, 19, 26):  # another wording, operands the other way round: no prompt is the same
            a, b, form = (test[i].info[key] for key in ("a", "b", "form"))
            twin = make_problem(b, "+", a, "words" if form != "words" else "plain")
            for arm in arms.values():
                arm["train"][i] = twin
    elif leak == "rate chosen on test":
        arms[one]["tuned_on"] = "test"
    elif leak == "step chosen on test":
        arms[one]["step_chosen_on"] = "test"
    elif leak == "unequal tuning":
        arms[one]["tuning_runs"] = 1
    elif leak == "unequal data":
        arms["sft"]["train"] = [replace(p, prompt=p.prompt) for p in task.train(30, seed=seed + 1)]
    return {"test": test, "arms": arms}


@exercise
def find_leak(answer) -> None:
    """Exercise 2: `find_leak(study) -> str`, one of LEAKS."""
    hints = {
        "none": "this study is fair. What did you take for a leak?",
        "test in train": "compare what the problems ask, not their wording: a + b and b + a are one problem; see .info.",
        "rate chosen on test": "the learning rate is a choice, and each arm must make it on validation problems: look at both arms.",
        "step chosen on test": "the best step of a run is a choice, and each arm must make it on validation problems: look at both arms.",
        "unequal tuning": "compare how many tuning runs the arms had.",
        "unequal data": "compare the arms' training problems with each other, not only their number."}
    for seed in (0, 1):
        for leak in LEAKS:
            got = answer(planted_study(leak, seed))
            if got not in LEAKS:
                raise AssertionError(f"got {got!r}\n  hint: return one of {', '.join(LEAKS)}")
            if got != leak:
                raise AssertionError(f"a study with the leak {leak!r} was called {got!r}\n  hint: {hints[leak]}")


@exercise
def seeds_needed(answer) -> None:
    """Exercise 3: `seeds_needed(spread, difference) -> int`, for a power of 80 % at 5 %."""
    for spread, difference in ((0.05, 0.06), (0.05, 0.02), (0.2, 0.1), (0.01, 0.5)):
        n = 2
        while significance.detectable(spread, n) > difference:
            n += 1
        expect_close(answer(spread, difference), n, case=f"spread {spread}, difference {difference}",
                     hint="the smallest n whose significance.detectable(spread, n) is at most the difference.",
                     slips=((n - 1, "one more: with this n the detectable difference is still larger."),
                            (n + 1, "one fewer is enough: `at most` the difference."),
                            (round((2.8 * spread / difference) ** 2), "this is the rule of thumb for many seeds, 2.8 standard errors; with "
                             "few seeds t is wider than the normal curve.")))


@exercise
def new_size(answer) -> None:
    """Exercise 4: `new_size() -> (size, low, high, record)`: a prediction for a size without records, and the run."""
    size, low, high, record = answer()
    if size in (0, 1, 10, 50, 100, 500, 1000) or not 1 < size < 1000:
        raise AssertionError(f"size {size} is in the records already, or beyond them\n  hint: choose one between two recorded sizes.")
    if not 0 <= low < high <= 1 or high - low > 0.5:
        raise AssertionError(f"from {low} to {high} is no prediction\n  hint: shares between 0 and 1, at most 0.5 apart.")
    if record.size != size or not record.metrics or record.final["accuracy"]["n"] < 50:
        raise AssertionError(f"the record is of size {record.size}, {len(record.metrics)} steps, evaluated on {record.final['accuracy']['n']} problems\n"
                             "  hint: train on as many examples as you predicted for, and evaluate on at least 50 test problems.")
    value = record.final["accuracy"]["mean"]
    if not low <= value <= high:
        raise AssertionError(f"predicted {low:.2f} to {high:.2f}, measured {value:.2f}\n  hint: that is a result. Look at the two sizes "
                             "around it and at the spread over seeds; why did you expect otherwise? Then predict another size.")
