"""Losses of the GRPO family, one short function per paper.

All are called alike and return a scalar to minimise:

    loss(log_probs, old_log_probs, advantages, completion_mask, *, clip_low, clip_high, num_sequences, num_tokens)

    log_probs        (N, T)  log-probability of each sampled token under the policy; N = B * G completions
    old_log_probs    (N, T)  the same under the policy that sampled them; a constant, no gradient flows into it
    advantages       (N,)    one number per completion, a constant as well
    completion_mask  (N, T)  bool or integer, true on the tokens of the completion, false on padding
    clip_low, clip_high      the ratio pi / pi_old is clipped to [1 - clip_low, 1 + clip_high]
    num_sequences, num_tokens   completions and true mask entries of the WHOLE batch, when this call sees only
                             a micro-batch: the losses of the micro-batches then sum to the loss of the batch.
                             Default: those of this call. Each loss uses the one that its formula divides by.

Padding may hold anything, NaN and infinities included: it changes neither value nor gradient. A completion
without tokens adds 0 and still counts as a sequence. When no completion has a token, the loss is 0 and so is
its gradient: no error, because truncated completions may be masked out and fill a micro-batch.

ValueError is raised for shapes that do not fit, a float mask, a negative clip, and totals below this call's own.
"""

import torch
from torch import Tensor


def reinforce(log_probs: Tensor, old_log_probs: Tensor | None, advantages: Tensor, completion_mask: Tensor, *,
              clip_low: float = 0.2, clip_high: float = 0.2,
              num_sequences: int | None = None, num_tokens: int | None = None) -> Tensor:
    """-1/N sum_i sum_t A_i log pi: the plain policy gradient (Williams 1992; RLOO, arXiv 2402.14740).

    `old_log_probs` and the clips change nothing; they are accepted so that one loss can replace another.
    Right on policy only: one optimiser step per rollout.
    """
    log_probs, _, advantages, mask = _prepare(log_probs, log_probs, advantages, completion_mask)
    return -_masked_sum(advantages * log_probs, mask) / _total("num_sequences", num_sequences, len(mask))


def ppo_clip(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, completion_mask: Tensor, *,
             clip_low: float = 0.2, clip_high: float = 0.2,
             num_sequences: int | None = None, num_tokens: int | None = None) -> Tensor:
    """-mean over all tokens of min(ratio A, clip(ratio) A): PPO (Schulman et al. 2017, arXiv 1707.06347, eq. 7).

    The minimum makes the clip one-sided: no push up once the ratio is above 1 + clip_high and A > 0, none down
    once it is below 1 - clip_low and A < 0. On the wrong side of 1 the gradient stays and brings it back.
    """
    _, log_ratio, advantages, mask = _prepare(log_probs, old_log_probs, advantages, completion_mask)
    return -token_mean(_clipped(log_ratio.exp(), advantages, clip_low, clip_high), mask, num_tokens)


def grpo(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, completion_mask: Tensor, *,
         clip_low: float = 0.2, clip_high: float = 0.2,
         num_sequences: int | None = None, num_tokens: int | None = None) -> Tensor:
    """-1/N sum_i 1/|o_i| sum_t min(ratio A, clip(ratio) A): GRPO (Shao et al. 2024, arXiv 2402.03300, eq. 3).

    Every completion weighs the same, so that a token of a long one weighs less: long wrong answers are
    punished least. Left out is the KL term: add kl_coef * sequence_mean(kl_k3(...), mask) for it.
    """
    _, log_ratio, advantages, mask = _prepare(log_probs, old_log_probs, advantages, completion_mask)
    return -sequence_mean(_clipped(log_ratio.exp(), advantages, clip_low, clip_high), mask, num_sequences)


def dr_grpo(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, completion_mask: Tensor, *,
            max_tokens: int | None = None, clip_low: float = 0.2, clip_high: float = 0.2,
            num_sequences: int | None = None, num_tokens: int | None = None) -> Tensor:
    """-1/(N max_tokens) sum_i sum_t min(ratio A, clip(ratio) A): Dr. GRPO (Liu et al. 2025, arXiv 2503.20783).

    Dividing by a constant removes GRPO's length bias. `max_tokens` is the length limit of the rollout; without
    it T is taken, which is a constant only if all batches are padded to one length. Use it with
    group_relative(normalize_std=False).
    """
    _, log_ratio, advantages, mask = _prepare(log_probs, old_log_probs, advantages, completion_mask)
    max_tokens = mask.shape[1] if max_tokens is None else max_tokens
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}, expected the length limit of the rollout, at least 1.")
    objective = _clipped(log_ratio.exp(), advantages, clip_low, clip_high)
    return -_masked_sum(objective, mask) / (_total("num_sequences", num_sequences, len(mask)) * max_tokens)


