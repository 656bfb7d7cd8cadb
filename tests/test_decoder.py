"""The lean forward pass: the same logits as transformers', and never those of weights that have changed since."""
import pytest
import torch

from rftlab import attention, decoder, lora
from rftlab.static_cache import StaticCache
from toy_model import V, toy_policy

ROWS = [[2, 3, 4, 5, 6, 2], [3], [4, 4, 6]]


def logits_by(found, rows, more):
    """Logits (B, n, V) after each of `more` (B, n) further tokens, fed in two parts on a cache that held other things in between."""
    lengths = torch.tensor([len(r) for r in rows])
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for place, row in zip(ids, rows):
        place[: len(row)] = torch.tensor(row)
    cache = found.new_cache(16)
    with torch.no_grad():
        found.hidden(ids, cache, torch.zeros_like(lengths))
        found.hidden(torch.full_like(more, 5), cache, lengths)  # drafts that are refused
        first = found.hidden(more[:, :1], cache, lengths)
        return found.logits(torch.cat([first, found.hidden(more[:, 1:], cache, lengths + 1)], 1))


def logits_by_transformers(model, rows, more):
    with torch.no_grad():
        return torch.stack([model(input_ids=torch.tensor([[*row, *new.tolist()]])).logits[0, -len(new):] for row, new in zip(rows, more)])


def check(policy, kind, rows=ROWS):
    more = torch.randint(2, V, (len(rows), 3), generator=torch.Generator().manual_seed(0))
    found = decoder.decoder_for(policy.model)
    assert type(found) is kind
    assert torch.allclose(logits_by(found, rows, more), logits_by_transformers(policy.model, rows, more), atol=2e-4)


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[1:2]])
@pytest.mark.parametrize("config", [
    {}, {"attention_bias": True, "mlp_bias": True}, {"tie_word_embeddings": False}, {"num_key_value_heads": 4}, {"num_key_value_heads": 1, "head_dim": 8},
    {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8}}], ids=str)
def test_llama(config, rows):
    check(toy_policy(1, **config), decoder.LlamaDecoder, rows)


@pytest.mark.parametrize("implementation", [attention.NAME, "sdpa", "eager"])
def test_other_architectures_go_through_their_own_forward(implementation):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    policy = toy_policy(1)
    policy.model = Qwen3ForCausalLM(Qwen3Config(**{**policy.model.config.to_dict(), "model_type": "qwen3", "architectures": None})).eval()
    policy.model.set_attn_implementation(implementation)
    check(policy, decoder.TransformersDecoder)


def test_a_model_that_forgets_is_refused():
    from transformers import MistralConfig, MistralForCausalLM

    model = MistralForCausalLM(MistralConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                                             num_key_value_heads=1, vocab_size=V, sliding_window=4))
    with pytest.raises(ValueError, match="call generate without speculate"):
        decoder.decoder_for(model).new_cache(16)


def test_a_changed_weight_is_noticed():
    policy = toy_policy(1)
    check(policy, decoder.LlamaDecoder)
    kept = decoder.decoder_for(policy.model)
    assert decoder.decoder_for(policy.model) is kept
    torch.optim.SGD(policy.model.parameters(), lr=1.0).step()  # no gradients: nothing changed
    assert decoder.decoder_for(policy.model) is kept
    policy.adapters = lora.attach(policy.model, lora.LoraSpec(rank=2, alpha=4))
    check(policy, decoder.LlamaDecoder)
    for adapter in policy.adapters.values():
        adapter.B.data.normal_()
    policy.after_step()
    check(policy, decoder.LlamaDecoder)
    lora.unmerge(policy.adapters)
    check(policy, decoder.TransformersDecoder)
    lora.merge(policy.adapters)
    with lora.base_weights(policy.adapters):
        check(policy, decoder.LlamaDecoder)
    lora.fold(policy.model, policy.adapters)
    check(policy, decoder.LlamaDecoder)
    with torch.no_grad():
        policy.model.model.embed_tokens.weight.mul_(2)
        policy.model.model.norm.weight.mul_(2)
    check(policy, decoder.LlamaDecoder)


def test_a_changed_head_or_bias_is_noticed():
    """In bfloat16 the head is a packed copy of its own; joined biases are copies in any format."""
    policy = toy_policy(1, tie_word_embeddings=False)
    policy.model.bfloat16()
    hidden = torch.randn(1, 16, dtype=torch.bfloat16)
    with torch.no_grad():
        before = decoder.decoder_for(policy.model).logits(hidden)
        policy.model.lm_head.weight.mul_(-1)
        assert torch.equal(decoder.decoder_for(policy.model).logits(hidden), -before)
    policy = toy_policy(1, attention_bias=True)
    check(policy, decoder.LlamaDecoder)
    with torch.no_grad():
        policy.model.model.layers[0].self_attn.v_proj.bias.normal_()
    check(policy, decoder.LlamaDecoder)


def test_the_cache_says_when_it_is_full():
    cache = StaticCache(1, 8, torch.float32)
    with pytest.raises(ValueError, match="4 tokens at position 5 do not fit a cache of 8"):
        cache.at(torch.tensor([2, 5]), 4)


def test_the_cache_is_allocated_once():
    """What the layers hold is the same memory before and after drafts are written and taken back."""
    found = decoder.decoder_for(toy_policy(1).model)
    cache = found.new_cache(12)
    with torch.no_grad():
        found.hidden(torch.tensor([[2, 3, 4]]), cache, torch.tensor([0]))
        before = [layer.keys.data_ptr() for layer in cache.layers]
        for start in (3, 4, 6, 5):
            found.hidden(torch.tensor([[2, 3, 4]]), cache, torch.tensor([start]))
    assert [layer.keys.data_ptr() for layer in cache.layers] == before
