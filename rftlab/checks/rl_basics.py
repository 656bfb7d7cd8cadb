"""Checks for notebook 01: can the reader compute what a number alone teaches?

Each function takes the reader's answer; see rftlab.checks for what it prints and raises.
"""

import torch
from torch import tensor

from rftlab import losses
from rftlab.checks import exercise, expect_close


@exercise
def lock_in(share) -> None:
    """Exercise 1: how often does greedy end on the best arm of (0.1, 0.2, 0.6)? A number, by hand."""
    expect_close(
        share, 0.6 / 0.9, case="arms (0.1, 0.2, 0.6)", atol=5e-3,
        hint="greedy stays for ever on the arm that pays first. Until then every arm is tried equally often.",
        slips=((1.0, "greedy never leaves an arm that has paid once, also when it is not the best one."),
               (1 / 3, "the arms are tried equally often, but they do not pay equally often."),
               (0.6, "this is how often one pull of it pays. Some arm has to be the first: the shares sum to 1.")))


@exercise
def reward_to_go(answer) -> None:
    """Exercise 2: `reward_to_go(rewards (N, T), completion_mask (N, T), gamma) -> (N, T)`."""
    hint = "token t gets r_t + gamma r_(t+1) + gamma^2 r_(t+2) + ..., over the real tokens of its own row."
    rewards, everything = tensor([[0.0, 1.0, 0.0, 2.0]]), torch.ones(1, 4, dtype=torch.bool)
    expect_close(answer(rewards, everything, 1.0), [[3.0, 3.0, 2.0, 2.0]], case="rewards (0, 1, 0, 2), gamma 1", hint=hint,
                 slips=(([[0.0, 1.0, 1.0, 3.0]], "this sums the rewards so far: a token cannot change the past."),
                        ([[3.0, 3.0, 3.0, 3.0]], "this is the whole return at every token: leave out what came before."),
                        ([[3.0, 2.0, 2.0, 0.0]], "a token's own reward counts too.")))
    expect_close(answer(rewards, everything, 0.5), [[0.75, 1.5, 1.0, 2.0]], case="the same with gamma 0.5", hint=hint,
                 slips=(([[3.0, 3.0, 2.0, 2.0]], "gamma was not used."),
                        ([[0.75, 0.75, 0.25, 0.25]], "count the distance from the token itself, not from the start.")))
    expect_close(answer(rewards, everything, 0.0), [[0.0, 1.0, 0.0, 2.0]], case="the same with gamma 0",
                 hint="gamma may be 0: do not divide by its powers.")
    rewards, mask = tensor([[1.0, 1.0, 5.0], [1.0, 1.0, 1.0]]), tensor([[True, True, False], [True, True, True]])
    before = rewards.clone()
    expect_close(answer(rewards, mask, 1.0), [[2.0, 1.0, 0.0], [3.0, 2.0, 1.0]],
                 case="two rows, the last token of the first is padding",
                 hint="rewards on padding do not count, and padding gets 0.")
    expect_close(rewards, before, case="the rewards after the call", hint="the input was changed: work on a copy.")


@exercise
def optimal_baseline(answer) -> None:
    """Exercise 3: `optimal_baseline(probs (K,), values (K,)) -> number` for a softmax policy."""
    hint = "b* = sum pi(a) |g(a)|^2 q(a) / sum pi(a) |g(a)|^2, where g(a) = one_hot(a) - pi."
    for probs, values in ((tensor([0.6, 0.3, 0.1]), tensor([0.2, 0.5, 0.8])),
                          (tensor([0.05, 0.15, 0.2, 0.6]), tensor([1.0, 0.0, 0.25, 10.0]))):
        probs, values = probs.double(), values.double()
        norm = (torch.eye(len(probs), dtype=torch.float64) - probs).square().sum(dim=1)
        expected = (probs * norm * values).sum() / (probs * norm).sum()
        expect_close(
            answer(probs, values), expected, case=f"probs {probs.tolist()}, values {values.tolist()}", hint=hint,
            slips=(((probs * values).sum(), "this is the mean reward: weigh each action by its squared gradient too."),
                   ((norm * values).sum() / norm.sum(), "each action happens with probability pi(a): weigh by that too."),
                   ((probs * norm * values).sum(), "divide by the sum of the weights."),
                   ((probs * norm.sqrt() * values).sum() / (probs * norm.sqrt()).sum(), "square the norm.")))