def dapo(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, completion_mask: Tensor, *,
         clip_low: float = 0.2, clip_high: float = 0.28,
         num_sequences: int | None = None, num_tokens: int | None = None) -> Tensor:
    """PPO's loss over the tokens of the whole batch with a higher upper clip: DAPO (Yu et al. 2025, arXiv 2503.14476).

    A token of probability 0.01 may rise to 0.0128 instead of 0.012 per rollout, which keeps entropy up. What
    else DAPO does, sampling anew for groups of zero variance and masking truncated ones, is not part of a loss.
    """
    return ppo_clip(log_probs, old_log_probs, advantages, completion_mask, clip_low=clip_low,
                    clip_high=clip_high, num_sequences=num_sequences, num_tokens=num_tokens)


def gspo(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, completion_mask: Tensor, *,
         clip_low: float = 3e-4, clip_high: float = 4e-4,
         num_sequences: int | None = None, num_tokens: int | None = None) -> Tensor:
    """-1/N sum_i min(s_i A, clip(s_i) A): GSPO (Zheng et al. 2025, arXiv 2507.18071, eq. 5).

    s_i = (pi(o_i) / pi_old(o_i)) ^ (1 / |o_i|), one ratio per completion: the geometric mean over its tokens.
    It moves far less than the ratio of one token, hence the paper's small clips. On policy it is GRPO.
    """
    _, log_ratio, advantages, mask = _prepare(log_probs, old_log_probs, advantages, completion_mask)
    ratio = (log_ratio.sum(dim=1, keepdim=True) / _lengths(mask)).exp()
    objective = _clipped(ratio, advantages, clip_low, clip_high)
    return -sequence_mean(objective.expand(mask.shape), mask, num_sequences)


def cispo(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, completion_mask: Tensor, *,
          clip_low: float = 1.0, clip_high: float = 4.0,
          num_sequences: int | None = None, num_tokens: int | None = None) -> Tensor:
    """-mean over all tokens of constant(clip(ratio)) A log pi: CISPO (MiniMax 2025, arXiv 2506.13585, eq. 4).

    Only the weight is clipped, so that every token keeps a gradient. The defaults are ScaleRL's (arXiv
    2510.13786): no lower bound, and a ratio of at most 5, which TRL writes as epsilon_high=5.
    """
    log_probs, log_ratio, advantages, mask = _prepare(log_probs, old_log_probs, advantages, completion_mask)
    weight = _clip(log_ratio.exp(), clip_low, clip_high).detach()
    return -token_mean(weight * advantages * log_probs, mask, num_tokens)


def kl_k1(log_probs: Tensor, ref_log_probs: Tensor, completion_mask: Tensor | None = None) -> Tensor:
    """(N, T): log pi - log ref, an estimate of KL(pi || ref) from tokens that pi sampled (Schulman 2020).

    Unbiased, but noisy: single values may be negative. Never differentiate it: the expected gradient is 0, so as
    a loss term it is pure noise. It belongs into the reward. Give `completion_mask` to set padding to 0, in
    value and gradient. ValueError for shapes that differ.
    """
    return -_log_ref_ratio(log_probs, ref_log_probs, completion_mask)


def kl_k2(log_probs: Tensor, ref_log_probs: Tensor, completion_mask: Tensor | None = None) -> Tensor:
    """(N, T): (log pi - log ref)^2 / 2, never negative (Schulman 2020). Arguments as in kl_k1.

    Biased as a value, but on policy its expected gradient is exactly that of KL(pi || ref): the right one to
    differentiate (Tang and Munos 2025, arXiv 2506.09477).
    """
    return _log_ref_ratio(log_probs, ref_log_probs, completion_mask).square() / 2


def kl_k3(log_probs: Tensor, ref_log_probs: Tensor, completion_mask: Tensor | None = None) -> Tensor:
    """(N, T): ref/pi - 1 - log(ref/pi), never negative, unbiased (Schulman 2020). Arguments as in kl_k1.

    GRPO's KL (arXiv 2402.03300, eq. 4). As a value it is far less noisy than k1 while pi is near ref, and noisier
    once ref gives some tokens much more probability than pi. As a loss its expected gradient on policy is that of
    the *other* divergence, KL(ref || pi); that of KL(pi || ref) comes from ratio * kl_k3, differentiated through
    the ratio too (TRL's use_bias_correction_kl). With exp(x) - 1 instead of expm1, float32 rounding would exceed
    the value once |x| is below about 3e-4, where every run starts.
    """
    log_ref_ratio = _log_ref_ratio(log_probs, ref_log_probs, completion_mask)
    return torch.expm1(log_ref_ratio) - log_ref_ratio


