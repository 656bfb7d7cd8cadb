"""Checks of the exercises in notebooks/11_unsloth_workflow.ipynb."""
from rftlab import data
from rftlab.checks import exercise
from rftlab.monitor import Limits
from rftlab.own_task import ODD_COMPLETIONS
from rftlab.tasks import Problem


@exercise
def unit_reward(function) -> None:
    """`function(completion, problem)`: 1.0 for the right number with the unit of problem.info["unit"], 0.3 for the bare number."""
    problem = Problem("How far is it?", "12", info={"unit": "km"})
    cases = [("12 km", 1.0, "number and unit"), ("It is 12 km.", 1.0, "a sentence around it, and a full stop"), ("12", 0.3, "the number alone"),
             ("12 miles", 0.3, "another unit is no unit"), ("112 km", 0.0, "112 ends in 12 and is another number"), ("12.5 km", 0.0, "12.5 is not 12"),
             ("13 km, not 12", 0.0, "the last number with a unit counts; where there is one, a bare number beside it does not"),
             ("12 km, no, 13 km", 0.0, "the last number with the unit counts"), ("13 km, no, 12 km", 1.0, "the last number with the unit counts"),
             ("12 or 13", 0.0, "the last number counts"), ("-12 km", 0.0, "-12 is another number"), ("12 km/h", 0.3, "km/h is another unit"),
             ("km", 0.0, "no number"), ("", 0.0, "an empty completion")]
    for text, expected, hint in cases:
        got = function(text, problem)
        assert got == expected, f"completion {text!r}: expected {expected}, got {got!r}\n  hint: {hint}"
    for text in ODD_COMPLETIONS:
        try:
            got = function(text, problem)
        except Exception as error:
            raise AssertionError(f"completion {text!r:.40}: your reward raised {type(error).__name__}; a policy may write anything") from error
        assert got == 0.0, f"completion {text!r:.40}: expected 0.0, got {got!r}"


@exercise
def to_chatml(function) -> None:
    """`function(row)` turns a row in ShareGPT's format into one in ChatML's, all other columns kept."""
    said = [{"from": "system", "value": "Be short."}, {"from": "human", "value": "2 + 3?"}, {"from": "gpt", "value": "5"}]
    for row in ({"conversations": said[1:]}, {"conversations": said, "answer": "5", "source": "a"}, {"conversations": said[1:2], "answer": "5"}):
        before = {"conversations": [dict(turn) for turn in row["conversations"]], **{k: v for k, v in row.items() if k != "conversations"}}
        got, expected = function(row), data.convert(row, "chatml")
        assert row == before, "the row that was given has changed; build a new one"
        assert got == expected, (f"{row}\n  expected {expected}\n  got      {got}\n  hint: human is user, gpt is assistant, system stays; "
                                 "the other columns are for the verifier")


@exercise
def reward_is_dead(function) -> None:
    """`function(metrics, steps)`: whether in each of the last `steps` entries all groups agree and the mean reward is below 0.8."""
    well, dead, solved, agreed, nearly, edge = (
        {"zero_variance": z, "reward": r} for z, r in ((0.5, 0.4), (1.0, 0.0), (1.0, 1.0), (1.0, 0.3), (0.9, 0.0), (1.0, 0.8)))
    cases = [([dead] * 5, 5, True, "nothing to learn from for five steps"), ([dead] * 4, 5, False, "four steps are too early to say five"),
             ([well] * 3 + [dead] * 5, 5, True, "only the last steps count"), ([dead] * 5 + [well], 5, False, "it came back to life"),
             ([dead] * 2 + [well] + [dead] * 2, 5, False, "every one of the last five must be dead"),
             ([agreed] * 5, 5, True, "a reward that is the same for all is as dead as none"),
             ([nearly] * 5, 5, False, "one group in ten still teaches something"),
             ([solved] * 5, 5, False, "groups also agree when all are right: that is success"),
             ([edge] * 5, 5, False, "0.8 is solved: dead is below it"), ([], 5, False, "no steps yet")]
    assert Limits().solved == 0.8
    for metrics, steps, expected, hint in cases:
        got = function(list(metrics), steps)
        assert got is expected or (got == expected and isinstance(got, bool)), (
            f"{[(m['zero_variance'], m['reward']) for m in metrics]}, steps={steps}: expected {expected}, got {got!r}\n  hint: {hint}")
