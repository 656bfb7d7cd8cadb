"""Advantages: how much better than its siblings was each completion?

Every function takes rewards of shape (B, G), B prompts with G completions each, and returns advantages of
the same shape, without touching the input. Units are those of the reward, or standard deviations.

A reward of NaN means "not graded" (the grader failed, or no reward function applied). It is left out of
every mean and standard deviation, and its advantage is 0: a completion that nobody graded must neither
teach the policy nor shift what its siblings are compared with. TRL 1.15 does the same.

All raise ValueError for a wrong shape, a group of fewer than 2, a dtype that is not floating, or infinity.
"""

import torch
from torch import Tensor


def group_relative(rewards: Tensor, normalize_std: bool = True, eps: float = 1e-4) -> Tensor:
    """Reward minus the group's mean, divided by the group's standard deviation plus `eps`.

    With `normalize_std` this is GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1.2), without it
    Dr. GRPO (Liu et al. 2025, arXiv 2503.20783), which shows that the division weighs a prompt the more,
    the easier or the harder it is. The standard deviation has n - 1 below the line, as in TRL; `eps` only
    keeps 0 / 0 away (neither paper gives one).
    """
    _check(rewards)
    centred = _centre(rewards)
    if normalize_std:
        centred = centred / (_std(centred, dim=1) + eps)
    return centred.nan_to_num(nan=0.0)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Reward minus the mean reward of the *other* completions of the group.

    RLOO (Ahmadian et al. 2024, arXiv 2402.14740, equation 8). Because a completion is not part of its own
    baseline, the policy gradient stays unbiased. Equals n / (n - 1) times the reward minus the group's mean.
    A completion that is the only graded one of its group has nobody to be compared with and gets 0
    (TRL's RLOO computes the same).
    """
    _check(rewards)
    graded = (~rewards.isnan()).sum(dim=1, keepdim=True)
    return (_centre(rewards) * graded / (graded - 1).clamp(min=1)).nan_to_num(nan=0.0)


def batch_level(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """Reward minus the group's mean, divided by the standard deviation of all B * G rewards plus `eps`.

    Lite PPO (Liu et al. 2025, arXiv 2508.08221); TRL's `scale_rewards="batch"`. A group that is almost
    unanimous is no longer blown up to unit variance. REINFORCE++ with baseline (Hu et al. 2025,
    arXiv 2501.03262) divides by the standard deviation of the *centred* rewards instead, which is smaller
    when prompts differ in difficulty.
    """
    _check(rewards)
    return (_centre(rewards) / (_std(rewards, dim=(0, 1)) + eps)).nan_to_num(nan=0.0)


def most_different(rewards: Tensor, keep: int = 4, normalize_std: bool = True, eps: float = 1e-4) -> Tensor:
    """`group_relative` among the `keep` completions of each group whose rewards vary most; the others get 0.

    Max-variance down-sampling (Xu et al. 2025, PODS, arXiv 2504.13818, algorithm 2): these are the best of the group and the
    worst, for some split between the two. A completion with advantage 0 costs no update. Raises ValueError for keep < 2.
    """
    _check(rewards)
    if keep < 2:
        raise ValueError(f"keep is {keep}, expected at least 2: one completion has nothing to be compared with.")
    chosen = torch.full_like(rewards, torch.nan)
    for row, group in zip(chosen, rewards):
        order = group.nan_to_num(nan=torch.inf).argsort(stable=True)[:int((~group.isnan()).sum())]
        if not len(order):
            continue
        low = max(range(keep + 1), key=lambda low: float(group[_ends(order, low, keep)].var(unbiased=False)))
        picked = _ends(order, low, keep)
        row[picked] = group[picked]
    return group_relative(chosen, normalize_std, eps)


def _ends(order: Tensor, low: int, keep: int) -> Tensor:
    """The first `low` and the last `keep - low` of an order; all of it where it is shorter."""
    return order if len(order) <= keep else torch.cat([order[:low], order[len(order) - keep + low:]])


def zero_variance(rewards: Tensor) -> Tensor:
    """(B,) bool: True where all graded completions of a group got the same reward.

    Such a group teaches nothing: each advantage is 0. A run in which nearly all groups are like that stands
    still; DAPO (Yu et al. 2025, arXiv 2503.14476, section 3.2) drops them and samples others.
    """
    _check(rewards)
    return (_centre(rewards).nan_to_num(nan=0.0) == 0).all(dim=1)


def _centre(rewards: Tensor) -> Tensor:
    """Rewards minus the mean of their group; NaN stays NaN.

    The lowest reward is subtracted first, so that a group of equal rewards gives exactly 0. In float32 the
    mean of eight times 0.1 is not 0.1: the error, divided by itself plus eps, is an advantage of 7e-5 (0.37 for
    eight times 1000.1). When all groups are equal, Adam makes a step of full size out of it.
    """
    shifted = rewards - _lowest(rewards)
    return shifted - shifted.nanmean(dim=1, keepdim=True)


def _lowest(rewards: Tensor) -> Tensor:
    """(B, 1): the lowest graded reward of each group (infinity where none is graded)."""
    return rewards.nan_to_num(nan=torch.inf).amin(dim=1, keepdim=True)


def _std(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Standard deviation over `dim`, n - 1 below the line, without the NaNs; 0 where n is 1."""
    count = (~values.isnan()).sum(dim=dim, keepdim=True)
    squares = (values - values.nanmean(dim=dim, keepdim=True)).square()
    return (squares.nansum(dim=dim, keepdim=True) / (count - 1).clamp(min=1)).sqrt()


def _check(rewards: Tensor) -> None:
    if rewards.ndim != 2 or rewards.shape[0] < 1 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards has shape {tuple(rewards.shape)}, expected (B, G): B prompts with G >= 2 completions each. "
            "Reshape a flat list of rewards with rewards.view(-1, group_size)."
        )
    if not rewards.is_floating_point():
        raise ValueError(f"rewards has dtype {rewards.dtype}, expected a floating dtype: pass rewards.float().")
    if rewards.isinf().any():
        raise ValueError("rewards holds an infinity: return a finite number, or NaN for 'could not be graded'.")
