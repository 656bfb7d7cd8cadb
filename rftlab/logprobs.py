"""Log-probabilities of completions under a policy: what prompts and completions have in common computed once, the head only
where a token was sampled.

The completions follow their prompt in one packed row, as a tree: where two agree from the start, they are the same tokens of
the row. A mask lets each token see the prompt and what came before it in its own completion. This is exact, because a token's
keys depend on nothing else, and it computes P tokens and those of the tree in place of G (P + T). Where all prompts begin
alike, as those of a chat template do, the keys of that beginning are computed for one row and lent to all.
"""
import torch
from torch.nn import functional as F
from transformers import DynamicCache

SHORTEST = 16  # tokens that prompts must share to get a pass of their own: a chat template has more, the prompts of `tiny` fewer


class _HeadLogProb(torch.autograd.Function):
    """log softmax(h W^T / temperature)[target] for a frozen head W.

    The gradient with respect to h is W[target] - p W, which needs no logits: it is formed in the forward pass, `chunk` rows
    at a time, so that the (M, V) logits never exist at once.
    """

    @staticmethod
    def forward(ctx, h, weight, targets, temperature, chunk=128):
        log_probs = h.new_empty(len(h), dtype=torch.float32)
        jacobian = torch.empty_like(h) if ctx.needs_input_grad[0] else None
        for start in range(0, len(h), chunk):
            part = slice(start, start + chunk)
            scores = F.linear(h[part], weight)
            if temperature != 1:
                scores = scores.float() / temperature
            probs = torch.softmax(scores, -1, dtype=torch.float32)
            # log p by way of the likeliest token: the target's own p may be too small for float32, and logsumexp is slow
            top, place = probs.max(-1, keepdim=True)
            target = targets[part, None]
            log_probs[part] = (scores.gather(-1, target).float() - scores.gather(-1, place).float() + top.log())[:, 0]
            if jacobian is not None:
                jacobian[part] = (weight[targets[part]] - probs.to(weight.dtype) @ weight) / temperature
        ctx.save_for_backward(jacobian)
        return log_probs

    @staticmethod
    def backward(ctx, grad):
        (jacobian,) = ctx.saved_tensors
        return grad.to(jacobian.dtype)[:, None] * jacobian, None, None, None, None


def head_log_probs(h, head, targets, temperature=1.0):
    """Log-probability of each target under the output layer.

    h: hidden states (M, H); head: the output layer (V, H); targets (M,). Returns float32 (M,).
    """
    if not (head.weight.requires_grad and torch.is_grad_enabled()) and getattr(head, "bias", None) is None:
        return _HeadLogProb.apply(h, head.weight, targets, temperature)
    return (head(h).float() / temperature).log_softmax(-1).gather(-1, targets[:, None])[:, 0]


def shared_beginning(ids, mask):
    """Take off what all prompts begin with: (beginning (1, C), ids (B, P-C), mask (B, P-C)), of prompts (B, P) padded on the left.

    C is 0 for a single prompt and where they share fewer than SHORTEST tokens. Each prompt keeps one token at least.
    """
    (B, P), lengths = ids.shape, mask.sum(1)
    columns = torch.arange(P, device=ids.device)
    texts = ids.gather(1, (columns + P - lengths[:, None]).clamp(max=P - 1))  # padded on the right
    alike = (texts == texts[:1]).all(0) & (columns < lengths.min() - 1)
    C = int(alike.cumprod(0, dtype=torch.uint8).sum())
    if B == 1 or C < SHORTEST:
        C = 0
    return texts[:1, :C], ids[:, C:], mask[:, :P - C]


