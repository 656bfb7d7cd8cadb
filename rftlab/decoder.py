"""One forward pass of decoding: a few new tokens a row, each row at its own position, on a static cache.

At batch 1 the arithmetic of a small model takes less time than the Python around it. `LlamaDecoder` therefore reads the
weights of a Llama-architecture model directly: one product for query, key and value, one for gate and up, weights in the
processor's own layout, no masks or views that are not needed. Any other model goes through its own forward. Both give the
same hidden states up to rounding.
"""
import weakref

import torch
from torch import nn
from torch.nn import functional as F

from rftlab import attention, packing
from rftlab.lora import LoraLinear
from rftlab.static_cache import StaticCache

PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
               "mlp.down_proj")
_MADE = weakref.WeakKeyDictionary()  # model -> (marks of its weights, decoder)


def decoder_for(model):
    """The decoder of a causal LM. It is kept, and made anew when a weight has changed since.

    On a CPU a LlamaDecoder holds a second copy of the linear layers. A write through `weight.data` goes unnoticed; write
    under torch.no_grad(), as optimizers and `rftlab.lora` do.
    """
    linears = _llama_linears(model)
    if linears is None:
        return TransformersDecoder(model)
    layers = [m for block in linears for m in block] + [model.lm_head]
    tensors = [t for m in layers for t in (m.weight, _bias(m)) if t is not None]
    marks = [(t, t.detach(), t._version, t.data_ptr()) for t in tensors]
    kept = _MADE.get(model)
    if kept is None or any(a[0] is not b[0] or a[2:] != b[2:] for a, b in zip(kept[0], marks)):
        _MADE[model] = kept = (marks, LlamaDecoder(model, linears))
    return kept[1]


def is_lean(model) -> bool:
    """Whether decoder_for reads this model's weights directly."""
    return _llama_linears(model) is not None


def _llama_linears(model):
    """The seven linear layers of each block, or None where the model is not plainly Llama."""
    config = model.config
    if (type(model).__name__ != "LlamaForCausalLM" or config.hidden_act != "silu"
            or config.rope_parameters["rope_type"] in ("dynamic", "longrope")):
        return None
    linears = [[block.get_submodule(name) for name in PROJECTIONS] for block in model.model.layers]
    plain = all(type(m) is nn.Linear or type(m) is LoraLinear and m.merged is not None for layer in linears for m in layer)
    return linears if plain and type(model.lm_head) is nn.Linear else None


def _bias(layer):
    return (layer.base if isinstance(layer, LoraLinear) else layer).bias


def joined(layers):
    """A function x -> the outputs of several linear layers side by side, by one product on a CPU."""
    weights = [m.weight.detach() for m in layers]
    biases = [_bias(m) for m in layers]
    bias = None if biases[0] is None else torch.cat([b.detach() for b in biases])
    if weights[0].device.type != "cpu":  # there a second copy would be too dear
        sizes = [len(w) for w in weights]
        parts = [None] * len(sizes) if bias is None else bias.split(sizes)
        return lambda x: torch.cat([F.linear(x, w, b) for w, b in zip(weights, parts)], -1)
    weight = torch.cat(weights) if len(weights) > 1 else weights[0]
    if packing.supported(weight.dtype):
        weight = torch.ops.mkldnn._reorder_linear_weight(weight, 8)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return lambda x: F.linear(x, weight, bias)


