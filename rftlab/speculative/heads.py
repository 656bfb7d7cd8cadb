"""Turbo: extra heads on the target's last hidden state guess the tokens after the next one. No second model, no second cache.

Medusa (Cai et al. 2024, arXiv 2401.10774) as LoRAX serves it: head j turns the hidden state h by one residual layer and reads it
with the model's own output head, h_j = h + silu(W_j h). Deviations, each of which can be switched off:
- chained: a head also sees the token drafted before it (Ankner et al. 2024, Hydra, arXiv 2402.05109),
  h_j = h_(j-1) + silu(W_j h_(j-1) + U_j e), with e its embedding. Medusa's heads do not know which tokens they follow.
- vocabulary: the output head is read at the tokens that the training texts hold only (Zhao et al. 2025, FR-Spec, arXiv
  2502.14856). A narrow task uses few tokens, and a full head costs as much as several layers. Other tokens are never drafted.
Neither touches what is accepted: that is exact match with, or the sampling rule of, the full model. (Medusa's own "typical
acceptance" is not lossless and is not here.)
"""
import torch
from torch import nn
from torch.nn import functional as F


class Heads(nn.Module):
    """`most` heads for hidden states of `width`; k: how many are used. All weights start at 0: each head then says again what
    the model's own head says."""

    kind = "turbo"

    def __init__(self, width: int, most: int = 4, chained: bool = True, vocabulary=None):
        super().__init__()
        if most < 1:
            raise ValueError(f"most is {most}; expected at least one head")
        self.k = self.most = most
        self.W = nn.Parameter(torch.zeros(most, width, width))
        self.U = nn.Parameter(torch.zeros(most, width, width)) if chained else None
        self.register_buffer("vocabulary", None if vocabulary is None else torch.as_tensor(vocabulary, dtype=torch.long))

    @property
    def chained(self) -> bool:
        return self.U is not None

    def step(self, j: int, state, embedded):
        """The state that head j reads: state and the embedding of the last token (..., width), both as the head before left them."""
        x = F.linear(state, self.W[j])
        if self.chained:
            x = x + F.linear(F.rms_norm(embedded, embedded.shape[-1:]), self.U[j])
        return state + F.silu(x)

    def states(self, hidden, embedded):
        """States (..., most, width) of all heads where the tokens are known: hidden (..., width); embedded (..., most, width),
        of the token that each head follows."""
        found, state = [], hidden
        for j in range(self.most):
            after = self.step(j, state if self.chained else hidden, embedded[..., j, :])
            found.append(after)
            state = after
        return torch.stack(found, -2)

    def begin(self, policy, text, capacity) -> None:
        """Take the rows of the output head that are read, in the policy's own number format."""
        head, dtype = policy.model.get_output_embeddings(), policy.model.dtype
        rows = slice(None) if self.vocabulary is None else self.vocabulary
        # in a tuple, since a module that is set as an attribute becomes a part of this one
        self._ready = (self if self.W.dtype == dtype else self._copy(dtype), policy.model.get_input_embeddings(),
                       head.weight.detach()[rows], None if head.bias is None else head.bias.detach()[rows])

    def _copy(self, dtype) -> "Heads":
        copy = Heads(self.W.shape[1], 1, self.chained, self.vocabulary)
        copy.W = nn.Parameter(self.W.detach().to(dtype), requires_grad=False)
        copy.U = nn.Parameter(self.U.detach().to(dtype), requires_grad=False) if self.chained else None
        return copy

    def select(self, rows) -> None:
        """Nothing is kept for a row."""

    @torch.no_grad()
    def draft(self, text, count, sampling):
        """tokens (B, count), all real; chosen, not drawn, so without probabilities."""
        heads, embedding, weight, bias = self._ready
        state = text.hidden
        token, drafts = text.ids.gather(1, text.lengths[:, None] - 1)[:, 0], []
        for j in range(count):
            after = heads.step(j, state if heads.chained else text.hidden, embedding(token))
            token = F.linear(after, weight, bias).max(-1).indices
            if self.vocabulary is not None:
                token = self.vocabulary[token]
            drafts.append(token)
            state = after
        return torch.stack(drafts, 1), torch.full_like(text.lengths, count), None
