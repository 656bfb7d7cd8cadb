"""Weights in the processor's own layout while a rollout decodes.

oneDNN copies a 16-bit weight into blocks before it multiplies, anew at every call. With few rows that copy costs a third of
the product. Here it is made once for a whole rollout; it pays when enough tokens follow.
"""
from contextlib import contextmanager

import torch
from torch import nn

from rftlab.lora import LoraLinear

WORTH = 32  # new tokens from which packing once is cheaper than not packing


@contextmanager
def packed(model: nn.Module, rows: int, new_tokens: int):
    """Inside this context every linear layer of `model` multiplies by a packed copy of its weight (16-bit on a CPU only).

    rows: how many rows each product will have. No gradients flow, and a weight that changes inside is not noticed.
    """
    layers = []
    if new_tokens >= WORTH and supported(model.dtype):
        layers = [m for m in model.modules() if isinstance(m, (nn.Linear, LoraLinear)) and _fits(m)]
    try:
        for layer in layers:
            layer.forward = _Packed(layer, rows)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def supported(dtype) -> bool:
    """Whether this processor and this torch can multiply by packed weights of that type."""
    ask = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}.get(dtype)
    return bool(ask) and hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and getattr(torch.ops.mkldnn, ask)()


def _fits(layer) -> bool:
    merged = not isinstance(layer, LoraLinear) or layer.merged is not None
    return merged and layer.weight.device.type == "cpu" and layer.weight.dtype in (torch.bfloat16, torch.float16)


class _Packed:
    def __init__(self, layer, rows):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), rows)
        self.bias = layer.base.bias if isinstance(layer, LoraLinear) else layer.bias

    def __call__(self, x):
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