@exercise
def clip_fraction(answer) -> None:
    """Exercise 4: `clip_fraction(ratio (N,), advantages (N,), clip_low, clip_high) -> number`."""
    hint = "the clip removes a gradient where ratio > 1 + clip_high and A > 0, and where ratio < 1 - clip_low and A < 0."
    ratio, advantages = tensor([1.5, 0.5, 1.5, 0.5]), tensor([1.0, 1.0, -1.0, -1.0])
    expect_close(answer(ratio, advantages, 0.2, 0.2), 0.5, case="ratios (1.5, 0.5, 1.5, 0.5), advantages (1, 1, -1, -1)",
                 hint=hint, slips=((1.0, "two of the four keep their gradient: look at the sign of the advantage."),
                                   (0.25, "both signs of the advantage have a side that is clipped."),
                                   (2.0, "this is a count: divide by the number of tokens.")))
    case = "ratios (1.25, 1.5, 0.75, 0.75, 0.5), advantages (1, 1, -1, -1, 1), clip_low 0.2, clip_high 0.28"
    expect_close(answer(tensor([1.25, 1.5, 0.75, 0.75, 0.5]), tensor([1.0, 1.0, -1.0, -1.0, 1.0]), 0.2, 0.28), 0.6, case=case, hint=hint,
                 slips=((0.8, "clip_high is 0.28 here, so a ratio of 1.25 is inside."),
                        (0.4, "clip_low belongs to the ratios below 1, clip_high to those above."),
                        (0.2, "these are the sides that keep their gradient, to bring the policy back.")))
    expect_close(answer(tensor([2.0, 0.1, 1.0, 1.0]), tensor([0.0, 0.0, 1.0, -1.0]), 0.2, 0.2), 0.0,
                 case="advantages of 0", hint="an advantage of 0 has no gradient that could be removed.")
    generator = torch.Generator().manual_seed(0)
    log_ratio, advantages = torch.randn(2, 200, generator=generator, dtype=torch.float64) * 0.4
    expected = losses.clip_fraction(log_ratio[:, None], torch.zeros(200, 1, dtype=torch.float64), advantages,
                                    torch.ones(200, 1, dtype=torch.bool))
    expect_close(answer(log_ratio.exp(), advantages, 0.2, 0.2), expected, case="200 random tokens", hint=hint)


@exercise
def kl_optimum(answer) -> None:
    """Exercise 5: `kl_optimum(ref_probs (K,), rewards (K,), kl_coef) -> (K,)`."""
    hint = "the best policy is proportional to ref(a) exp(reward(a) / kl_coef)."
    ref, rewards = tensor([0.8, 0.2]).double(), tensor([0.0, 1.0]).double()
    weights = ref * (rewards / 0.5).exp()
    expect_close(answer(ref, rewards, 0.5), weights / weights.sum(), case="ref (0.8, 0.2), rewards (0, 1), kl_coef 0.5",
                 hint=hint, slips=((weights, "the weights are right, but probabilities sum to 1."),
                                   ((rewards / 0.5).softmax(0), "the reference is missing: start from log ref."),
                                   ((ref.log() + rewards * 0.5).softmax(0), "divide by kl_coef: a small one pulls less.")))
    expect_close(answer(ref, rewards + 3.0, 0.5), weights / weights.sum(), case="the same with 3 added to each reward",
                 hint="adding a constant to every reward changes nothing.")
    never = tensor([0.5, 0.5, 0.0]).double()
    expect_close(answer(never, tensor([0.0, 0.0, 50.0]).double(), 1.0), [0.5, 0.5, 0.0],
                 case="ref (0.5, 0.5, 0), rewards (0, 0, 50), kl_coef 1", hint="what the reference never does stays at 0.")
    expect_close(answer(ref, rewards * 1000, 0.5), [0.0, 1.0], case="rewards (0, 1000), kl_coef 0.5",
                 hint="exp(2000) overflows: stay in logs and let softmax subtract the maximum.")
    expect_close(answer(never, tensor([0.0, 0.0, 1000.0]).double(), 1.0), [0.5, 0.5, 0.0],
                 case="ref (0.5, 0.5, 0), rewards (0, 0, 1000), kl_coef 1",
                 hint="the largest reward may stand where ref is 0: subtract the maximum of log ref + reward / kl_coef, as softmax does.")
