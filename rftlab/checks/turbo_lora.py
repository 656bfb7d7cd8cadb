"""Checks for notebook 07: can the reader tell a rule that changes nothing from one that does?

Each function takes the reader's answer; see rftlab.checks for what it prints and raises.
"""

import torch
from torch import tensor

from rftlab.checks import exercise, expect_close


@exercise
def mean_tokens(answer) -> None:
    """Exercise 1: three drafts, each kept with probability 1/2 as long as all before it were. A number, by hand."""
    expect_close(
        answer, 1.875, case="k = 3, each draft kept with probability 1/2",
        hint="add up the chances that at least 1, 2, 3 drafts are kept, and the token that comes in any case.",
        slips=((0.875, "these are the drafts alone: after them comes a token of the target's own, always."),
               (2.5, "a draft counts only if all before it were kept: 1/2, 1/4, 1/8."),
               (1.5, "a draft counts only if all before it were kept, and the target's own token comes on top."),
               (1.75, "this is k = 2: there is a third draft."),
               (2.0, "this is the limit for very large k.")))


@exercise
def residual(answer) -> None:
    """Exercise 2: `residual(p, q)`, what to draw from after a refusal. Two tensors (V,) -> a tensor (V,)."""
    p, q = tensor([0.1, 0.4, 0.2, 0.3, 0.0]), tensor([0.5, 0.2, 0.2, 0.0, 0.1])
    expect_close(
        answer(p, q), [0, 0.4, 0, 0.6, 0], case=f"p {p.tolist()}, q {q.tolist()}",
        hint="max(0, p - q), divided by its sum.",
        slips=(([0, 0.2, 0, 0.3, 0], "it must sum to 1."),
               (p, "this is p: tokens that the draft proposes often would come too often."),
               ((p - q).abs() / (p - q).abs().sum(), "where q is larger than p nothing is left: 0, not the distance."),
               ((p - q), "probabilities are not negative.")))
    one = tensor([0.0, 1.0, 0.0, 0.0, 0.0])
    expect_close(answer(p, one), [1 / 6, 0, 1 / 3, 0.5, 0], case="a draft without randomness, q = 1 at token 1",
                 hint="the same formula: token 1 is left out, the rest of p is renormalised.")
    same = answer(p, p.clone())
    expect_close(same, p, case="q equal to p, where a refusal happens by rounding only",
                 hint="nothing is left of p - q, and 0 / 0 is not a distribution: return p.")


@exercise
def new_tokens(answer) -> None:
    """Exercise 3: `new_tokens(draft, choice, end)`: k drafted ids, k + 1 choices of the target -> the ids to append."""
    cases = [
        (([5, 6, 7], [5, 6, 7, 8], 1), [5, 6, 7, 8], "all drafts are right: the target's last choice comes on top."),
        (([5, 6, 7], [5, 9, 7, 8], 1), [5, 9], "everything after the first mismatch goes, the 7 that happens to agree too."),
        (([5, 6, 7], [4, 6, 7, 8], 1), [4], "with no draft kept there is still the target's own token."),
        (([5, 1, 7], [5, 1, 7, 8], 1), [5, 1], "nothing follows the end token, right or not."),
        (([5, 6], [5, 1, 9], 1), [5, 1], "the target's own token may be the end."),
        (([], [4], 1), [4], "without drafts it is plain decoding."),
    ]
    for arguments, expected, hint in cases:
        got = answer(*arguments)
        if got is None or list(got) != expected:
            raise AssertionError(f"draft {arguments[0]}, choice {arguments[1]}, end 1:\n  expected {expected}\n  got      {got}\n  hint: {hint}")


@exercise
def look_up(answer) -> None:
    """Exercise 4: `look_up(tokens, n, k)`: up to k tokens that followed the latest earlier place of the last n tokens."""
    cases = [
        (([5, 6, 7, 8, 9, 5, 6], 2, 5), [7, 8, 9, 5, 6], "5 6 stood at the start, and 7 8 9 followed."),
        (([5, 6, 7, 8, 9, 5, 6], 2, 2), [7, 8], "at most k tokens."),
        (([5, 6, 1, 5, 6, 2, 5, 6], 2, 2), [2, 5], "take the latest earlier place, not the first."),
        (([5, 6, 7, 5, 6], 2, 9), [7, 5, 6], "no more than there are."),
        (([5, 6, 7, 8], 2, 3), [], "the last n tokens themselves are no earlier place."),
        (([5], 2, 3), [], "a text shorter than n has no match."),
        (([4, 4, 4], 2, 2), [4], "the two places may overlap."),
    ]
    for arguments, expected, hint in cases:
        got = answer(*arguments)
        if got is None or list(got) != expected:
            tokens, n, k = arguments
            raise AssertionError(f"tokens {tokens}, n {n}, k {k}:\n  expected {expected}\n  got      {got}\n  hint: {hint}")


def _draw(probs, uniform):
    return int((probs.cumsum(0) <= uniform * probs.sum()).sum().clamp(max=len(probs) - 1))


def _exact(p, q, draft, u_keep, u_redraw):
    if u_keep * q[draft] < p[draft]:
        return draft
    left = (p - q).clamp(min=0)
    return _draw(left if left.sum() > 0 else p, u_redraw)


def _ignores_the_draft(p, q, draft, u_keep, u_redraw):
    return _draw(p, u_redraw)


def _redraws_from_p(p, q, draft, u_keep, u_redraw):
    return draft if u_keep * q[draft] < p[draft] else _draw(p, u_redraw)


def _typical(p, q, draft, u_keep, u_redraw):
    return draft if p[draft] > 0.15 else _draw(p, u_redraw)


def _trusts(p, q, draft, u_keep, u_redraw):
    return draft


def _forgets_q(p, q, draft, u_keep, u_redraw):
    return draft if u_keep < p[draft] else _draw((p - q).clamp(min=0) + 1e-9, u_redraw)


def _distance(p, q, draft, u_keep, u_redraw):
    return draft if u_keep * q[draft] < p[draft] else _draw((p - q).abs() + 1e-9, u_redraw)


@exercise
def is_lossless(answer) -> None:
    """Exercise 5: `is_lossless(rule)`: True for a rule whose output is distributed as p, whatever q is."""
    torch.manual_seed(0)
    for rule, good, what in (
            (_exact, True, "the rule of section 2"), (_ignores_the_draft, True, "a rule that ignores the draft and draws from p"),
            (_redraws_from_p, False, "a rule that draws from p after a refusal"),
            (_typical, False, "typical acceptance: keep what the target finds likely enough"),
            (_trusts, False, "a rule that keeps every draft"), (_forgets_q, False, "a rule that keeps a draft with probability p, not p / q"),
            (_distance, False, "a rule that draws from |p - q| after a refusal")):
        if bool(answer(rule)) != good:
            raise AssertionError(f"{what}: expected {good}, got {not good}\n  hint: draw the draft from q, apply the rule, count what comes out, "
                                 "and compare with p; a few thousand draws tell a difference of 0.05")