class LlamaDecoder:
    """Hidden states and logits of a Llama-architecture model."""

    def __init__(self, model, linears):
        config, base = model.config, model.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.eps, self.dtype = config.rms_norm_eps, model.dtype
        self.blocks = [(block.input_layernorm.weight, joined(m[:3]), joined(m[3:4]), block.post_attention_layernorm.weight,
                        joined(m[4:6]), joined(m[6:])) for block, m in zip(base.layers, linears)]
        self.embedding, self.norm = base.embed_tokens, base.norm.weight
        self.logits, self.rotary, self.tables = joined([model.lm_head]), base.rotary_emb, None

    def new_cache(self, capacity: int) -> StaticCache:
        # on a CPU attention over a few queries is faster in float32, see rftlab.attention
        cpu = self.norm.device.type == "cpu"
        return StaticCache(len(self.blocks), capacity, torch.float32 if cpu else self.dtype)

    def hidden(self, tokens, cache, start):
        """The normed last hidden states (B, Q, H) of tokens (B, Q) at positions start (B,) and on, whose keys it writes."""
        cache.at(start, tokens.shape[1])
        cos, sin = (table[cache.positions][:, :, None] for table in self._turns(cache.capacity))
        mask = cache.mask(cache.dtype)
        if mask is not None:  # the query heads that share a key become further rows of it
            mask = mask.repeat(1, 1, self.heads // self.kv_heads, 1)
        x = self.embedding(tokens)
        for i, (first_norm, qkv, out, second_norm, gate_up, down) in enumerate(self.blocks):
            x = x + out(self._attend(qkv(self._normed(x, first_norm)), cos, sin, mask, cache, i))
            gate, up = gate_up(self._normed(x, second_norm)).chunk(2, -1)
            x = x + down(F.silu(gate) * up)
        return self._normed(x, self.norm)

    def _normed(self, x, weight):
        return weight * F.rms_norm(x, x.shape[-1:], None, self.eps)

    def _turns(self, capacity):
        """Cosines and signed sines (capacity, D): x cos + (x with its halves swapped) sin turns x by its position."""
        if self.tables is None or len(self.tables[0]) < capacity:
            places = torch.arange(capacity, device=self.norm.device)[None]
            cos, sin = (t[0] for t in self.rotary(self.norm, places))
            half = sin.shape[-1] // 2
            self.tables = cos, torch.cat([-sin[:, :half], sin[:, half:]], -1)
        return self.tables

    def _attend(self, qkv, cos, sin, mask, cache, layer):
        """Attention of (B, Q, (heads + 2 kv_heads) D) over the cache, which takes the new keys; (B, Q, heads D)."""
        (B, Q, _), K, G = qkv.shape, self.kv_heads, self.heads // self.kv_heads
        qkv = qkv.view(B, Q, self.heads + 2 * K, -1)
        turned = qkv[:, :, :-K]
        turned = turned * cos + turned.roll(turned.shape[-1] // 2, -1) * sin
        keys, values = cache.update(turned[:, :, self.heads:].transpose(1, 2), qkv[:, :, -K:].transpose(1, 2), layer)
        query = turned[:, :, :self.heads].view(B, Q, K, G, -1).permute(0, 2, 3, 1, 4).reshape(B, K, G * Q, -1)
        found = F.scaled_dot_product_attention(query.to(keys.dtype), keys, values, attn_mask=mask)
        return found.view(B, K, G, Q, -1).permute(0, 3, 1, 2, 4).reshape(B, Q, -1).to(qkv.dtype)


class TransformersDecoder:
    """The same for any causal LM of transformers, by its own forward.

    Raises ValueError for a model that does not keep its whole past (sliding windows shorter than the cache, recurrent layers).
    """

    def __init__(self, model):
        self.model, self.dtype, self.logits = model, model.dtype, model.get_output_embeddings()
        self.embedding = model.get_input_embeddings()

    def new_cache(self, capacity: int) -> StaticCache:
        config = self.model.config.get_text_config()
        window = getattr(config, "sliding_window", None) or capacity
        kinds = set(getattr(config, "layer_types", None) or (["sliding_attention"] if window < capacity else ["full_attention"]))
        if kinds - {"full_attention", "sliding_attention"} or window < capacity and "sliding_attention" in kinds:
            raise ValueError(f"{type(self.model).__name__} does not keep the keys of its whole past ({', '.join(sorted(kinds))}), so "
                             "drafts cannot be taken back; call generate without speculate")
        grouped = config._attn_implementation == attention.NAME and self.model.device.type == "cpu"
        return StaticCache(config.num_hidden_layers, capacity, torch.float32 if grouped else self.dtype)

    def hidden(self, tokens, cache, start):
        """As LlamaDecoder.hidden."""
        cache.at(start, tokens.shape[1])
        mask = cache.mask(cache.dtype)
        if mask is None:
            mask = torch.zeros(1, 1, 1, cache.end, dtype=cache.dtype, device=tokens.device)
        return self.model.base_model(input_ids=tokens, attention_mask=mask.expand(len(tokens), -1, -1, -1),
                                     position_ids=cache.positions, past_key_values=cache, use_cache=True)[0]
