"""Log-probabilities of completions under a policy: the prompt computed once for its G completions, the head only where a
token was sampled.

The G completions of a prompt follow it in one packed row, and a mask keeps each from seeing its siblings. This is exact,
because a completion's keys do not depend on its siblings', and it computes P + sum(T_i) tokens in place of G (P + T).
"""
import torch
from torch.nn import functional as F


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


def pack(prompt_ids, prompt_mask, completion_ids, completion_mask, group_size):
    """Lay each prompt and its completions out in one row.

    prompt_ids, prompt_mask (B, P), padded on the left; completion_ids, completion_mask (B*G, T), padded on the right.
    Returns input_ids (B, P+L), position_ids (B, P+L), attention_mask bool (B, 1, P+L, P+L), and source (B, G*T): the column
    whose hidden state predicts that completion token. The last token of a completion predicts nothing and stays out.
    """
    (B, P), T = prompt_ids.shape, completion_ids.shape[1]
    mask = completion_mask.reshape(B, group_size, T)
    fed = torch.cat([mask[:, :, 1:], torch.zeros_like(mask[:, :, :1])], 2).view(B, -1)
    slot = fed.long().cumsum(1) - 1
    L = int(fed.sum(1).max()) if fed.numel() else 0
    rows, columns = fed.nonzero(as_tuple=True)
    place = (rows, slot[rows, columns])

    ids = prompt_ids.new_zeros(B, L)
    ids[place] = completion_ids.reshape(B, -1)[rows, columns]
    owner = torch.full((B, L), -1, device=ids.device)
    owner[place] = columns // T
    lengths = prompt_mask.long().sum(1)
    positions = torch.zeros_like(ids)
    positions[place] = lengths[rows] + columns % T

    prompt_positions = (prompt_mask.long().cumsum(1) - 1).clamp(min=0)
    prompt = prompt_mask.bool()
    column_owner = torch.cat([torch.where(prompt, -2, -3), owner], 1)  # -2 prompt, -3 padding, -1 unused, else completion
    visible = (column_owner[:, None, :] == -2) | (column_owner[:, None, :] == column_owner[:, :, None])
    attention = visible & torch.ones(P + L, P + L, dtype=torch.bool, device=ids.device).tril()
    source = torch.full((B, group_size, T), P - 1, device=ids.device)
    source[:, :, 1:] = P + slot.view(B, group_size, T)[:, :, :-1]
    return (torch.cat([prompt_ids, ids], 1), torch.cat([prompt_positions, positions], 1), attention[:, None],
            source.view(B, -1))


def completion_log_probs(model, prompt_ids, prompt_mask, completion_ids, completion_mask, temperature=1.0):
    """log pi(completion token | what came before), float32 (B*G, T), zero where masked.

    prompt_ids, prompt_mask (B, P) padded on the left; completion_ids, completion_mask (B*G, T) padded on the right.
    """
    B, (N, T) = len(prompt_ids), completion_ids.shape
    if N % B:
        raise ValueError(f"{N} completions cannot be shared out evenly over {B} prompts")
    completion_mask = completion_mask.bool()
    used = int(completion_mask.any(0).sum())
    ids, positions, attention, source = pack(
        prompt_ids, prompt_mask, completion_ids[:, :used], completion_mask[:, :used], N // B)
    h = model.base_model(input_ids=ids, attention_mask=attention, position_ids=positions, use_cache=False)[0]
    rows, columns = completion_mask[:, :used].reshape(B, -1).nonzero(as_tuple=True)
    targets = completion_ids[:, :used].reshape(B, -1)[rows, columns]
    # index_select, not h[...]: several tokens share the prompt's last column, and the gradient of advanced indexing adds them
    # up in whatever order the threads come
    predicting = h.flatten(0, 1).index_select(0, rows * h.shape[1] + source[rows, columns])
    values = head_log_probs(predicting, model.get_output_embeddings(), targets, temperature)
    return torch.zeros(N, T, device=values.device).masked_scatter(completion_mask, values)