def pack(prompt_ids, prompt_mask, completion_ids, completion_mask, group_size):
    """Lay each prompt and the tree of its completions out in one row.

    prompt_ids, prompt_mask (B, P), padded on the left; completion_ids, completion_mask (B*G, T), padded on the right.
    Returns input_ids (B, P+L), position_ids (B, P+L), attention_mask bool (B, 1, P+L, P+L), source (B, G, T): the column whose
    hidden state predicts that completion token, and owner (B, G, T): the first sibling that agrees up to and with that token.
    A token that nothing follows predicts nothing and stays out.
    """
    (B, P), T = prompt_ids.shape, completion_ids.shape[1]
    ids, mask = completion_ids.reshape(B, group_size, T), completion_mask.reshape(B, group_size, T)
    owner = first_alike(ids, mask)
    followed = torch.zeros_like(ids).scatter_add(1, owner[:, :, :-1], mask[:, :, 1:].long())  # by how many siblings
    fed = (followed > 0).reshape(B, -1)
    slot = fed.long().cumsum(1) - 1
    L = int(fed.sum(1).max()) if fed.numel() else 0
    rows, columns = fed.nonzero(as_tuple=True)
    place = (rows, slot[rows, columns])

    row_ids, sibling, depth = (prompt_ids.new_zeros(B, L) for _ in range(3))
    row_ids[place], sibling[place], depth[place] = ids.reshape(B, -1)[rows, columns], columns // T, columns % T
    prompt_positions = (prompt_mask.long().cumsum(1) - 1).clamp(min=0)
    positions = torch.cat([prompt_positions, prompt_mask.long().sum(1, keepdim=True) + depth], 1)

    before = owner[torch.arange(B, device=ids.device)[:, None], sibling]  # (B, L, T): whose tokens the text up to a token is
    visible = torch.eye(P + L, dtype=torch.bool, device=ids.device) | F.pad(prompt_mask.bool(), (0, L))[:, None]
    visible[:, P:, P:] |= before.gather(2, depth[:, None].expand(B, L, L)) == sibling[:, None]
    attention = visible & torch.ones(P + L, P + L, dtype=torch.bool, device=ids.device).tril()
    source = torch.full_like(ids, P - 1)
    source[:, :, 1:] = P + slot.view(ids.shape).gather(1, owner)[:, :, :-1]
    return torch.cat([prompt_ids, row_ids], 1), positions, attention[:, None], source, owner


def _hidden(model, beginning, ids, positions, attention):
    """Hidden states (B, S, H) of rows (B, S) that all go on from `beginning` (1, C); attention (B, 1, S, S) among themselves."""
    C = beginning.shape[1]
    if not C:
        return model(input_ids=ids, attention_mask=attention, position_ids=positions, use_cache=False)[0]
    cache, causal = DynamicCache(), torch.ones(1, 1, C, C, dtype=torch.bool, device=ids.device).tril()
    model(input_ids=beginning, attention_mask=causal, position_ids=torch.arange(C, device=ids.device)[None], past_key_values=cache,
          use_cache=True)
    cache.batch_repeat_interleave(len(ids))
    return model(input_ids=ids, attention_mask=F.pad(attention, (C, 0), value=True), position_ids=positions + C, past_key_values=cache,
                 use_cache=True)[0]


def first_alike(ids, mask):
    """(B, G, T): the first sibling whose completion is the same up to and with that token; itself where masked. ids, mask (B, G, T)."""
    same = (ids[:, :, None] == ids[:, None]) & mask[:, :, None] & mask[:, None]
    same |= torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)[..., None]
    return same.cumprod(-1, dtype=torch.uint8).argmax(2)  # the first of equals


def completion_log_probs(model, prompt_ids, prompt_mask, completion_ids, completion_mask, temperature=1.0):
    """log pi(completion token | what came before), float32 (B*G, T), zero where masked.

    prompt_ids, prompt_mask (B, P) padded on the left; completion_ids, completion_mask (B*G, T) padded on the right.
    """
    B, (N, T) = len(prompt_ids), completion_ids.shape
    if N % B:
        raise ValueError(f"{N} completions cannot be shared out evenly over {B} prompts")
    completion_mask = completion_mask.bool()
    used = int(completion_mask.any(0).sum())
    beginning, prompt_ids, prompt_mask = shared_beginning(prompt_ids, prompt_mask)
    ids, positions, attention, source, owner = pack(
        prompt_ids, prompt_mask, completion_ids[:, :used], completion_mask[:, :used], N // B)
    h = _hidden(model.base_model, beginning, ids, positions, attention)
    mask, targets = completion_mask[:, :used].reshape(owner.shape), completion_ids[:, :used].reshape(owner.shape)
    own = mask & (owner == torch.arange(N // B, device=owner.device)[:, None])  # one of each token that siblings share
    # index_select, not h[...]: several tokens follow the prompt's last column, and the gradient of advanced indexing adds them
    # up in whatever order the threads come
    predicting = h.flatten(0, 1).index_select(0, own.nonzero()[:, 0] * h.shape[1] + source[own])
    values = head_log_probs(predicting, model.get_output_embeddings(), targets[own], temperature)
    which = (own.flatten().cumsum(0) - 1).view_as(owner).gather(1, owner)[mask]
    return torch.zeros(N, T, device=values.device).masked_scatter(completion_mask, values.index_select(0, which))
