"""Rollouts: G sampled completions for each prompt.

Nothing is computed twice: what all prompts begin with is read once, completions of a prompt that agree so far are one row of
the batch, which branches where they differ, and finished ones leave it. Adapters are merged into the weights. The random
numbers are drawn for each completion up front, so that a result does not depend on which of them share a row or finish when.
"""
import time
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from rftlab.attention import RolloutCache
from rftlab.logprobs import shared_beginning
from rftlab.packing import packed

BLOCK = 256  # vocabulary entries per block of the two-level search in `sample`


@dataclass
class Rollout:
    """N = B*G completions, those of a prompt next to each other.

    prompt_ids, prompt_mask (B, P), padded on the left; completion_ids, completion_mask, log_probs (N, T), padded on the
    right, the end-of-turn token included. log_probs are those of the sampled tokens at the sampling temperature.
    """

    prompts: list
    texts: list
    prompt_ids: torch.Tensor
    prompt_mask: torch.Tensor
    completion_ids: torch.Tensor
    completion_mask: torch.Tensor
    log_probs: torch.Tensor
    group_size: int
    seconds: float

    @property
    def tokens(self) -> int:
        return int(self.completion_mask.sum())


def sample(logits, uniform, temperature, rows=None):
    """Draw tokens by inverting the cumulative distribution; greedy when temperature is 0.

    logits (U, V); uniform (N,) in [0, 1); rows (N,): the row of logits that each draw is from, by default its own.
    Returns tokens (N,) and their log-probabilities (N,) float32.
    One random number a draw and a search in blocks cost a fraction of V Gumbel variables, and give the same distribution.
    """
    probs = torch.softmax(logits if temperature in (0, 1) else logits.float() / temperature, -1, dtype=torch.float32)
    rows = torch.arange(len(probs), device=probs.device) if rows is None else rows
    if temperature == 0:
        tokens = logits.max(-1).indices[rows]  # four times as fast as argmax in bfloat16
        return tokens, probs[rows, tokens].log()
    blocks = F.pad(probs, (0, -probs.shape[1] % BLOCK)).view(len(probs), -1, BLOCK)
    outer = blocks.sum(-1).cumsum(-1)[rows]
    goal = uniform.to(outer) * outer[:, -1]
    block = (outer <= goal[:, None]).sum(-1).clamp(max=outer.shape[1] - 1)
    inner = blocks[rows, block].cumsum(-1)
    goal = goal - torch.where(block > 0, outer.gather(1, (block - 1).clamp(min=0)[:, None])[:, 0], 0.0)
    goal = torch.minimum(goal, inner[:, -1] * (1 - 1e-6))  # rounding must not step past the last positive probability
    tokens = block * BLOCK + (inner <= goal[:, None]).sum(-1)
    return tokens, probs[rows, tokens].log()


@torch.no_grad()
def _decode(policy, ids, mask, group_size, uniform, temperature, stop=None):
    """Complete B prompts G times. ids, mask (B, P); uniform (T, B*G). Returns tokens (N, T), mask (N, T), log_probs (N, T)."""
    model, head = policy.model.base_model, policy.model.get_output_embeddings()
    beginning, ids, mask = shared_beginning(ids, mask)
    (B, P), (T, N), C, device = ids.shape, uniform.shape, beginning.shape[1], ids.device
    tokens = torch.full((N, T), policy.pad_id, device=device)
    log_probs = torch.zeros(N, T, device=device)
    filled = torch.zeros(N, T, dtype=torch.bool, device=device)
    ends = torch.tensor(sorted(policy.end_ids), device=device)

    cache = RolloutCache(policy.model.config.num_hidden_layers, N, C + P + T)
    causal = torch.ones(C + P, C + P, dtype=torch.bool, device=device).tril()
    if C:
        model(input_ids=beginning, attention_mask=causal[None, None, :C, :C], position_ids=torch.arange(C, device=device)[None],
              past_key_values=cache, use_cache=True)
        cache.copy(torch.zeros(B - 1, dtype=torch.long, device=device), torch.arange(1, B, device=device))
    mask = F.pad(mask.bool(), (C, 0), value=True)
    visible = (mask[:, None] & causal[C:]) | torch.eye(C + P, dtype=torch.bool, device=device)[C:]
    h = model(input_ids=ids, attention_mask=visible[:, None], position_ids=(mask.cumsum(1) - 1)[:, C:].clamp(min=0),
              past_key_values=cache, use_cache=True)[0][:, -1]
    position = mask.sum(1)
    keys = F.pad(mask, (0, T), value=True)[:, None, None]
    alive = torch.arange(N, device=device)  # the completions that are still being written, and the row of each
    row = torch.arange(B, device=device).repeat_interleave(group_size)
    for t in range(T):
        logits = head(h)
        token, log_probs[alive, t] = sample(logits, uniform[t, alive], temperature, row)
        tokens[alive, t], filled[alive, t] = token, True
        over = torch.isin(token, ends)
        if stop is not None and t:
            over |= stop[0][tokens[alive, t - 1]] & stop[1][token]
        alive, token, row = alive[~over], token[~over], row[~over]
        if t == T - 1 or not len(alive):
            break
        different, which = torch.unique(row * logits.shape[1] + token, return_inverse=True)  # texts, in the order of their rows
        parent, written = different // logits.shape[1], different % logits.shape[1]
        place = branch(parent)
        cache.copy(parent[place != parent], place[place != parent])
        row, order = place[which], place.argsort()
        position, keys = position[parent[order]], keys[parent[order]]
        h = model(input_ids=written[order][:, None], attention_mask=keys[..., : C + P + t + 1], position_ids=(position + t)[:, None],
                  past_key_values=cache, use_cache=True)[0][:, -1]
    return tokens, filled, log_probs


