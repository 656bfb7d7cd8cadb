"""Exercise checks: each accepts the solution of the solutions notebook, knows the stub, and explains wrong answers."""
import functools
from pathlib import Path

import pytest
import torch

import notebook_cells
from rftlab.checks import exercise, expect_close, rl_basics

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


run_cells = functools.partial(notebook_cells.run_cells, namespace={"check": rl_basics})


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def default_dtype(request):
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(before)


# ---- the mechanism ----

@exercise
def square(answer):
    expect_close(answer(3.0), 9.0, case="3 squared", hint="x times x", slips=((6.0, "that doubles it."),))


def stub(x):
    raise NotImplementedError


def stub_with_message(x):
    raise NotImplementedError("your turn")


@pytest.mark.parametrize("answer", [stub, stub_with_message, None, ...])
def test_an_untouched_stub_is_not_attempted(answer, capsys):
    assert square(answer) is None
    assert capsys.readouterr().out == "not attempted: square\n"


def test_a_right_answer_passes(capsys):
    square(lambda x: x * x)
    square(lambda x: torch.tensor(9.0, requires_grad=True))
    assert capsys.readouterr().out == "passed: square\n" * 2


@pytest.mark.parametrize("answer, message", [
    (lambda x: 8.0, "3 squared: the numbers differ\n  expected 9\n  got      8\n  hint: x times x"),
    (lambda x: 2 * x, "hint: that doubles it."),
    (lambda x: None, "nothing came (is a `return` missing?)"),
    (lambda x: [9.0], "the shape is (1,) and not ()"),
    (lambda x: float("nan"), "got      nan"),
    (lambda x: "nine", "neither a number nor a tensor"),
    (lambda x: stub, "neither a number nor a tensor"),
])
def test_a_wrong_answer_is_explained(answer, message, capsys):
    with pytest.raises(AssertionError) as raised:
        square(answer)
    assert message in str(raised.value)
    assert capsys.readouterr().out == ""


def test_errors_of_the_readers_code_pass_through():
    with pytest.raises(ZeroDivisionError):
        square(lambda x: 1 / 0)
    # torch raises NotImplementedError for a softmax of integers: that is an attempt, and must not read "not attempted"
    with pytest.raises(NotImplementedError, match="not implemented for 'Long'"):
        square(lambda x: torch.tensor([1, 2]).softmax(dim=0))


def test_the_check_keeps_its_name_and_text():
    assert rl_basics.kl_optimum.__name__ == "kl_optimum"
    assert "Exercise 5" in rl_basics.kl_optimum.__doc__


# ---- notebook 01 ----

EXERCISES_01 = ["lock_in", "reward_to_go", "optimal_baseline", "clip_fraction", "kl_optimum"]


def test_the_stubs_of_01_are_not_attempted():
    _, printed = run_cells(NOTEBOOKS / "01_rl_basics.ipynb", lambda cell: "check." in cell.source)
    assert printed.splitlines() == [f"not attempted: {name}" for name in EXERCISES_01]


def test_the_solutions_of_01_pass(default_dtype):
    _, printed = run_cells(NOTEBOOKS / "solutions" / "01_rl_basics.ipynb")
    passed = [line for line in printed.splitlines() if "passed" in line or "attempted" in line]
    assert passed == [f"passed: {name}" for name in EXERCISES_01]


def masked(rewards, mask):
    return rewards.masked_fill(~mask, 0.0)


def sums(rewards, mask, gamma):
    """Reward-to-go without discount, right for gamma = 1."""
    return masked(rewards, mask).flip(1).cumsum(1).flip(1)


def right_to_go(rewards, mask, gamma):
    return run_cells(NOTEBOOKS / "solutions" / "01_rl_basics.ipynb")[0]["reward_to_go"](rewards, mask, gamma)


def in_place(rewards, mask, gamma):
    rewards[~mask] = 0.0
    return right_to_go(rewards, mask, gamma)


def weighted(probs, values, power):
    weights = probs * (torch.eye(len(probs)) - probs).square().sum(1) ** power
    return (weights * values).sum() / weights.sum()


def outside(ratio, low, high):
    return (ratio > 1 + high) | (ratio < 1 - low)


def shifted(ref, rewards, kl_coef):
    weights = ref * ((rewards - rewards.max()) / kl_coef).exp()
    return weights / weights.sum()


