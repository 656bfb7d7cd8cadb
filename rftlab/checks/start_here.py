"""Checks of the exercises in notebooks/00_start_here.ipynb."""
import torch

from rftlab import advantages, evaluate
from rftlab.checks import exercise, expect_close


@exercise
def last_number_reward(function) -> None:
    """`function(completion, answer)` pays 1.0 when the last number of the text is the answer, else 0.0."""
    cases = [("92", "92", 1.0, "a bare number"), ("4+8=12 carry 1; 3+5+1=9; 92", "92", 1.0, "a worked solution"),
             ("The answer is 92.", "92", 1.0, "a full stop after it is no part of the number"),
             ("92 is the answer", "92", 1.0, "words may follow the number"), ("92 or 93", "92", 0.0, "only the last number counts"),
             ("I do not know.", "92", 0.0, "no number at all"),
             ("", "92", 0.0, "an empty completion"), ("192", "92", 0.0, "192 ends in 92 but is another number")]
    for text, answer, expected, hint in cases:
        expect_close(function(text, answer), expected, case=f"completion {text!r}, answer {answer!r}", hint=hint)


@exercise
def pass_at_k(function) -> None:
    """`function(n, c, k)`: the chance that k of n samples, of which c are right, hold at least one right one."""
    for n, c, k in ((4, 1, 1), (4, 1, 2), (16, 3, 4), (16, 0, 4), (16, 13, 4), (64, 10, 16)):
        slips = ((1 - (1 - c / n) ** k, "that draws with replacement; the k samples are different ones: count subsets"),
                 (c / n, "that is pass@1"))
        expect_close(function(n, c, k), evaluate.pass_at_k(n, c, k), case=f"n={n}, c={c}, k={k}", slips=slips,
                     hint="1 - C(n-c, k) / C(n, k); math.comb counts the subsets")


@exercise
def group_advantages(function) -> None:
    """`function(rewards)` for one group: reward minus mean, divided by standard deviation (n - 1) plus 1e-4."""
    for rewards in ([1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.2, 0.9, 0.4]):
        values = torch.tensor(rewards)
        slips = ((values - values.mean(), "divide by the standard deviation as well"),
                 ((values - values.mean()) / (values.std(correction=0) + 1e-4), "n - 1 below the line, as torch.std does"))
        expect_close(function(values), advantages.group_relative(values[None])[0], case=f"rewards {rewards}", slips=slips,
                     atol=1e-4, hint="(rewards - rewards.mean()) / (rewards.std() + 1e-4)")
