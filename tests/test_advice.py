"""Advice comes out of the records it was given, and says so where they end."""
import pytest

import rftlab
from data_size_records import run, several
from rftlab import advice, evaluate
from rftlab.data_size_report import Report


def task(name, first, many, **accuracies):
    """Two seeds of each arm at 10 and 100 examples of a task whose base has these pass rates."""
    rates = {"pass@1_before": first, "pass@64_before": many}
    return [r for arm, value in accuracies.items() for size in (10, 100)
            for r in several(arm.replace("_", "-"), size, [value, max(0.0, value - 0.01)], before=first, task=name, validation=[value],
                             seconds=4.0 if arm == "rft" else 1.0, **rates)]


EASY = task("easy", 0.3, 1.0, rft=0.95, sft_solutions=0.94, sft_answers=0.3)
HARD = task("hard", 0.0, 0.0, rft=0.0, sft_solutions=0.9, sft_answers=0.9)
REPORT = Report([*EASY, *HARD])


def ask(**changes):
    given = {"examples": 100, "verifiable": True, "solutions": False, "pass_at_1": 0.3, "pass_at_k": 1.0, "report": REPORT}
    return evaluate.advise(**{**given, **changes})


def test_without_solutions_a_verifier_and_a_habit_mean_rft():
    one = ask()
    assert one.recommendation == "rft" and one.expected["rft"].mean == pytest.approx(0.945)
    assert "rft 0.94" in str(one) and "would have lost" in one.limits[0]


def test_of_two_equals_the_cheaper():
    one = ask(solutions=True)
    assert one.recommendation == "sft-solutions" and "within 0.02 of the best" in str(one)


def test_without_a_verifier_no_rft():
    assert ask(verifiable=False).recommendation == "nothing"           # sft-answers gains nothing on the easy task
    assert ask(verifiable=False, solutions=True).recommendation == "sft-solutions"
    assert ask(verifiable=False, answers=False).recommendation == "cannot tell"


def test_what_the_base_never_does_is_no_case_for_rft():
    assert ask(pass_at_1=0.0, pass_at_k=0.0).recommendation == "sft-answers"
    assert ask(pass_at_1=0.0, pass_at_k=0.0, answers=False).recommendation == "nothing"


def test_time_rules_arms_out():
    assert ask(seconds=2.0).recommendation == "nothing"
    assert "rft took longer" in str(ask(seconds=2.0))


@pytest.mark.parametrize("changes", [{"examples": 5}, {"examples": 5000}, {"pass_at_1": 0.02, "pass_at_k": 0.5}, {"pass_at_1": 0.95},
                                     {"pass_at_1": 0.2, "pass_at_k": 0.25}])
def test_outside_the_records_it_cannot_tell(changes):
    assert ask(**changes).recommendation == "cannot tell" and ask(**changes).reasons


def test_one_seed_is_too_few():
    assert ask(report=Report([r for r in REPORT.runs if r.seed == 0])).recommendation == "cannot tell"


def test_a_task_without_rft_is_no_ground_for_advice():
    assert ask(report=Report([r for r in EASY if r.arm != "rft"])).recommendation == "cannot tell"


def test_numbers_that_cannot_be():
    with pytest.raises(ValueError, match="pass_at_1 <= pass_at_k"):
        ask(pass_at_1=0.5, pass_at_k=0.4)
    with pytest.raises(ValueError, match="examples"):
        ask(examples=-1)


def test_the_error_of_the_fit_by_hand():
    """From the hard task SFT is advised on the easy one and the other way round; only sizes in both count."""
    error = advice.leave_one_task_out(REPORT)
    assert error["tasks"] == 2 and error["told"] == 0.0 and error["n"] == 12
    # easy, advised by hard: no solutions -> sft-answers (loses 0.65), else an equal arm (0 or 0.01); hard, advised by easy:
    # no solutions -> rft (loses 0.9), solutions without verifier and with it -> sft-solutions (0)
    assert error["worst"] == pytest.approx(0.895)
    assert advice.leave_one_task_out(Report(EASY))["n"] == 0


def test_a_twin_task_is_advised_on_well():
    twins = Report([*EASY, *task("twin", 0.25, 1.0, rft=0.95, sft_solutions=0.94, sft_answers=0.3)])
    error = advice.leave_one_task_out(twins)
    assert error["told"] == 1.0 and error["worst"] <= 0.02


# --- the probe ---

class Coin:
    """right_counts of a policy that is right with these counts out of k."""

    def __init__(self, monkeypatch, counts):
        monkeypatch.setattr(advice, "right_counts", lambda *arguments: counts)


def test_a_probe_by_hand(monkeypatch):
    Coin(monkeypatch, [4, 0, 8])
    one = evaluate.probe(None, None, [1, 2, 3], k=8, report=REPORT)
    assert one.pass_at_1.mean == pytest.approx(0.5) and one.pass_at_k.mean == pytest.approx(2 / 3)
    assert one.informative == pytest.approx(1 / 3)  # the first problem's only group holds both, the others' one kind
    with pytest.raises(ValueError, match="size of one group"):
        evaluate.probe(None, None, [1], k=4, report=REPORT)


def test_a_probe_predicts_what_the_records_say(monkeypatch):
    for counts, expected in (([20] * 16, "RFT can learn"), ([0] * 16, "RFT will not learn"), ([2] * 16, "cannot tell"), ([63] * 16, "cannot tell")):
        Coin(monkeypatch, counts)
        assert evaluate.probe(None, None, [None] * 16, report=REPORT).prediction == expected, counts


def test_a_probe_of_the_real_thing():
    """tiny adds now and then, and cannot know a code-book."""
    policy = rftlab.load_policy("tiny")
    report = Report([*task("easy", 0.24, 1.0, rft=0.95), *task("hard", 0.0, 0.0, rft=0.0)])
    known = [evaluate.probe(policy, t := rftlab.load_task(name), t.validation(4), k=64, report=report) for name in ("arithmetic", "codebook")]
    assert [p.prediction for p in known] == ["RFT can learn", "RFT will not learn"]
    assert known[0].informative > 0.5 > known[1].informative == 0.0
    assert "pass@64" in str(known[0])


def test_unknown_names_of_evaluate_are_still_errors():
    with pytest.raises(AttributeError, match="no attribute 'advice'"):
        evaluate.advice
