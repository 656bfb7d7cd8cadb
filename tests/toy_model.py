"""A Llama of a few thousand weights, random but opinionated, whose prompts are lists of token ids: for exact distributions."""
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from rftlab.models import Policy

V, PAD, END = 7, 0, 1


@dataclass
class ToyPolicy(Policy):
    """Prompts are lists of ids."""

    def encode(self, prompts):
        width = max(map(len, prompts))
        ids = torch.tensor([[PAD] * (width - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        return ids, mask


def toy_policy(seed=0, layers=2, **config):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
                "vocab_size": V, "initializer_range": 0.7, "max_position_embeddings": 64, "tie_word_embeddings": True, **config}
    model = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    with torch.no_grad():
        model.lm_head.weight *= 0.5
    model.generation_config.eos_token_id = END
    tokenizer = SimpleNamespace(pad_token_id=PAD, eos_token_id=END, get_vocab=lambda: {str(i): i for i in range(V)},
                                batch_decode=lambda rows, **_: [" ".join(map(str, row)) for row in rows])
    return ToyPolicy("toy", model, tokenizer)
