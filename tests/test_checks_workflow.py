"""The checks of notebook 11 accept the solutions, know the stubs, and explain wrong answers; its example files are what it says."""
import re
from pathlib import Path

import pytest

import rftlab
from notebook_cells import run_cells
from rftlab import grids
from rftlab.checks import unsloth_workflow as check

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = ["unit_reward", "to_chatml", "reward_is_dead"]


def test_solutions_pass_and_stubs_are_not_attempted():
    _, printed = run_cells(NOTEBOOKS / "solutions" / "11_unsloth_workflow.ipynb", namespace={"check": check})
    assert [line for line in printed.splitlines() if "ready" not in line] == [f"passed: {name}" for name in NAMES]
    _, printed = run_cells(NOTEBOOKS / "11_unsloth_workflow.ipynb", lambda cell: "raise NotImplementedError" in cell.source, {"check": check})
    assert printed.splitlines() == [f"not attempted: {name}" for name in NAMES]


def unit_reward(pick=-1, bare=lambda found, right: found[-1] == right, before=r"(?<![0-9.,])(-?", after=r"(?![\w/])"):
    """The solution, with one thing changed."""
    number = before + r"[0-9]+(?:\.[0-9]+)?)"

    def reward(completion, problem):
        found = re.findall(number + r"\s*" + problem.info["unit"] + after, completion)
        if found:
            return float(found[pick] == problem.answer)
        found = re.findall(number, completion)
        return 0.3 if found and bare(found, problem.answer) else 0.0
    return reward


first_with_unit, any_bare = unit_reward(pick=0), unit_reward(bare=lambda found, right: right in found)
unsigned = unit_reward(before=r"(?<![0-9.,])(")


def test_the_right_reward_passes():
    check.unit_reward(unit_reward())


@pytest.mark.parametrize("answer, message", [
    (lambda c, p: float(p.answer in c and p.info["unit"] in c), "expected 0.3"),
    (lambda c, p: 1.0 if c.rstrip(".").endswith(f"{p.answer} km") else 0.3 * c.endswith(p.answer), "112 ends in 12|another unit"),
    (first_with_unit, "the last number with the unit"), (any_bare, "the last number counts"), (unsigned, "-12 is another number"),
    (lambda c, p: float(c.split()[0] == p.answer), "expected|raised"),
    (lambda c, p: float(re.findall("[0-9]+", c)[-1] == p.answer), "number and unit|expected|raised"),
])
def test_wrong_rewards(answer, message):
    with pytest.raises((AssertionError, IndexError), match=message + "|index out of range"):
        check.unit_reward(answer)


def renamed_only(row):
    return {"messages": [{"role": t["from"], "content": t["value"]} for t in row["conversations"]]}


def without_columns(row):
    names = {"human": "user", "gpt": "assistant", "system": "system"}
    return {"messages": [{"role": names[t["from"]], "content": t["value"]} for t in row["conversations"]]}


def in_place(row):
    row.update(without_columns(row))
    row.pop("conversations")
    return row


@pytest.mark.parametrize("answer, message", [(renamed_only, "human is user"), (without_columns, "the other columns are for the verifier"),
                                             (in_place, "has changed; build a new one")])
def test_wrong_conversions(answer, message):
    with pytest.raises(AssertionError, match=message):
        check.to_chatml(answer)


@pytest.mark.parametrize("answer, message", [
    (lambda m, k: all(e["zero_variance"] == 1 and e["reward"] < 0.8 for e in m[-k:]), "four steps are too early"),
    (lambda m, k: len(m) >= k and all(e["zero_variance"] == 1 for e in m[-k:]), "that is success"),
    (lambda m, k: len(m) >= k and all(e["reward"] == 0 for e in m[-k:]), "as dead as none"),
    (lambda m, k: len(m) >= k and all(e["zero_variance"] >= 0.9 and e["reward"] < 0.8 for e in m[-k:]), "one group in ten"),
    (lambda m, k: len(m) >= k and all(e["zero_variance"] == 1 and e["reward"] <= 0.8 for e in m[-k:]), "0.8 is solved"),
    (lambda m, k: len(m) >= k and m[-1]["reward"] < 0.8 and m[-1]["zero_variance"] == 1, "every one of the last five"),
    (lambda m, k: len(m) >= k and all(e["zero_variance"] == 1 and e["reward"] < 0.8 for e in m[:k]), "only the last steps|came back"),
])
def test_wrong_alarms(answer, message):
    with pytest.raises(AssertionError, match=message):
        check.reward_is_dead(answer)


def test_the_example_files():
    folder = grids.folder().parent / "examples"
    mine, held_out = (rftlab.data.load(folder / name).usable() for name in ("sums.jsonl", "sums-held-out.jsonl"))
    assert (len(mine.rows), len(held_out.rows)) == (20, 60)
    task = rftlab.load_task("arithmetic")
    assert rftlab.data_check.check(mine, test=held_out, verify=task.reward).ok
    assert all(task.reward(p.answer, p) == 1.0 and eval(" + ".join(re.findall("[0-9]+", p.prompt))) == int(p.answer)
               for p in mine.problems + held_out.problems)