def clip_fraction(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, completion_mask: Tensor, *,
                  clip_low: float = 0.2, clip_high: float = 0.2, num_tokens: int | None = None) -> Tensor:
    """Scalar in [0, 1]: the share of tokens whose gradient the clip of ppo_clip, grpo, dr_grpo or dapo removed.

    A ratio outside the range counts only on the side where its advantage pushes it further out.
    """
    _, log_ratio, advantages, mask = _prepare(log_probs, old_log_probs, advantages, completion_mask)
    ratio = log_ratio.exp()
    removed = ((ratio > 1 + clip_high) & (advantages > 0)) | ((ratio < 1 - clip_low) & (advantages < 0))
    return token_mean(removed.to(ratio.dtype), mask, num_tokens)


def token_mean(values: Tensor, completion_mask: Tensor, num_tokens: int | None = None) -> Tensor:
    """Mean of (N, T) values over all tokens of the batch: every token weighs the same."""
    mask = _check_mask(values, completion_mask)
    return _masked_sum(values, mask) / _total("num_tokens", num_tokens, int(mask.sum()))


def sequence_mean(values: Tensor, completion_mask: Tensor, num_sequences: int | None = None) -> Tensor:
    """Mean over completions of the mean of (N, T) values over their tokens: every completion weighs the same."""
    mask = _check_mask(values, completion_mask)
    return _masked_sum(values / _lengths(mask), mask) / _total("num_sequences", num_sequences, len(mask))


def _masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    # Not values * mask: NaN times 0 is NaN.
    return values.masked_fill(~mask, 0.0).sum()


def _lengths(mask: Tensor) -> Tensor:
    return mask.sum(dim=1, keepdim=True).clamp(min=1)


def _clipped(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    return torch.minimum(ratio * advantages, _clip(ratio, clip_low, clip_high) * advantages)


def _clip(ratio: Tensor, clip_low: float, clip_high: float) -> Tensor:
    if clip_low < 0 or clip_high < 0:
        raise ValueError(f"clip_low={clip_low}, clip_high={clip_high}: expected distances from 1, not below 0.")
    return ratio.clamp(1 - clip_low, 1 + clip_high)


def _total(name: str, given: int | None, own: int) -> int:
    if given is not None and given < own:
        raise ValueError(f"{name}={given}, but this call alone has {own}: pass the total over all micro-batches.")
    return max(own if given is None else given, 1)


def _log_ref_ratio(log_probs: Tensor, ref_log_probs: Tensor, completion_mask: Tensor | None) -> Tensor:
    if log_probs.shape != ref_log_probs.shape:
        raise ValueError(f"log_probs {tuple(log_probs.shape)} and ref_log_probs {tuple(ref_log_probs.shape)} differ.")
    difference = ref_log_probs.detach() - log_probs
    if completion_mask is None:
        return difference
    return difference.masked_fill(~_check_mask(log_probs, completion_mask), 0.0)


def _check_mask(values: Tensor, completion_mask: Tensor) -> Tensor:
    if values.ndim != 2 or 0 in values.shape or values.shape != completion_mask.shape:
        raise ValueError(f"values {tuple(values.shape)} and completion_mask {tuple(completion_mask.shape)}: "
                         "expected (N, T) twice, one row per completion, one column per token.")
    if completion_mask.is_floating_point():
        raise ValueError(f"completion_mask is {completion_mask.dtype}, expected bool: pass completion_mask.bool().")
    return completion_mask.bool()


def _prepare(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, completion_mask: Tensor):
    """Check shapes; return log_probs and log(pi / pi_old), both 0 on padding, advantages as (N, 1), a bool mask.

    Padding is emptied here, before any exp: a NaN that meets a gradient of 0 later would still give NaN.
    """
    if not log_probs.ndim == 2 or old_log_probs.shape != log_probs.shape or advantages.shape != log_probs.shape[:1]:
        raise ValueError(
            f"log_probs {tuple(log_probs.shape)}, old_log_probs {tuple(old_log_probs.shape)}, advantages "
            f"{tuple(advantages.shape)}: expected (N, T), (N, T), (N,). Flatten (B, G) advantages with .flatten().")
    mask = _check_mask(log_probs, completion_mask)
    log_probs = log_probs.masked_fill(~mask, 0.0)
    old_log_probs = old_log_probs.detach().masked_fill(~mask, 0.0)
    return log_probs, log_probs - old_log_probs, advantages.detach().unsqueeze(1), mask
