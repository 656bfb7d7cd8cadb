"""The acceptance rule of speculative decoding (Leviathan, Kalman and Matias 2023, arXiv 2211.17192, algorithm 1).

A draft token x is kept with probability min(1, p(x) / q(x)), where the target gives it p and the draft gave it q. At the first
token that is not kept, another one is drawn from max(0, p - q), normalised, and everything after it is discarded: those drafts
continued a text that does not exist. If all are kept, the target's own next token comes free. Whatever q is,
the output is distributed as if the target had written it alone:

    P(x) = q(x) min(1, p(x)/q(x)) + (1 - sum min(p, q)) max(0, p(x) - q(x)) / sum max(0, p - q) = min(p, q) + max(0, p - q) = p(x)

since 1 - sum min(p, q) = sum max(0, p - q). A draft without randomness has q = 1 at its token: kept with probability p(x).
"""
import torch


def adjusted(logits, temperature, top_p=1.0):
    """The probabilities that are sampled from, float32 (..., V): softmax at a temperature above 0, then the nucleus.

    top_p keeps the likeliest tokens until they hold that much probability, the token that passes it included (Holtzman et al.
    2019, arXiv 1904.09751), and renormalises.
    """
    probs = torch.softmax(logits.float() / temperature, -1)
    if top_p >= 1:
        return probs
    ordered, order = probs.sort(dim=-1, descending=True, stable=True)
    ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= top_p, 0.0)
    kept = torch.zeros_like(probs).scatter(-1, order, ordered)
    return kept / kept.sum(-1, keepdim=True)


def draw(probs, uniform):
    """One token a row, by inverting the cumulative distribution: probs (B, V), not normalised; uniform (B,) in [0, 1)."""
    sums = probs.cumsum(-1)
    goal = torch.minimum(uniform * sums[:, -1], sums[:, -1] * (1 - 1e-6))  # rounding must not step past the last positive one
    return (sums <= goal[:, None]).sum(-1).clamp(max=probs.shape[-1] - 1)


def _kept(good, counts):
    """How many drafts each row keeps: those before its first bad one. good (B, k), counts (B,) of drafts that are real."""
    real = torch.arange(good.shape[1], device=good.device) < counts[:, None]
    return (good & real).long().cumprod(1).sum(1)


def accept_greedy(logits, draft, counts):
    """Keep the drafts that the target would have written itself, greedily.

    logits (B, k+1, V): the target's, after the last known token and after each draft. draft (B, k); counts (B,): how many of
    a row's drafts are real, the rest is padding. Returns accepted (B,) and the token that follows them (B,).
    """
    choice = logits.max(-1).indices
    accepted = _kept(choice[:, :-1] == draft, counts)
    return accepted, choice.gather(1, accepted[:, None])[:, 0]


def accept_sampled(target_probs, draft, counts, draft_probs, uniform):
    """The rule for sampling; what it returns is distributed as target_probs.

    target_probs (B, k+1, V); draft (B, k); counts (B,) as in accept_greedy; draft_probs (B, k, V), or None when the drafts
    were not drawn but chosen. uniform (B, k+1, 2) in [0, 1): [..., 0] decides on the draft, [..., 1] draws the token in
    its place. Returns accepted (B,) and the token that follows them (B,).
    """
    rows = torch.arange(len(target_probs), device=target_probs.device)
    p = target_probs[:, :-1].gather(2, draft[..., None])[..., 0]
    q = torch.ones_like(p) if draft_probs is None else draft_probs.gather(2, draft[..., None])[..., 0]
    accepted = _kept(uniform[:, :-1, 0] * q < p, counts)
    rest = target_probs[rows, accepted]
    refused = accepted < counts
    if draft.shape[1]:
        place = accepted.clamp(max=draft.shape[1] - 1)
        if draft_probs is None:
            taken = torch.zeros_like(rest).scatter(1, draft[rows, place][:, None], torch.inf)
        else:
            taken = draft_probs[rows, place]
        left = (rest - taken).clamp(min=0)
        left = torch.where(left.sum(-1, keepdim=True) > 0, left, rest)  # p equal to q up to rounding
        rest = torch.where(refused[:, None], left, rest)
    return accepted, draw(rest, uniform[rows, accepted, 1])
