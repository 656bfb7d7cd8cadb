"""A small draft model: the target's first layers, with its embedding and output head, distilled on the target's own answers.

It shares the target's tokenizer by construction. It has a cache of its own, which goes back in the same way as the target's.
"""
import copy

import torch
from torch import nn

from rftlab import lora
from rftlab.decoder import decoder_for
from rftlab.speculative import rule


def cut(model, layers: int):
    """A causal LM with the first `layers` blocks of `model`, copied; embedding and output head are shared, not copied.

    Adapters are folded into the copies. Raises ValueError for a model without a list of blocks, or with too few.
    """
    base = model.base_model
    blocks = getattr(base, "layers", None)
    if not isinstance(blocks, nn.ModuleList):
        raise ValueError(f"{type(model).__name__} keeps no list of blocks in base_model.layers; expected a model such as Llama or Qwen")
    if not 1 <= layers < len(blocks):
        raise ValueError(f"layers is {layers}; expected 1 to {len(blocks) - 1}, fewer than the target's {len(blocks)}")
    shared = {id(p): p for m in (model.get_input_embeddings(), model.get_output_embeddings()) for p in m.parameters()}
    base.layers = blocks[:layers]
    try:
        small = copy.deepcopy(model, memo=shared)
    finally:
        base.layers = blocks
    small.config.num_hidden_layers = layers
    if getattr(small.config, "layer_types", None):
        small.config.layer_types = small.config.layer_types[:layers]
    lora.fold(small, {name: m for name, m in small.named_modules() if isinstance(m, lora.LoraLinear)})
    return small


class DraftModel:
    """Drafts k tokens one after another: greedily, or at the temperature of the target's sampling."""

    kind = "draft"

    def __init__(self, model, k: int = 4):
        self.model, self.k = model, k

    @classmethod
    def of(cls, policy, layers: int, k: int = 4) -> "DraftModel":
        """Cut from the policy's first layers; untrained, it drafts poorly: see training.train_draft."""
        return cls(cut(policy.model, layers), k)

    @property
    def layers(self) -> int:
        return len(self.model.base_model.layers)

    def parameters(self) -> dict[str, torch.Tensor]:
        """What it does not share with the target, by name."""
        theirs = {id(p) for m in (self.model.get_input_embeddings(), self.model.get_output_embeddings()) for p in m.parameters()}
        return {name: p for name, p in self.model.named_parameters() if id(p) not in theirs}

    def begin(self, policy, text, capacity) -> None:
        """Read the prompts."""
        self.decoder = decoder_for(self.model)
        self.cache = self.decoder.new_cache(capacity)
        self.decoder.hidden(text.ids[:, : int(text.lengths.max())], self.cache, torch.zeros_like(text.lengths))

    def select(self, rows) -> None:
        self.cache.select(rows)

    def draft(self, text, count, sampling):
        """tokens (B, count), all real, and the probabilities (B, count, V) that they were drawn from when sampling."""
        # The last two tokens, since after a pass in which all drafts were kept it has not read the last of them; reading a
        # token again writes the same keys.
        start = text.lengths - 2
        tokens = text.ids.gather(1, start[:, None] + torch.arange(2, device=start.device))
        drafts, probs = [], []
        for i in range(count):
            logits = self.decoder.logits(self.decoder.hidden(tokens, self.cache, start)[:, -1])
            if sampling.temperature == 0:
                token = logits.max(-1).indices
            else:
                probs.append(rule.adjusted(logits, sampling.temperature, sampling.top_p))
                token = rule.draw(probs[-1], sampling.at(text.lengths[:, None] + i)[:, 0, 2])
            drafts.append(token)
            tokens, start = token[:, None], text.lengths + i
        counts = torch.full_like(text.lengths, count)
        return torch.stack(drafts, 1), counts, torch.stack(probs, 1) if probs else None
