"""Checks for notebook 02: can the reader carry a group from its rewards to the gradient?

Each function takes the reader's answer; see rftlab.checks for what it prints and raises.
"""

import torch
from torch import tensor

from rftlab import advantages, losses
from rftlab.checks import exercise, expect_close


@exercise
def small_bonus(advantage) -> None:
    """Exercise 1: rewards (1.1, 1, 1, 1); the advantage of the first completion. A number, by hand."""
    expect_close(
        advantage, 1.5, case="rewards (1.1, 1, 1, 1)", atol=1e-2,
        hint="deviation from the group's mean, divided by the group's standard deviation (3 below the line).",
        slips=((0.075, "this is the deviation from the mean: GRPO divides it by the standard deviation."),
               (0.1, "this is the bonus itself: subtract the group's mean, which contains a quarter of it."),
               (3 ** 0.5, "the standard deviation has n - 1 = 3 below the line, not 4."),
               (2.0, "the group's mean contains the completion's own reward: it is 1.025."),
               (0.15, "ten times more: what does the size of the bonus do to the standard deviation?")))


@exercise
def informative_share(answer) -> None:
    """Exercise 2: `informative_share(p, group_size)`, the chance that a group's rewards are not all equal."""
    hint = "1 minus the chance that all are right, minus the chance that all are wrong."
    for p, size in ((0.25, 4), (0.9, 8)):
        all_right, all_wrong = p**size, (1 - p) ** size
        expect_close(
            answer(p, size), 1 - all_right - all_wrong, case=f"p {p}, group of {size}", hint=hint,
            slips=((1 - all_wrong, "a group in which all are right teaches nothing either."),
                   (1 - all_right, "a group in which all are wrong teaches nothing either."),
                   (all_right + all_wrong, "this is the share of groups that teach nothing."),
                   (1 - p - (1 - p), "these are the chances of one completion: the group has several."),
                   (1 - 2 * p**size, "wrong ones have the probability 1 - p.")))
    p = tensor([0.0, 0.5, 1.0]).double()
    expect_close(answer(p, 2), [0.0, 0.5, 0.0], case="p (0, 0.5, 1), groups of 2",
                 hint="plain arithmetic on p works for a number and for a tensor: no `if`.")


@exercise
def dapo_loss(answer) -> None:
    """Exercise 3: `dapo_loss(log_probs, old_log_probs, advantages, completion_mask)`, (N, T), (N, T), (N,), (N, T)."""
    zeros, signs = torch.zeros(2, 3).double(), tensor([1.0, -1.0]).double()
    mask = tensor([[True, False, False], [True, True, True]])
    expect_close(
        answer(zeros, zeros, signs, mask), 0.5, case="ratios 1, lengths 1 and 3, advantages (1, -1)",
        hint="sum over all tokens of the batch, then divide by their number, 4; a loss is the negative objective.",
        slips=((0.0, "this is GRPO's mean of each completion first: here every token of the batch weighs the same."),
               (-0.5, "a loss goes down when the objective goes up: a minus is missing."),
               (1 / 3, "padding was counted: divide by the 4 real tokens, not by 6."),
               (2.0, "divide the sum by the number of tokens.")))
    ratio, signs = tensor([[1.25], [1.5], [0.5], [0.6], [1.4]]).double(), tensor([1.0, 1.0, -1.0, 1.0, -1.0]).double()
    one = torch.ones(5, 1, dtype=torch.bool)
    zeros = torch.zeros(5, 1).double()

    def objective(low, high, pick=torch.minimum):
        return -pick(ratio[:, 0] * signs, ratio[:, 0].clamp(1 - low, 1 + high) * signs).mean()

    expect_close(
        answer(ratio.log(), zeros, signs, one), objective(0.2, 0.28),
        case="one token each, ratios (1.25, 1.5, 0.5, 0.6, 1.4), advantages (1, 1, -1, 1, -1)",
        hint="the objective of a token is min(ratio A, clip(ratio, 0.8, 1.28) A).",
        slips=((objective(0.2, 0.2), "DAPO clips higher above than below: 1.28 and 0.8."),
               (objective(0.28, 0.28), "DAPO clips higher above than below: 1.28 and 0.8."),
               (objective(9.0, 9.0), "the clip is missing."),
               (objective(0.2, 0.28, torch.maximum), "the smaller of the two counts, not the larger."),
               (-(ratio[:, 0].clamp(0.8, 1.28) * signs).mean(), "the clipped value alone: the minimum is missing."),
               (-(ratio[:, 0].clamp(max=1.28) * signs).mean(),
                "the minimum is of the products with A: with A < 0 it picks the larger ratio.")))
    generator = torch.Generator().manual_seed(0)
    log_probs, old = -torch.rand(2, 6, 8, generator=generator, dtype=torch.float64) * 3
    signs = torch.randn(6, generator=generator, dtype=torch.float64)
    mask = torch.arange(8) < torch.randint(1, 9, (6, 1), generator=generator)
    log_probs.requires_grad_()
    got, expected = answer(log_probs, old, signs, mask), losses.dapo(log_probs, old, signs, mask)
    hint = "padding must not count, and old_log_probs is used as it comes."
    expect_close(got, expected, case="6 random completions", hint=hint)
    if not (isinstance(got, torch.Tensor) and got.requires_grad):
        raise AssertionError("6 random completions: the value is right, but no gradient flows back to log_probs\n"
                             "  hint: compute with tensors all the way, without .item(), .detach() or .tolist()")
    gradient, = torch.autograd.grad(got, log_probs)
    expect_close(gradient, torch.autograd.grad(expected, log_probs)[0], case="the gradient for them", hint=hint)