WRONG = [
    (rl_basics.lock_in, 0.6, "the shares sum to 1"),
    (rl_basics.lock_in, 1.0, "never leaves an arm"),
    (rl_basics.lock_in, 1 / 3, "do not pay equally often"),
    (rl_basics.lock_in, 0.5, "the arm that pays first"),
    (rl_basics.reward_to_go, lambda r, m, g: r.cumsum(1), "a token cannot change the past"),
    (rl_basics.reward_to_go, lambda r, m, g: r.sum(1, keepdim=True).expand(r.shape), "the whole return at every token"),
    (rl_basics.reward_to_go, lambda r, m, g: sums(r, m, g) - r, "own reward counts too"),
    (rl_basics.reward_to_go, sums, "gamma was not used"),
    (rl_basics.reward_to_go, lambda r, m, g: sums(r * g ** torch.arange(r.shape[1]), m, g), "not from the start"),
    (rl_basics.reward_to_go, lambda r, m, g: right_to_go(r, torch.ones_like(m), g), "padding"),
    (rl_basics.reward_to_go, in_place, "the input was changed"),
    (rl_basics.reward_to_go, lambda r, m, g: r.sum(1), "the shape is (1,) and not (1, 4)"),
    (rl_basics.reward_to_go, lambda r, m, g: sums(r * g ** torch.arange(r.shape[1]), m, g) / g ** torch.arange(r.shape[1]), "gamma may be 0"),
    (rl_basics.optimal_baseline, lambda p, v: (p * v).sum(), "this is the mean reward"),
    (rl_basics.optimal_baseline, lambda p, v: weighted(p, v, 0.5), "square the norm"),
    (rl_basics.optimal_baseline, lambda p, v: weighted(torch.ones_like(p) / len(p), v, 1), "b* = sum"),
    (rl_basics.optimal_baseline, lambda p, v: weighted(p, v, 1) * (p * (1 - p)).sum(), "divide by the sum"),
    (rl_basics.optimal_baseline, lambda p, v: v.mean(), "b* = sum"),
    (rl_basics.clip_fraction, lambda r, a, lo, hi: outside(r, lo, hi).double().mean(), "the sign of the advantage"),
    (rl_basics.clip_fraction, lambda r, a, lo, hi: ((r > 1 + hi) & (a > 0)).double().mean(), "both signs"),
    (rl_basics.clip_fraction, lambda r, a, lo, hi: (outside(r, lo, hi) & (a * (r - 1) > 0)).sum(), "divide by the number"),
    (rl_basics.clip_fraction, lambda r, a, lo, hi: (outside(r, lo, lo) & (a * (r - 1) > 0)).double().mean(), "clip_high is 0.28"),
    (rl_basics.clip_fraction, lambda r, a, lo, hi: (outside(r, lo, hi) & (a * (r - 1) >= 0)).double().mean(), "no gradient that"),
    (rl_basics.clip_fraction, lambda r, a, lo, hi: (outside(r, lo, hi) & (a * (r - 1) < 0)).double().mean(), "to bring the policy back"),
    (rl_basics.clip_fraction, lambda r, a, lo, hi: (outside(r, hi, lo) & (a * (r - 1) > 0)).double().mean(), "to the ratios below 1"),
    (rl_basics.kl_optimum, shifted, "where ref is 0"),
    (rl_basics.kl_optimum, lambda ref, r, c: (r / c).softmax(0), "the reference is missing"),
    (rl_basics.kl_optimum, lambda ref, r, c: ref * (r / c).exp(), "probabilities sum to 1"),
    (rl_basics.kl_optimum, lambda ref, r, c: (ref.log() + r * c).softmax(0), "divide by kl_coef"),
    (rl_basics.kl_optimum, lambda ref, r, c: ref * (r / c).exp() / (ref * (r / c).exp()).sum(), "exp(2000) overflows"),
    (rl_basics.kl_optimum, lambda ref, r, c: (r / c).softmax(0) * ref / ref.sum(), "proportional to"),
    (rl_basics.kl_optimum, lambda ref, r, c: ((ref + 1e-12).log() + r / c).softmax(0), "never does stays"),
]


@pytest.mark.parametrize("check, answer, message", WRONG,
                         ids=[f"{check.__name__}-{i}" for i, (check, _, _) in enumerate(WRONG)])
def test_wrong_answers_of_01_are_rejected(check, answer, message, capsys):
    with pytest.raises(AssertionError) as raised:
        check(answer)
    assert message in str(raised.value)
    assert capsys.readouterr().out == ""