def branch(parent):
    """The rows of U texts, 0 to U - 1, given the rows (U,), in order, of the texts that they go on: few move, none onto a parent.

    The first text of each parent stays in its row where that is below U; the others fill the rows that nobody stays in.
    """
    first = F.pad(parent[1:] != parent[:-1], (1, 0), value=True)
    stays = first & (parent < len(parent))
    free = torch.ones(len(parent), dtype=torch.bool, device=parent.device)
    free[parent[stays]] = False
    place = parent.clone()
    place[~stays] = free.nonzero()[:, 0]
    return place


def rollout(policy, prompts, group_size=8, max_new_tokens=32, temperature=1.0, seed=0, max_rows=256, stop=None) -> Rollout:
    """Sample `group_size` completions of up to `max_new_tokens` tokens for each prompt.

    temperature 0 is greedy. The same seed gives the same completions. At most `max_rows` completions are written at a time.
    stop: two bool tensors (V,); besides the end of the turn, a completion ends where a token of the first is followed by one of
    the second, which it keeps.
    Raises ValueError for an empty prompt list, an empty prompt, a negative temperature, or a prompt that leaves no room in the context.
    """
    if isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"prompts must be a non-empty list of questions, got {prompts!r}")
    if temperature < 0 or group_size < 1 or max_new_tokens < 1:
        raise ValueError(f"need temperature >= 0, group_size >= 1 and max_new_tokens >= 1, "
                         f"got {temperature}, {group_size}, {max_new_tokens}")
    start = time.perf_counter()
    ids, mask = policy.encode(prompts)
    lengths = mask.sum(1).tolist()
    if min(lengths) == 0:
        raise ValueError(f"prompt {lengths.index(0)} has no tokens; expected at least one")
    limit = getattr(policy.model.config, "max_position_embeddings", None)
    if limit and ids.shape[1] + max_new_tokens > limit:
        raise ValueError(f"a prompt of {ids.shape[1]} tokens and {max_new_tokens} new ones exceed this model's context "
                         f"of {limit}; shorten the prompt or lower max_new_tokens")
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(prompts) * group_size, max_new_tokens, generator=generator).T.to(ids.device)
    step = max(1, max_rows // group_size)
    parts = []
    with packed(policy.model, min(len(prompts) * group_size, max_rows), max_new_tokens):
        for i in range(0, len(prompts), step):
            parts.append(_decode(policy, ids[i:i + step], mask[i:i + step], group_size,
                                 uniform[:, i * group_size:(i + step) * group_size], temperature, stop))
    tokens, filled, log_probs = (torch.cat(p) for p in zip(*parts))
    used = max(1, int(filled.any(0).sum()))
    texts = policy.tokenizer.batch_decode([row[keep] for row, keep in zip(tokens, filled)], skip_special_tokens=True)
    return Rollout(list(prompts), texts, ids, mask, tokens[:, :used], filled[:, :used], log_probs[:, :used], group_size,
                   time.perf_counter() - start)