@exercise
def language_consistency(answer) -> None:
    """Exercise 4: `language_consistency(prompts, completions, **columns) -> list[float]`."""
    def pays(completion):
        got = answer(prompts=["q"], completions=[completion], problem=[None], step=0)
        return got[0] if isinstance(got, (list, tuple)) and len(got) == 1 else got

    def expect(completion, value, hint, slips=()):
        expect_close(pays(completion), value, case=repr(completion), hint=hint, slips=slips)

    hint = "words between <think> and </think> that are ASCII only, divided by all words there."
    mixed = "<think>first add 个位 digits</think><answer>九十二</answer>"
    inside, whole = "first add 个位 digits", mixed.split()
    expect(mixed, 0.75, hint, slips=(
        (sum(word.isascii() for word in whole) / len(whole), "only the words between the think tags count."),
        (sum(map(str.isascii, inside)) / len(inside), "count words, not characters."),
        (3.0, "a share lies between 0 and 1: divide by the number of words."),
        (0.25, "this is the share of the other language.")))
    expect("<think>4+8=12 carry 1;\n3+5+1=9</think><answer>92</answer>", 1.0,
           "a thought may have several lines: in a regular expression, give it re.DOTALL.")
    expect("About 90.", 0.0, "without a thought there is nothing to be consistent: 0.")
    expect("<think>never closed", 0.0, "a thought that never ends is none: 0.")
    expect("<think> </think><answer>92</answer>", 0.0, "an empty thought has no words: 0, and no division by 0.")
    expect("add</think>", 0.0, "a thought that never began is none: 0.")
    expect("好的 <think>add</think>", 1.0, "words before <think> do not count.")
    got = answer(prompts=["q"] * 3, completions=[mixed, "About 90.", "<think>add</think>"])
    expect_close(got, [0.75, 0.0, 1.0], case="three completions at once", hint="return one number for each completion.")


def _grouped(rewards, group_size):
    return advantages.group_relative(rewards.view(-1, group_size)).flatten()


def _without_eps(rewards, group_size):
    groups = rewards.view(-1, group_size)
    centred = groups - groups.mean(1, keepdim=True)
    return (centred / groups.std(1, keepdim=True).clamp(min=1e-9)).flatten()


def _transposed(rewards, group_size):
    return advantages.group_relative(rewards.view(group_size, -1)).flatten()


def _interleaved(rewards, group_size):
    return advantages.group_relative(rewards.view(-1, group_size).T).T.flatten()


def _whole_batch(rewards, group_size):
    return advantages.group_relative(rewards[None])[0]


def _not_divided(rewards, group_size):
    return advantages.group_relative(rewards.view(-1, group_size), normalize_std=False).flatten()


@exercise
def catches_the_bug(answer) -> None:
    """Exercise 5: `catches_the_bug(advantage_fn) -> bool`, a test of functions (rewards (N,), group_size) -> (N,)."""
    for right, hint in ((_grouped, "this is the package's function. What did your test expect of it?"),
                        (_without_eps, "this one is right and has no eps: compare with a tolerance of about 1e-2.")):
        if answer(right):
            raise AssertionError(f"a right function was called broken\n  hint: {hint}")
    for wrong, bug, hint in (
            (_transposed, "rewards.view(group_size, -1)",
             "with as many prompts as completions it is no bug at all: test 2 prompts with 3 completions each, or the like."),
            (_interleaved, "a group made of one completion of every prompt",
             "give the prompts different rewards, and say what each group must give."),
            (_whole_batch, "the whole batch as one group",
             "take two prompts of different difficulty: one group with mostly 0, one with mostly 1."),
            (_not_divided, "no division by the standard deviation", "compare with the numbers that you worked out by hand.")):
        if not answer(wrong):
            raise AssertionError(f"a broken function passed your test: {bug}\n  hint: {hint}")
