"""The gate of Llama's feed-forward block: silu(x) times y."""

import torch

FAMILY = "activation"
SHAPES = [[(300,), (300,)], [(1,), (1,)], [(7, 33), (7, 33)], [(129,), (129,)]]
STRIDED = (2,)


def swiglu(x, y):
    return torch.nn.functional.silu(x) * y
