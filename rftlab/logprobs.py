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
        log_probs, entropy = h.new_empty(len(h), dtype=torch.float32), h.new_empty(len(h), dtype=torch.float32)
        need_grad = ctx.needs_input_grad[0]
        jacobian = torch.empty_like(h) if need_grad else None
        for rows in torch.arange(len(h), device=h.device).split(chunk):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            scores = F.linear(h[part], weight).float().div_(temperature)
            norm = scores.logsumexp(-1)
            log_probs[part] = scores.gather(-1, targets[part, None])[:, 0] - norm
            probs = (scores - norm[:, None]).exp_()
            entropy[part] = norm - torch.einsum("mv,mv->m", probs, scores)
            if need_grad:
                jacobian[part] = (weight[targets[part]] - probs.to(weight.dtype) @ weight) / temperature
        ctx.save_for_backward(jacobian)
        ctx.mark_non_differentiable(entropy)
        return log_probs, entropy

    @staticmethod
    def backward(ctx, grad, _):
        (jacobian,) = ctx.saved_tensors
        return grad.to(jacobian.dtype)[:, None] * jacobian, None, None, None, None


def head_log_probs(h, head, targets, temperature=1.0):
    """Log-probability of each target and entropy of each distribution.

    h: hidden states (M, H); head: the output layer (V, H); targets (M,). Returns float32 (M,), (M,).
    """
    if not (head.weight.requires_grad and torch.is_grad_enabled()) and getattr(head, "bias", None) is None:
        return _HeadLogProb.apply(h, head.weight, targets, temperature)
    log_all = (head(h).float() / temperature).log_softmax(-1)
    entropy = -(log_all.detach().exp() * log_all.detach()).sum(-1)
    return log_all.gather(-1, targets[:, None])[:, 0], entropy


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
    """log pi(completion token | what came before) and the entropy there, both float32 (B*G, T), zero where masked.

    prompt_ids, prompt_mask (B, P) padded on the left; completion_ids, completion_mask (B*G, T) padded on the right.
    Gradients flow into log_probs only.
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
    values, entropies = head_log_probs(h[rows, source[rows, columns]], model.get_output_embeddings(), targets, temperature)
    log_probs = torch.zeros(N, T, device=values.device).masked_scatter(completion_mask, values)
    return log_probs, torch.zeros(N, T, device=values.device).masked_scatter(completion_mask, entropies)
